import type { KvCache } from '../cache/cache.ts';
import type { CacheSequence } from '../cache/sequence.ts';
import type { FormatName } from '../cache/types.ts';
import { KvasirError } from '../errors.ts';
import type { Tokenizer } from '../model/types.ts';
import { Admission } from './admission.ts';
import { Answering } from './answering.ts';
import { Batch, type Stepped } from './batch.ts';
import type { Forward } from './forward.ts';
import { LayerPrefill } from './layer-prefill.ts';
import type { Request } from './request.ts';
import type { Session } from './session.ts';
import type { Work } from './work.ts';

export interface SchedulerOptions {
  readonly vocab: number;
  readonly tile: number;
  readonly maxRunning: number;
  readonly maxWaiting: number;
  readonly defaultFormat: FormatName;
}

/**
 * Continuous batching over one model: each step runs one row of every answer that is being decoded together with one
 * tile of one prompt. All changes to requests and caches happen between or inside steps, never beside them.
 */
export class Scheduler {
  readonly totals = { requests: 0, promptTokens: 0, completionTokens: 0 };
  readonly #forward: Forward;
  readonly #options: SchedulerOptions;
  readonly #admission: Admission;
  readonly #batch: Batch;
  readonly #answering: Answering;
  readonly #waiting: Request[] = [];
  readonly #running: Request[] = [];
  readonly #stepped: Stepped = (request, answer, logits) => {
    if (answer) {
      answer.run?.afterStep();
      this.#answering.advance(request, answer, logits);
    } else this.#startAnswers(request, logits);
  };

  constructor(init: {
    forward: Forward;
    cache: KvCache;
    tokenizer: Tokenizer;
    options: SchedulerOptions;
    /** Sessions whose kept caches may be dropped when space is short, least recently used first. */
    idleSessions: () => Session[];
  }) {
    this.#forward = init.forward;
    this.#options = init.options;
    const { forward, cache, idleSessions } = init;
    const { tile, vocab, defaultFormat } = init.options;
    this.#admission = new Admission({ cache, recipes: forward.recipes, defaultFormat, idleSessions });
    this.#batch = new Batch(forward, tile);
    this.#answering = new Answering(cache, init.tokenizer, vocab);
  }

  get running(): number {
    return this.#running.length;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  enqueue(request: Request): void {
    if (this.#waiting.length >= this.#options.maxWaiting)
      throw new KvasirError('queue_full', `${this.#waiting.length} requests are waiting already`, {
        field: 'maxWaiting',
        value: this.#waiting.length,
        allowed: `at most ${this.#options.maxWaiting} waiting requests`,
      });
    this.#waiting.push(request);
    this.totals.requests++;
  }

  /** Runs one unit of work. False: nothing can be done until a request comes or a reader takes its parts. */
  async step(): Promise<boolean> {
    this.#sweep();
    this.#admit();
    const works = this.#batch.decodes(this.#running);
    const prefill = this.#running.find(request => !request.decoding);
    const layerMajor = prefill && (prefill.options.prefill === 'layer' || prefill.program !== null);
    const tile = prefill && !layerMajor ? this.#batch.promptTile(prefill, works.length) : null;
    if (tile) works.push(tile);
    if (works.length > 0) await this.#runTokenMajor(works, tile ? prefill! : null);
    if (prefill && layerMajor) await this.#guard(prefill, () => this.#runLayerUnit(prefill));
    return works.length > 0 || layerMajor === true;
  }

  /** Ends every request with `error`; cannot fail. Steps may have broken off anywhere. */
  failAll(error: KvasirError): void {
    for (const request of [...this.#running, ...this.#waiting]) {
      try {
        this.#fail(request, error, true);
      } catch {
        // It has ended and is in no list any more; the others must end too.
      }
    }
  }

  #sweep(): void {
    for (const request of [...this.#running, ...this.#waiting])
      if (request.aborted) this.#fail(request, new KvasirError('aborted', 'the request was aborted'));
  }

  #admit(): void {
    while (this.#waiting.length > 0 && this.#running.length < this.#options.maxRunning) {
      const request = this.#waiting[0]!;
      if (this.#running.length > 0 && (request.alone || this.#running[0]!.unpromised)) return;
      try {
        if (!this.#admission.open(request, this.#running.length === 0)) return;
      } catch (error) {
        this.#fail(request, KvasirError.from(error));
        continue;
      }
      this.#waiting.shift();
      this.#running.push(request);
      request.admitted();
    }
  }

  /** One step of several works. What goes wrong with one ends its request; the others go on. */
  async #runTokenMajor(works: readonly Work[], prefill: Request | null): Promise<void> {
    const { failed, passed } = await this.#batch.step(works, prefill, this.#stepped);
    for (const [request, error] of failed) this.#fail(request, KvasirError.from(error), true);
    for (const request of passed) {
      if (request === prefill) {
        prefill.done += works.at(-1)!.rows;
        this.#tell(prefill, prefill.done / prefill.prompt.length);
      }
      if (request.decoding && request.answers.every(answer => answer.finish)) this.#finish(request);
    }
  }

  /** One tile of the prompt through one layer. */
  async #runLayerUnit(request: Request): Promise<void> {
    const { sequence, prompt, cached, run } = request;
    request.layerPrefill ??= new LayerPrefill(this.#forward, sequence!, prompt, cached, run);
    try {
      if (!(await request.layerPrefill.next())) return this.#tell(request, request.layerPrefill.fraction);
      if (run) this.#admission.promiseAnswers(request, this.#running.length === 1);
    } catch (error) {
      if (this.#postpone(request, KvasirError.from(error))) return;
      throw error;
    }
    await request.layerPrefill.finish('last', (_work, _row, logits) => this.#startAnswers(request, logits));
    request.layerPrefill = null;
    if (request.answers.every(answer => answer.finish)) this.#finish(request);
  }

  /** How far a prompt is, unless its reader lags behind or its answers have begun. */
  #tell(request: Request, fraction: number): void {
    if (!request.options.progress || request.decoding || request.parts.full) return;
    request.parts.push({ index: 0, text: '', tokens: [], prompt: { fraction } });
  }

  /** A recipe's prompt that met a full cache beside others starts again when they are done. */
  #postpone(request: Request, { code }: KvasirError): boolean {
    if (code !== 'kv_cache_full' || !request.run || this.#running.length < 2) return false;
    request.layerPrefill?.dispose();
    request.layerPrefill = null;
    request.sequence?.free();
    request.sequence = null;
    request.run = null;
    request.alone = true;
    this.#running.splice(this.#running.indexOf(request), 1);
    this.#waiting.unshift(request);
    return true;
  }

  #startAnswers(request: Request, logits: Float32Array): void {
    this.#answering.start(request, logits);
    this.#batch.add(request);
  }

  #finish(request: Request): void {
    this.totals.promptTokens += request.prompt.length;
    this.totals.completionTokens += request.answers.reduce((sum, answer) => sum + answer.tokens.length, 0);
    this.#release(request);
    request.parts.end();
  }

  /** @param torn a step broke off: some slots may hold rows of it, and a recipe may have decided in some layers only */
  #fail(request: Request, error: KvasirError, torn = false): void {
    try {
      this.#release(request, torn);
    } finally {
      request.parts.end(error);
    }
  }

  /** Takes a request out of every list and gives its cache back, or to its session. */
  #release(request: Request, torn = false): void {
    for (const list of [this.#running, this.#waiting]) {
      const at = list.indexOf(request);
      if (at >= 0) list.splice(at, 1);
    }
    this.#batch.remove(request);
    const sequences = [request.sequence, ...request.answers.map(answer => answer.sequence)].filter(s => s !== null);
    // A prompt stopped on its way through the layers has entries in some slots only: of no use to a session.
    const broken = request.layerPrefill !== null || (torn && request.program !== null);
    const useless = broken && sequences.length > 0;
    if (request.session) request.session.request = null;
    request.layerPrefill?.dispose();
    request.layerPrefill = null;
    if (request.session && sequences[0] && !useless) this.#keep(request, sequences[0]);
    else for (const sequence of sequences) sequence.free();
    if (useless) request.session?.drop('the request before broke off');
    request.sequence = null;
    request.run = null;
  }

  #keep(request: Request, sequence: CacheSequence): void {
    sequence.rollback();
    const seen = (request.answers[0]?.run ?? request.run)?.seen ?? sequence.position;
    const tokens = [...request.prompt, ...(request.answers[0]?.tokens ?? [])].slice(0, seen);
    sequence.reserve(0);
    request.session!.keep(sequence, tokens, sequence.options.pages.formatK, request.program);
  }

  /** A failure inside `run` ends the request. */
  async #guard(request: Request, run: () => Promise<void>): Promise<void> {
    try {
      await run();
    } catch (error) {
      this.#fail(request, KvasirError.from(error), true);
    }
  }
}
