import { KvasirError } from '../errors.ts';
import type {
  EngineApi,
  EngineMessage,
  EngineStats,
  GeneratePart,
  GenerateRequest,
  LoadOptions,
  LoadProgress,
  ModelInfo,
  ScoreRequest,
  ScoreResult,
} from './types.ts';

/** A message channel between a caller's thread and the engine's. */
export interface Port {
  post(message: EngineMessage): void;
  onMessage(handler: (message: EngineMessage) => void): void;
  close(): Promise<void>;
}

/** Parts that may be under way to a caller that has not asked for more: bounds what a slow reader costs. */
const CREDIT = 32;

/** Runs calls that come in over `port` on `engine`, in the engine's thread. */
export function serveEngine(engine: EngineApi, port: Port): void {
  const aborts = new Map<number, AbortController>();
  const credits = new Map<number, { left: number; wake: (() => void) | null }>();
  const call = async (id: number, method: string, args: unknown[]): Promise<void> => {
    const abort = new AbortController();
    aborts.set(id, abort);
    try {
      if (method === 'generate') {
        const credit = { left: CREDIT, wake: null as (() => void) | null };
        credits.set(id, credit);
        for await (const part of engine.generate(args[0] as GenerateRequest, abort.signal)) {
          while (credit.left === 0 && !abort.signal.aborted)
            await new Promise<void>(resolve => {
              credit.wake = resolve;
            });
          credit.left--;
          port.post({ type: 'part', id, part });
        }
        port.post({ type: 'end', id });
      } else if (method === 'load') {
        const report = (progress: LoadProgress) => port.post({ type: 'progress', id, progress });
        port.post({ type: 'result', id, value: await engine.load(args[0] as LoadOptions, report) });
      } else if (method === 'score') {
        const report = args[1] ? (progress: LoadProgress) => port.post({ type: 'progress', id, progress }) : undefined;
        port.post({ type: 'result', id, value: await engine.score(args[0] as ScoreRequest, abort.signal, report) });
      } else {
        const member = engine[method as keyof EngineApi] as (...args: unknown[]) => Promise<unknown>;
        port.post({ type: 'result', id, value: await member.apply(engine, args) });
      }
    } catch (error) {
      port.post({ type: 'error', id, error: KvasirError.from(error).toJSON() });
    } finally {
      aborts.delete(id);
      credits.delete(id);
    }
  };
  port.onMessage(message => {
    if (message.type === 'call') void call(message.id, message.method, message.args);
    else if (message.type === 'abort') {
      aborts.get(message.id)?.abort();
      credits.get(message.id)?.wake?.();
    } else if (message.type === 'pull') {
      const credit = credits.get(message.id);
      if (!credit) return;
      credit.left++;
      credit.wake?.();
      credit.wake = null;
    }
  });
}

interface Call {
  resolve(value: unknown): void;
  reject(error: unknown): void;
  part?(part: GeneratePart): void;
  progress?: ((progress: LoadProgress) => void) | undefined;
}

/** An engine in another thread. */
export class RemoteEngine implements EngineApi {
  readonly #port: Port;
  readonly #calls = new Map<number, Call>();
  #nextId = 1;
  #closed: KvasirError | null = null;

  constructor(port: Port) {
    this.#port = port;
    port.onMessage(message => this.#receive(message));
  }

  load(options: LoadOptions, onProgress?: (progress: LoadProgress) => void): Promise<ModelInfo> {
    return this.#call('load', [options], { progress: onProgress });
  }
  unload(model: string): Promise<void> {
    return this.#call('unload', [model]);
  }
  models(): Promise<ModelInfo[]> {
    return this.#call('models', []);
  }
  score(
    request: ScoreRequest,
    signal?: AbortSignal,
    onProgress?: (progress: LoadProgress) => void,
  ): Promise<ScoreResult> {
    return this.#call('score', [request, onProgress !== undefined], { progress: onProgress }, signal);
  }
  tokenize(...args: Parameters<EngineApi['tokenize']>): Promise<number[]> {
    return this.#call('tokenize', args);
  }
  detokenize(model: string, ids: readonly number[]): Promise<string> {
    return this.#call('detokenize', [model, ids]);
  }
  openSession(model: string): Promise<string> {
    return this.#call('openSession', [model]);
  }
  closeSession(session: string): Promise<void> {
    return this.#call('closeSession', [session]);
  }
  stats(): Promise<EngineStats> {
    return this.#call('stats', []);
  }

  async *generate(request: GenerateRequest, signal?: AbortSignal): AsyncGenerator<GeneratePart> {
    const parts: GeneratePart[] = [];
    let wake: (() => void) | null = null;
    const state: { done: boolean; error: unknown } = { done: false, error: null };
    const change = () => {
      wake?.();
      wake = null;
    };
    const receive = (part: GeneratePart) => {
      parts.push(part);
      change();
    };
    const id = this.#nextId;
    const ended = this.#call<void>('generate', [request], { part: receive }, signal).then(
      () => {
        state.done = true;
      },
      error => {
        state.done = true;
        state.error = error;
      },
    );
    void ended.then(change);
    try {
      for (;;) {
        const part = parts.shift();
        if (part) {
          this.#post({ type: 'pull', id });
          yield part;
        } else if (state.done) {
          if (state.error) throw state.error;
          return;
        } else
          await new Promise<void>(resolve => {
            wake = resolve;
          });
      }
    } finally {
      if (!state.done) this.#post({ type: 'abort', id });
    }
  }

  /** The engine's thread is gone: every open call fails with `error`. */
  fail(error: KvasirError): void {
    this.#closed ??= error;
    for (const call of this.#calls.values()) call.reject(error);
    this.#calls.clear();
  }

  async dispose(): Promise<void> {
    if (this.#closed) return;
    await this.#call('dispose', []);
    this.fail(new KvasirError('disposed', 'the engine has been disposed'));
    await this.#port.close();
  }

  #post(message: EngineMessage): void {
    if (!this.#closed) this.#port.post(message);
  }

  #call<T>(method: string, args: unknown[], hooks: Partial<Call> = {}, signal?: AbortSignal): Promise<T> {
    if (this.#closed) return Promise.reject(this.#closed);
    if (signal?.aborted) return Promise.reject(new KvasirError('aborted', 'the request was aborted'));
    const id = this.#nextId++;
    const abort = () => this.#post({ type: 'abort', id });
    signal?.addEventListener('abort', abort, { once: true });
    return new Promise<T>((resolve, reject) => {
      this.#calls.set(id, { ...hooks, resolve: resolve as (value: unknown) => void, reject });
      this.#port.post({ type: 'call', id, method, args });
    }).finally(() => signal?.removeEventListener('abort', abort));
  }

  #receive(message: EngineMessage): void {
    if (!('id' in message)) return;
    const call = this.#calls.get(message.id);
    if (!call) return;
    if (message.type === 'part') call.part?.(message.part);
    else if (message.type === 'progress') call.progress?.(message.progress);
    else if (message.type === 'result' || message.type === 'end') {
      this.#calls.delete(message.id);
      call.resolve(message.type === 'result' ? message.value : undefined);
    } else if (message.type === 'error') {
      this.#calls.delete(message.id);
      call.reject(KvasirError.fromJSON(message.error));
    }
  }
}
