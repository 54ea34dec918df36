import type { CacheSequence } from '../cache/sequence.ts';
import type { Segment } from '../methods/types.ts';
import type { Answer } from './answer.ts';
import type { LayerPrefill } from './layer-prefill.ts';
import { PartQueue } from './parts.ts';
import type { Program } from './program/program.ts';
import type { Run } from './program/run.ts';
import type { Session } from './session.ts';
import type { GenerateRequest, Timings, Usage } from './types.ts';

/** A request on its way through the scheduler: waiting, then its prompt is run, then its answers are decoded. */
export class Request {
  readonly options: GenerateRequest;
  readonly prompt: readonly number[];
  /** Named parts of the prompt, by token. */
  readonly segments: readonly Segment[];
  readonly maxTokens: number;
  readonly session: Session | null;
  /** null: the full cache, or a recipe that leaves it as it is. */
  readonly program: Program | null;
  /** As asked for, in short text. */
  readonly recipe: string;
  readonly parts: PartQueue;
  readonly seed: number;
  /** Set by the caller's side; acted upon between steps. */
  aborted = false;
  /** Prompt tokens that stand in the cache already. */
  cached = 0;
  whyNotCached: string | null = null;
  /** Prompt tokens run so far, cached ones included. */
  done = 0;
  /** The prompt's cache; the answers own it (or forks of it) once they exist. */
  sequence: CacheSequence | null = null;
  /** The recipe at work on the prompt's cache. */
  run: Run | null = null;
  /** Met a full cache on its way: to be started again once nothing else runs. */
  alone = false;
  /** Takes room as it needs it, without a promise: nothing is admitted beside it. */
  unpromised = false;
  answers: Answer[] = [];
  layerPrefill: LayerPrefill | null = null;
  readonly #arrived = performance.now();
  #admitted = 0;
  #first = 0;

  constructor(init: {
    options: GenerateRequest;
    prompt: readonly number[];
    segments?: readonly Segment[];
    maxTokens: number;
    session: Session | null;
    program: Program | null;
    seed: number;
    onDrain: () => void;
  }) {
    this.options = init.options;
    this.prompt = init.prompt;
    this.segments = init.segments ?? [];
    this.maxTokens = init.maxTokens;
    this.session = init.session;
    this.program = init.program?.idle ? null : init.program;
    this.recipe = init.program?.text ?? 'full';
    this.seed = init.seed;
    this.parts = new PartQueue(init.onDrain);
  }

  get decoding(): boolean {
    return this.answers.length > 0;
  }

  admitted(): void {
    this.#admitted = performance.now();
  }

  firstToken(): void {
    this.#first ||= performance.now();
  }

  usage(cache: Usage['cache']): Usage {
    const completionTokens = this.answers.reduce((sum, answer) => sum + answer.tokens.length, 0);
    return {
      promptTokens: this.prompt.length,
      cachedTokens: this.cached,
      ...(this.whyNotCached !== null && { whyNotCached: this.whyNotCached }),
      completionTokens,
      timings: this.#timings(completionTokens),
      cache,
    };
  }

  #timings(completionTokens: number): Timings {
    const now = performance.now();
    const prefillMs = this.#first - this.#admitted;
    const decodeMs = now - this.#first;
    const decoded = completionTokens - this.answers.length;
    return {
      queueMs: this.#admitted - this.#arrived,
      prefillMs,
      firstTokenMs: this.#first - this.#arrived,
      decodeMs,
      prefillTokensPerSecond: perSecond(this.prompt.length - this.cached, prefillMs),
      decodeTokensPerSecond: perSecond(decoded, decodeMs),
    };
  }
}

function perSecond(count: number, ms: number): number {
  return ms > 0 ? (count * 1000) / ms : 0;
}
