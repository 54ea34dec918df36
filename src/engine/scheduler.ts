import { PAGE_TOKENS } from '../../kernels/abi.ts';
import type { KvCache } from '../cache/cache.ts';
import { pagesAtMost } from '../cache/promise.ts';
import type { CacheSequence } from '../cache/sequence.ts';
import type { FormatName } from '../cache/types.ts';
import { KvasirError } from '../errors.ts';
import type { Tokenizer } from '../model/types.ts';
import { Answer } from './answer.ts';
import type { Forward, StepHooks, Work } from './forward.ts';
import { LayerPrefill } from './layer-prefill.ts';
import { Run } from './program/run.ts';
import type { Request } from './request.ts';
import { SamplerScratch } from './sampler.ts';
import { setSegments } from './segments.ts';
import type { Session } from './session.ts';
import type { Usage } from './types.ts';

export interface SchedulerOptions {
  readonly vocab: number;
  readonly tile: number;
  readonly maxRunning: number;
  readonly maxWaiting: number;
  readonly defaultFormat: FormatName;
}

interface DecodeWork extends Work {
  from: number;
  position: number;
  hooks?: StepHooks;
  request: Request;
  answer: Answer;
}

/**
 * Continuous batching over one model: each step runs one row of every answer that is being decoded together with one
 * tile of one prompt. All changes to requests and caches happen between or inside steps, never beside them.
 */
export class Scheduler {
  readonly totals = { requests: 0, promptTokens: 0, completionTokens: 0 };
  readonly #forward: Forward;
  readonly #cache: KvCache;
  readonly #tokenizer: Tokenizer;
  readonly #options: SchedulerOptions;
  readonly #idleSessions: () => Session[];
  readonly #scratch: SamplerScratch;
  readonly #waiting: Request[] = [];
  readonly #running: Request[] = [];
  readonly #decodes = new Map<Answer, DecodeWork>();

  constructor(init: {
    forward: Forward;
    cache: KvCache;
    tokenizer: Tokenizer;
    options: SchedulerOptions;
    /** Sessions whose kept caches may be dropped when space is short, least recently used first. */
    idleSessions: () => Session[];
  }) {
    this.#forward = init.forward;
    this.#cache = init.cache;
    this.#tokenizer = init.tokenizer;
    this.#options = init.options;
    this.#idleSessions = init.idleSessions;
    this.#scratch = new SamplerScratch(init.options.vocab);
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
    const works = this.#decodeWorks();
    const prefill = this.#running.find(request => !request.decoding);
    const layerMajor = prefill && (prefill.options.prefill === 'layer' || prefill.program !== null);
    const share = this.#options.tile - works.length;
    const tile = prefill && !layerMajor && share > 0 ? this.#promptTile(prefill, share) : null;
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
        if (!this.#open(request)) return;
      } catch (error) {
        this.#fail(request, KvasirError.from(error));
        continue;
      }
      this.#waiting.shift();
      this.#running.push(request);
      request.admitted();
    }
  }

  /**
   * Gives a request its cache with all the space it may need promised. False: it has to wait for others to end; its session
   * still holds what it held, but for what had to be given up before the caches of idle sessions were.
   */
  #open(request: Request): boolean {
    const format = this.#format(request);
    const { program, session } = request;
    const reuse = session?.look(request.prompt, format, program);
    const shared = reuse?.kept?.shared ?? 0;
    request.whyNotCached ??= reuse?.why ?? null;
    const sequence =
      reuse?.kept?.sequence ??
      this.#cache.create({
        pages: program ? program.pages(format) : { formatK: format, formatV: format },
        owner: session?.id ?? 'request',
      });
    // How much a recipe leaves of the prompt is not known yet: the answers' rows are promised, and one layer of the prompt.
    const rest = request.prompt.length - shared;
    const tokens = (program ? Math.ceil(rest / this.#cache.shape.slots) : request.prompt.length) + answerRows(request);
    for (;;) {
      try {
        if (!request.unpromised) sequence.reserve(tokens);
        if (reuse) session?.trim(reuse);
        // The full cache has no method to see them, but a session's next turn may have one.
        if (program || session) setSegments(sequence, request.segments, shared);
        break;
      } catch (error) {
        const alone = this.#running.length === 0;
        const idle = this.#idleSessions().find(other => other.sequence && other !== session);
        if ((idle || alone) && reuse && session?.trim(reuse)) continue;
        if (idle) {
          idle.drop('the cache of the session was given up to make room for a request');
          continue;
        }
        if (alone && program && !request.unpromised) {
          request.unpromised = true;
          continue;
        }
        if (reuse?.kept) sequence.reserve(0);
        else sequence.free();
        if (alone) throw error;
        return false;
      }
    }
    session?.handOver();
    request.sequence = sequence;
    request.run = program && new Run(program, sequence, this.#forward.recipes, request.seed);
    request.cached = request.done = shared;
    return true;
  }

  #format(request: Request): FormatName {
    return request.options.cache ?? this.#options.defaultFormat;
  }

  #decodeWorks(): Work[] {
    const works: Work[] = [];
    for (const request of this.#running) {
      if (request.parts.full) continue;
      for (const answer of request.answers) {
        if (answer.finish || works.length >= this.#options.tile) continue;
        const work = this.#decodes.get(answer)!;
        work.from = answer.tokens.length - 1;
        work.position = request.prompt.length + work.from;
        if (answer.run?.stepwise) work.hooks = answer.run;
        works.push(work);
      }
    }
    return works;
  }

  #promptTile(request: Request, most: number): Work {
    const rows = Math.min(most, request.prompt.length - request.done);
    const last = request.done + rows === request.prompt.length;
    return {
      sequence: request.sequence!,
      tokens: request.prompt,
      from: request.done,
      rows,
      position: request.done,
      logits: last ? 'last' : 'none',
    };
  }

  /** One step of several works. What goes wrong with one ends its request; the others go on. */
  async #runTokenMajor(works: readonly Work[], prefill: Request | null): Promise<void> {
    const failed = new Map<Request, unknown>();
    const requestOf = (work: Work) => (work as Partial<DecodeWork>).request ?? prefill!;
    const fail = (work: Work, error: unknown) => {
      if (!failed.has(requestOf(work))) failed.set(requestOf(work), error);
    };
    const attempt = (work: Work, run: () => void) => {
      if (failed.has(requestOf(work))) return;
      try {
        run();
      } catch (error) {
        fail(work, error);
      }
    };
    for (const work of works) if (!work.hooks) attempt(work, () => work.sequence.prepareAppend(work.rows));
    const ready = works.filter(work => !failed.has(requestOf(work)));
    try {
      const sink = (work: Work, _row: number, logits: Float32Array) =>
        attempt(work, () => this.#stepped(work, prefill, logits));
      if (ready.length > 0) await this.#forward.step(ready, sink, fail);
    } catch (error) {
      for (const work of ready) fail(work, error);
    }
    for (const [request, error] of failed) this.#fail(request, KvasirError.from(error), true);
    for (const request of new Set(ready.map(requestOf))) {
      if (failed.has(request)) continue;
      if (request === prefill) {
        prefill.done += ready.find(work => requestOf(work) === prefill)!.rows;
        this.#tell(prefill, prefill.done / prefill.prompt.length);
      }
      if (request.decoding && request.answers.every(answer => answer.finish)) this.#finish(request);
    }
  }

  /** A work's rows have gone through all layers; these are the logits after its last one. */
  #stepped(work: Work, prefill: Request | null, logits: Float32Array): void {
    const { request, answer } = work as Partial<DecodeWork>;
    if (request && answer) {
      answer.run?.afterStep();
      request.parts.push(this.#advance(request, answer, logits));
    } else this.#startAnswers(prefill!, logits);
  }

  /** One tile of the prompt through one layer. */
  async #runLayerUnit(request: Request): Promise<void> {
    const { sequence, prompt, cached, run } = request;
    request.layerPrefill ??= new LayerPrefill(this.#forward, sequence!, prompt, cached, run);
    try {
      if (!(await request.layerPrefill.next())) return this.#tell(request, request.layerPrefill.fraction);
      if (run) this.#promiseAnswers(request);
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

  /** What the prompt has left free is promised to the answers; a recipe may need less of it, so alone it goes on without. */
  #promiseAnswers(request: Request): void {
    if (request.unpromised) return;
    const { n = 1 } = request.options;
    try {
      if (n > 1) request.sequence!.reserve(answerRows(request));
      else request.sequence!.reserve(request.maxTokens, mostEntries(request));
    } catch (error) {
      if (this.#running.length > 1) throw error;
      request.sequence!.reserve(0);
      request.unpromised = true;
    }
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

  /** The prompt has been run: n answers start from its cache and its last logits. */
  #startAnswers(request: Request, logits: Float32Array): void {
    const n = request.options.n ?? 1;
    const kept = n > 1 ? logits.slice() : logits;
    request.firstToken();
    // A fork has no part in a promise: each answer gets its own.
    if (n > 1) request.sequence!.reserve(0);
    for (let index = 0; index < n; index++) {
      const own = index === n - 1;
      const sequence = own ? request.sequence! : request.sequence!.fork();
      const run = own ? request.run : (request.run?.fork(sequence, request.seed + index) ?? null);
      const answer = new Answer({
        index,
        sequence,
        run,
        options: request.options,
        maxTokens: request.maxTokens,
        seed: request.seed + index,
        prompt: request.prompt,
        tokenizer: this.#tokenizer,
        scratch: this.#scratch,
      });
      request.answers.push(answer);
      this.#decodes.set(answer, {
        sequence,
        tokens: answer.tokens,
        from: 0,
        rows: 1,
        position: 0,
        logits: 'last',
        request,
        answer,
      });
    }
    request.sequence = null;
    if (n > 1 && !request.unpromised) for (const { sequence } of request.answers) sequence.reserve(request.maxTokens);
    if (request.options.progress)
      request.parts.push({ index: 0, text: '', tokens: [], prompt: { fraction: 1, cache: this.#held(request) } });
    for (const answer of request.answers) {
      if (n > 1) logits.set(kept);
      request.parts.push(this.#advance(request, answer, logits));
    }
  }

  #advance(request: Request, answer: Answer, logits: Float32Array) {
    const part = answer.advance(logits);
    if (!answer.finish || !request.answers.every(a => a.finish)) return part;
    return { ...part, usage: request.usage(this.#held(request)) };
  }

  /** What the answers' caches hold together: they are forks of one prompt. */
  #held(request: Request): Usage['cache'] {
    const sequences = request.answers.map(({ sequence }) => sequence);
    const { held, parked, bytes: items } = this.#cache.measure(sequences);
    const stats = sequences.map(sequence => sequence.stats());
    const views = stats.flatMap(({ tokens }) => [...tokens]);
    return {
      format: this.#format(request),
      recipe: request.recipe,
      kept: views.reduce((sum, entries) => sum + entries, 0) / views.length,
      bytes: held,
      items,
      parked,
      peak: Math.max(held, ...stats.map(({ peak }) => peak)),
    };
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
    for (const answer of request.answers) this.#decodes.delete(answer);
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
    request.session!.keep(sequence, tokens, this.#format(request), request.program);
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

/** Rows to promise to the answers together before their prompt has been read. */
function answerRows(request: Request): number {
  const { options, maxTokens, program, prompt } = request;
  const { n = 1 } = options;
  if (n > 1) {
    // Each goes on in a copy of the prompt's last page, whatever a recipe leaves in it; one page more for lists and positions.
    const begun = program ? PAGE_TOKENS - 1 : prompt.length % PAGE_TOKENS;
    return (n * Math.ceil((begun + maxTokens) / PAGE_TOKENS) + 1) * PAGE_TOKENS;
  }
  return Math.min(maxTokens, pagesAtMost(mostEntries(request)) * PAGE_TOKENS);
}

/** Entries that every view is cut back to at each step, where its pages follow; Infinity: it grows. */
function mostEntries({ program, prompt, maxTokens }: Request): number {
  const tokens = prompt.length + maxTokens;
  // Pages that another method has encoded or parked cannot be packed.
  const most = program?.parts.length === 1 ? program.most(tokens) : tokens;
  return most < tokens ? most : Number.POSITIVE_INFINITY;
}
