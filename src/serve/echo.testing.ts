import { plainMessage } from '../engine/chat-segments.ts';
import type { EngineApi, GeneratePart, GenerateRequest, ModelInfo, TokenLogprob } from '../engine/types.ts';
import { KvasirError } from '../errors.ts';
import { formatRecipe, parseRecipe } from '../methods/recipe.ts';
import type { Catalogue } from '../model/catalogue.ts';

/**
 * An engine without a model, for tests of the protocol alone: its answer is the prompt's words back to front, one token a
 * word, so that a test can provoke delays, refusals and aborts that a model gives only by chance.
 */
export class EchoEngine implements EngineApi {
  /** Milliseconds a token takes. */
  tokenMs = 0;
  /** Tokens after which `failure` is raised. */
  failAfter = Number.POSITIVE_INFINITY;
  failure: unknown = new KvasirError('backend_failed', 'the backend broke');
  context = 64;
  loadMs = 0;
  loads = 0;
  readonly seen: GenerateRequest[] = [];
  /** Parts handed out so far, over all requests. */
  produced = 0;
  running = 0;
  aborted = 0;
  readonly #models = new Map<string, ModelInfo>();

  async load(
    options: { name: string; path: string },
    onProgress?: (progress: { fraction: number; what: string }) => void,
  ): Promise<ModelInfo> {
    this.loads++;
    if (options.path.endsWith('broken.gguf')) {
      throw new KvasirError('bad_model_file', 'broken.gguf: wrong magic', { field: 'path' });
    }
    for (const fraction of [0.25, 0.5, 0.75]) {
      onProgress?.({ fraction, what: 'weights' });
      await sleep(this.loadMs / 3);
    }
    const info: ModelInfo = {
      name: options.name,
      source: options.path,
      architecture: 'llama',
      parameters: 1000,
      context: this.context,
      layers: 1,
      hidden: 8,
      heads: 1,
      kvHeads: 1,
      headDim: 8,
      vocab: 1000,
      hasChatTemplate: true,
      mode: 'fast',
      provider: 'none',
      cache: 'f32',
      recipe: 'full',
      weightBytes: 4000,
      kvBytesPerToken: { f32: 64, f16: 32, int8: 18 },
      fingerprint: '0123456789abcdef0123456789abcdef',
      loadMs: this.loadMs,
    };
    this.#models.set(options.name, info);
    return info;
  }

  async unload(model: string): Promise<void> {
    this.#models.delete(model);
  }

  async models(): Promise<ModelInfo[]> {
    return [...this.#models.values()];
  }

  async *generate(request: GenerateRequest, signal?: AbortSignal): AsyncGenerator<GeneratePart> {
    this.seen.push(request);
    const prompt = words(request);
    if (prompt.length >= this.context) {
      throw new KvasirError(
        'context_length_exceeded',
        `The prompt has ${prompt.length} tokens; the context of ${request.model} is ${this.context}.`,
        {
          field: request.messages ? 'messages' : 'prompt',
          value: prompt.length,
          allowed: `at most ${this.context - 1}`,
        },
      );
    }
    const answers = request.n ?? 1;
    const reply = prompt.toReversed().slice(0, request.maxTokens);
    const max = request.ignoreEnd ? (request.maxTokens ?? 1_000_000) : reply.length;
    this.running++;
    const start = performance.now();
    try {
      for (let i = 0; i < max; i++) {
        await sleep(this.tokenMs, signal);
        if (i >= this.failAfter) throw this.failure;
        const text = `${i === 0 ? '' : ' '}${reply[i % reply.length]}`;
        for (let index = 0; index < answers; index++) {
          const last = i === max - 1;
          this.produced++;
          yield {
            index,
            text,
            tokens: [i],
            ...(request.logprobs !== undefined && { logprobs: [logprob(i, text, request.logprobs)] }),
            ...(last && { finishReason: reply.length < prompt.length ? 'length' : 'stop' }),
            ...(last && index === answers - 1 && { usage: this.#usage(request, prompt.length, max * answers, start) }),
          };
        }
      }
    } finally {
      this.running--;
      if (signal?.aborted) this.aborted++;
    }
  }

  #usage(request: GenerateRequest, promptTokens: number, completionTokens: number, start: number) {
    const decodeMs = performance.now() - start;
    return {
      promptTokens,
      cachedTokens: 0,
      completionTokens,
      timings: {
        queueMs: 0,
        prefillMs: 1,
        firstTokenMs: 1,
        decodeMs,
        prefillTokensPerSecond: promptTokens * 1000,
        decodeTokensPerSecond: (completionTokens / Math.max(decodeMs, 1e-3)) * 1000,
      },
      cache: {
        format: request.cache ?? ('f32' as const),
        recipe: formatRecipe(parseRecipe(request.kv)),
        kept: promptTokens + completionTokens,
        bytes: 64 * promptTokens,
        items: {
          exact: 64 * promptTokens,
          encoded: 0,
          joint: 0,
          columns: 0,
          positions: 0,
          references: 0,
          shared: 0,
          states: 0,
          tables: 0,
        },
        parked: 0,
        peak: 64 * (promptTokens + completionTokens),
      },
    };
  }

  async score(): Promise<never> {
    throw new KvasirError('unsupported', 'score');
  }

  async tokenize(_model: string, input: Parameters<EngineApi['tokenize']>[1]): Promise<number[]> {
    const text = typeof input === 'string' ? input : input.map(message => plainMessage(message).content).join(' ');
    return split(text).map(word => word.length);
  }

  async detokenize(_model: string, ids: readonly number[]): Promise<string> {
    return ids.map(id => 'x'.repeat(id)).join(' ');
  }

  async openSession(): Promise<string> {
    return 'session';
  }

  async closeSession(): Promise<void> {}

  async stats(): ReturnType<EngineApi['stats']> {
    return {
      running: this.running,
      waiting: 0,
      models: [],
      cacheBytes: 0,
      cachePeak: 0,
      cacheLimit: 0,
      weightBytes: 0,
      memoryLimit: 0,
      sessions: 0,
      totals: { requests: this.seen.length, promptTokens: 0, completionTokens: this.produced },
    };
  }

  async dispose(): Promise<void> {}
}

/** `echo` loads, `broken` does not, others are not there. */
export const echoCatalogue: Catalogue = {
  async list() {
    return ['echo', 'broken'].map(name => ({
      name,
      path: `/nowhere/${name}.gguf`,
      kind: 'gguf' as const,
      bytes: 4000,
      bundled: name === 'echo',
      source: name,
    }));
  },
  async resolve(name) {
    const entry = (await this.list()).find(candidate => candidate.name === name);
    if (entry) return { name, path: entry.path };
    throw new KvasirError('model_not_found', `No model "${name}". There are: echo, broken.`, { value: name });
  },
};

function words(request: GenerateRequest): string[] {
  if (request.tokens) return request.tokens.map(String);
  return split(request.text ?? request.messages!.map(message => plainMessage(message).content).join(' '));
}

function split(text: string): string[] {
  return text.split(/\s+/).filter(Boolean);
}

function logprob(token: number, text: string, top: number): TokenLogprob {
  const bytes = [...new TextEncoder().encode(text)];
  const alternatives = [
    { token, text, bytes, logprob: -0.5 },
    { token: 999, text: '?', bytes: [63], logprob: Number.NEGATIVE_INFINITY },
  ];
  return { token, text, bytes, logprob: -0.5, top: alternatives.slice(0, top) };
}

async function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  const aborted = () => new KvasirError('aborted', 'The request was aborted.');
  if (signal?.aborted) throw aborted();
  await new Promise<void>((resolve, reject) => {
    const onAbort = () => {
      clearTimeout(timer);
      reject(aborted());
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    }, ms);
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}
