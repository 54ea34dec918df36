import type {
  EngineApi,
  GenerateOptions,
  GeneratePart,
  GenerateRequest,
  LoadOptions,
  LoadProgress,
  ModelInfo,
  PromptMessage,
  ScoreRequest,
  ScoreResult,
  Usage,
} from './engine/types.ts';
import { KvasirError } from './errors.ts';

/** Options of one call of a model. */
export interface CallOptions extends GenerateOptions {
  signal?: AbortSignal;
}

/** A whole answer. */
export interface Answer {
  readonly text: string;
  readonly tokens: readonly number[];
  readonly finishReason: 'stop' | 'length';
  readonly usage: Usage;
}

/** A loaded model. Dispose of it when done: `await using model = await load('kvasir-mini')`, or `await model.dispose()`. */
export class Model implements AsyncDisposable {
  readonly info: ModelInfo;
  readonly #engine: EngineApi;
  readonly #owned: boolean;

  /** @param owned the engine was made for this model alone and goes with it */
  constructor(engine: EngineApi, info: ModelInfo, owned: boolean) {
    this.#engine = engine;
    this.#owned = owned;
    this.info = info;
  }

  /**
   * Answers a conversation, part by part. Leaving the loop stops the work.
   * @example for await (const part of model.chat([{ role: 'user', content: 'Hello!' }])) process.stdout.write(part.text)
   */
  chat(messages: readonly PromptMessage[], options: CallOptions = {}): AsyncIterable<GeneratePart> {
    const { signal, ...rest } = options;
    return this.#engine.generate({ ...rest, model: this.info.name, messages }, signal);
  }

  /** Continues a text, or token ids, part by part; `segments` names parts of it (docs/segments.md). */
  generate(
    prompt: string | readonly number[],
    options: CallOptions & Pick<GenerateRequest, 'segments'> = {},
  ): AsyncIterable<GeneratePart> {
    const { signal, ...rest } = options;
    const input = typeof prompt === 'string' ? { text: prompt } : { tokens: prompt };
    return this.#engine.generate({ ...rest, ...input, model: this.info.name }, signal);
  }

  /** Forced decoding: log-probability (natural) of each token of `continuation` after `prompt`. */
  score(
    prompt: ScoreRequest['prompt'],
    continuation: ScoreRequest['continuation'] = '',
    options: Pick<ScoreRequest, 'top' | 'cache' | 'kv' | 'prefill'> & { signal?: AbortSignal } = {},
  ): Promise<ScoreResult> {
    const { signal, ...rest } = options;
    return this.#engine.score({ ...rest, model: this.info.name, prompt, continuation }, signal);
  }

  /** A conversation whose cache is kept between turns: only what is new is run. */
  async session(options: { system?: string } = {}): Promise<ChatSession> {
    const id = await this.#engine.openSession(this.info.name);
    return new ChatSession(this.#engine, this.info.name, id, options.system);
  }

  tokenize(text: string): Promise<number[]> {
    return this.#engine.tokenize(this.info.name, text);
  }

  detokenize(ids: readonly number[]): Promise<string> {
    return this.#engine.detokenize(this.info.name, ids);
  }

  async dispose(): Promise<void> {
    if (this.#owned) await this.#engine.dispose();
    else await this.#engine.unload(this.info.name);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }

  /** For `using`: frees without waiting. */
  [Symbol.dispose](): void {
    this.dispose().catch(() => {});
  }
}

/** A conversation: remembers its messages, keeps their cache. */
export class ChatSession implements AsyncDisposable {
  readonly messages: PromptMessage[] = [];
  readonly #engine: EngineApi;
  readonly #model: string;
  readonly #id: string;

  constructor(engine: EngineApi, model: string, id: string, system?: string) {
    this.#engine = engine;
    this.#model = model;
    this.#id = id;
    if (system !== undefined) this.messages.push({ role: 'system', content: system });
  }

  /** Says something and streams the answer. Message and answer (also one cut short) join the conversation. */
  async *say(content: PromptMessage['content'], options: CallOptions = {}): AsyncGenerator<GeneratePart> {
    const { signal, ...rest } = options;
    const messages = [...this.messages, { role: 'user', content }];
    let text = '';
    let begun = false;
    try {
      for await (const part of this.#engine.generate(
        { ...rest, model: this.#model, messages, session: this.#id },
        signal,
      )) {
        begun = true;
        text += part.text;
        yield part;
      }
    } finally {
      if (begun) this.messages.push({ role: 'user', content }, { role: 'assistant', content: text });
    }
  }

  /** Forgets the conversation but for the system message; the cache is cut back at the next turn. */
  reset(): void {
    this.messages.length = this.messages[0]?.role === 'system' ? 1 : 0;
  }

  close(): Promise<void> {
    return this.#engine.closeSession(this.#id);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Reads a stream to its end: the answer with index 0 as one text. Raises what the stream raises. */
export async function collect(parts: AsyncIterable<GeneratePart>): Promise<Answer> {
  let text = '';
  const tokens: number[] = [];
  let finishReason: Answer['finishReason'] | undefined;
  let usage: Usage | undefined;
  for await (const part of parts) {
    if (part.usage) usage = part.usage;
    if (part.index !== 0) continue;
    text += part.text;
    tokens.push(...part.tokens);
    finishReason ??= part.finishReason;
  }
  if (!finishReason || !usage) throw new KvasirError('backend_failed', 'the stream ended before the answer did');
  return { text, tokens, finishReason, usage };
}

export type LoadSettings = Omit<LoadOptions, 'name' | 'path'> & {
  name?: string;
  /** Shares an engine with other models; without it the model gets one of its own, in a thread. */
  engine?: EngineApi;
  onProgress?: (progress: LoadProgress) => void;
};
