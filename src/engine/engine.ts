import { KvasirError } from '../errors.ts';
import { plainMessage } from './chat-segments.ts';
import type { LoadedModel } from './loaded-model.ts';
import { Models } from './models.ts';
import type { Platform } from './platform.ts';
import { readPrompt } from './prompt.ts';
import { Request } from './request.ts';
import { scoreTokens } from './score.ts';
import { Sessions } from './sessions.ts';
import type {
  EngineApi,
  EngineOptions,
  EngineStats,
  GeneratePart,
  GenerateRequest,
  LoadOptions,
  LoadProgress,
  ModelInfo,
  PromptMessage,
  ScoreRequest,
  ScoreResult,
} from './types.ts';
import { checkGenerate, checkLoad, checkScore } from './validate.ts';

const GiB = 2 ** 30;
/** What 32-bit WASM can address, less a margin for work space. */
const MOST_CACHE = 3 * GiB;

/** An engine in the caller's own thread. It computes in turns and lets events in between; see `createEngineThread` for one apart. */
export class Engine implements EngineApi {
  readonly #platform: Platform;
  readonly #options: Required<EngineOptions>;
  readonly #models: Models;
  readonly #sessions = new Sessions();
  #working = false;
  #disposed = false;
  /** Work that must not overlap a step: run between steps, in order. */
  readonly #between: (() => Promise<void>)[] = [];

  constructor(platform: Platform, options: EngineOptions = {}) {
    this.#platform = platform;
    const memoryLimit = options.memoryLimit ?? Math.floor(platform.memoryBytes / 2);
    this.#options = {
      threads: options.threads ?? Math.min(8, platform.cores),
      memoryLimit,
      cacheLimit: options.cacheLimit ?? Math.min(MOST_CACHE, memoryLimit),
      maxRunning: options.maxRunning ?? 16,
      maxWaiting: options.maxWaiting ?? 256,
      cacheDir: options.cacheDir ?? platform.cacheDir ?? '',
    };
    this.#models = new Models({
      platform,
      options: this.#options,
      sessions: this.#sessions,
      exclusive: work => this.#exclusive(work),
    });
  }

  async load(options: LoadOptions, onProgress?: (progress: LoadProgress) => void): Promise<ModelInfo> {
    this.#check();
    checkLoad(options);
    return this.#models.load(options, onProgress);
  }

  unload(name: string): Promise<void> {
    return this.#models.unload(name);
  }

  async models(): Promise<ModelInfo[]> {
    return [...this.#models.values()].map(model => model.info);
  }

  async *generate(options: GenerateRequest, signal?: AbortSignal): AsyncGenerator<GeneratePart> {
    // Whoever left an answer may go on at once: the session is free when the next step has seen it.
    const session = this.#sessions.byId.get(options.session ?? '');
    while (session?.request?.aborted) await this.#platform.breathe();
    const request = this.#enqueue(options);
    const abort = () => {
      request.aborted = true;
      request.parts.end(new KvasirError('aborted', 'the request was aborted'));
      this.#wake();
    };
    if (signal?.aborted) abort();
    signal?.addEventListener('abort', abort, { once: true });
    try {
      this.#wake();
      for (let part = await request.parts.next(); part; part = await request.parts.next()) yield part;
    } finally {
      signal?.removeEventListener('abort', abort);
      request.aborted = true;
      this.#wake();
    }
  }

  #enqueue(options: GenerateRequest): Request {
    this.#check();
    const model = this.#models.get(options.model);
    checkGenerate(options, model.info.vocab);
    const { tokens: prompt, segments } = readPrompt(model.tokenizer, options);
    const session = options.session === undefined ? null : this.#sessions.forRequest(options.session, model.info.name);
    const room = model.info.context - prompt.length;
    if (prompt.length === 0)
      throw new KvasirError('invalid_request', 'the prompt has no tokens', {
        field: (['messages', 'text', 'tokens'] as const).find(field => options[field] !== undefined)!,
        allowed: 'at least one token',
      });
    const program = model.program(options.kv);
    if (room < 1 || !model.reaches(prompt.length + (options.maxTokens ?? 1), program))
      throw new KvasirError(
        'context_length_exceeded',
        `${prompt.length} prompt tokens and ${options.maxTokens ?? 1} new ones do not fit the context of ${model.info.context} tokens`,
        {
          field: room < 1 ? 'prompt' : 'maxTokens',
          value: options.maxTokens ?? prompt.length,
          allowed: `prompt and answer of at most ${model.info.context} tokens together, unless a recipe renumbers what it keeps`,
        },
      );
    const request = new Request({
      options,
      prompt,
      segments,
      maxTokens: options.maxTokens ?? room,
      session,
      program,
      seed: options.seed ?? Math.floor(Math.random() * Number.MAX_SAFE_INTEGER),
      onDrain: () => this.#wake(),
    });
    model.scheduler.enqueue(request);
    if (session) session.request = request;
    model.usedAt = performance.now();
    return request;
  }

  async score(
    request: ScoreRequest,
    signal?: AbortSignal,
    onProgress?: (progress: LoadProgress) => void,
  ): Promise<ScoreResult> {
    this.#check();
    const model = this.#models.get(request.model);
    checkScore(request, model.info.vocab);
    return scoreTokens(model, request, run => this.#exclusive(run), signal, onProgress);
  }

  async tokenize(
    name: string,
    input: string | readonly PromptMessage[],
    options: { addBos?: boolean } = {},
  ): Promise<number[]> {
    const { tokenizer } = this.#models.get(name);
    if (typeof input === 'string')
      return tokenizer.encode(input, { addBos: options.addBos ?? true, parseSpecial: true });
    return tokenizer.encode(tokenizer.renderChat(input.map(plainMessage), { addGenerationPrompt: true }), {
      parseSpecial: true,
    });
  }

  async detokenize(name: string, ids: readonly number[]): Promise<string> {
    return this.#models.get(name).tokenizer.decode(ids, { special: true });
  }

  async openSession(name: string): Promise<string> {
    this.#models.get(name);
    return this.#sessions.open(name);
  }

  async closeSession(id: string): Promise<void> {
    this.#sessions.close(id);
  }

  async stats(): Promise<EngineStats> {
    const models = [...this.#models.values()];
    const sum = (value: (model: LoadedModel) => number) => models.reduce((total, model) => total + value(model), 0);
    return {
      running: sum(model => model.scheduler.running),
      waiting: sum(model => model.scheduler.waiting),
      models: models.map(model => ({ name: model.info.name, cache: model.cache.stats() })),
      cacheBytes: sum(model => model.cache.stats().held),
      cachePeak: sum(model => model.cache.stats().peak),
      weightBytes: sum(model => model.info.weightBytes),
      memoryLimit: this.#options.memoryLimit,
      cacheLimit: this.#options.cacheLimit,
      sessions: this.#sessions.byId.size,
      totals: {
        requests: sum(model => model.scheduler.totals.requests),
        promptTokens: sum(model => model.scheduler.totals.promptTokens),
        completionTokens: sum(model => model.scheduler.totals.completionTokens),
      },
    };
  }

  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    const error = new KvasirError('disposed', 'the engine has been disposed');
    await this.#exclusive(() => this.#models.dispose(error));
  }

  #check(): void {
    if (this.#disposed) throw new KvasirError('disposed', 'the engine has been disposed');
  }

  /** Runs `work` while no step is under way. */
  #exclusive<T>(work: () => Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.#between.push(async () => {
        try {
          resolve(await work());
        } catch (error) {
          reject(error);
        }
      });
      this.#wake();
    });
  }

  #wake(): void {
    if (this.#working) return;
    this.#working = true;
    void this.#work();
  }

  async #work(): Promise<void> {
    // Callers go on first: what they do in this turn (several requests, an abort) is seen by the first step.
    await this.#platform.breathe();
    for (;;) {
      for (let job = this.#between.shift(); job; job = this.#between.shift()) await job();
      let busy = false;
      for (const model of this.#models.values()) if (await this.#step(model)) busy = true;
      if (!busy && this.#between.length === 0) break;
      await this.#platform.breathe();
    }
    this.#working = false;
  }

  /** What a scheduler could not lay at one request's door ends all of its requests; the engine goes on serving. */
  async #step({ scheduler }: LoadedModel): Promise<boolean> {
    try {
      return await scheduler.step();
    } catch (error) {
      scheduler.failAll(KvasirError.from(error));
      return false;
    }
  }
}
