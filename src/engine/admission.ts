import { PAGE_TOKENS } from '../../kernels/abi.ts';
import type { KvCache } from '../cache/cache.ts';
import { pagesAtMost } from '../cache/promise.ts';
import type { FormatName } from '../cache/types.ts';
import { Run, type RunContext } from './program/run.ts';
import type { Request } from './request.ts';
import { setSegments } from './segments.ts';
import type { Session } from './session.ts';

/** Which requests there is room for: what is promised to them, and what is given up for it. */
export class Admission {
  readonly #cache: KvCache;
  readonly #recipes: RunContext;
  readonly #defaultFormat: FormatName;
  readonly #idleSessions: () => Session[];

  constructor(init: {
    cache: KvCache;
    recipes: RunContext;
    defaultFormat: FormatName;
    /** Sessions whose kept caches may be dropped when space is short, least recently used first. */
    idleSessions: () => Session[];
  }) {
    this.#cache = init.cache;
    this.#recipes = init.recipes;
    this.#defaultFormat = init.defaultFormat;
    this.#idleSessions = init.idleSessions;
  }

  /**
   * Gives a request its cache with all the space it may need promised. False: it has to wait for others to end; its session
   * still holds what it held, but for what had to be given up before the caches of idle sessions were.
   * @param alone no other request runs
   */
  open(request: Request, alone: boolean): boolean {
    const format = request.options.cache ?? this.#defaultFormat;
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
    request.run = program && new Run(program, sequence, this.#recipes, request.seed);
    request.cached = request.done = shared;
    return true;
  }

  /** What the prompt has left free is promised to the answers; a recipe may need less of it, so alone it goes on without. */
  promiseAnswers(request: Request, alone: boolean): void {
    if (request.unpromised) return;
    const { n = 1 } = request.options;
    try {
      if (n > 1) request.sequence!.reserve(answerRows(request));
      else request.sequence!.reserve(request.maxTokens, mostEntries(request));
    } catch (error) {
      if (!alone) throw error;
      request.sequence!.reserve(0);
      request.unpromised = true;
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
