import { PAGE_TOKENS } from '../../kernels/abi.ts';
import type { CacheSequence } from '../cache/sequence.ts';
import type { FormatName } from '../cache/types.ts';
import { whyNotGoOn } from '../methods/goes-on.ts';
import { parseRecipe } from '../methods/recipe.ts';
import type { Program } from './program/program.ts';
import { recount } from './program/run.ts';
import { setSegments } from './segments.ts';

/** A conversation whose cache is kept between turns. Only one request may use it at a time. */
export class Session {
  readonly id: string;
  readonly model: string;
  /** The request that uses it. */
  request: { readonly aborted: boolean } | null = null;
  /** Tokens whose entries the sequence holds, in order. */
  tokens: number[] = [];
  sequence: CacheSequence | null = null;
  format: FormatName | null = null;
  /** The recipe that filled it; null: the full cache. */
  program: Program | null = null;
  usedAt = 0;
  #closed = false;
  #lost: string | null = null;

  constructor(id: string, model: string) {
    this.id = id;
    this.model = model;
  }

  get busy(): boolean {
    return this.request !== null;
  }

  /**
   * What a new prompt can go on from: the kept cache up to what it shares with the prompt where every entry stands for its own
   * token (under a prefix-stable recipe up to whole pages of it); all of it where a recipe has dropped or joined entries, and then
   * only if the prompt goes on from there. At least one prompt token is left to run, since its logits are needed. Changes nothing.
   */
  look(prompt: readonly number[], format: FormatName, program: Program | null): Reuse {
    const { sequence, tokens } = this;
    if (!sequence) return { kept: null, why: this.#lost };
    let shared = 0;
    const most = Math.min(tokens.length, prompt.length - 1);
    while (shared < most && tokens[shared] === prompt[shared]) shared++;
    const cut = this.program && shared < tokens.length ? shared - (shared % PAGE_TOKENS) : shared;
    const refusal = this.#whyNot(format, program) ?? this.#whyNotCut(shared, cut);
    if (refusal !== null) return { kept: null, why: refusal };
    const left = cut < tokens.length && cut < prompt.length - 1;
    const why = left ? `the prompt leaves the session's text after ${shared} tokens` : null;
    return { kept: { sequence, shared: cut }, why };
  }

  /** Gives up what `look` has found the prompt not to go on from. False: there is no such part. */
  trim({ kept, why }: Reuse): boolean {
    if (!this.sequence) return false;
    if (!kept) {
      this.drop(why);
      return true;
    }
    const { sequence, shared } = kept;
    if (shared === this.tokens.length) return false;
    sequence.truncate(shared);
    if (this.program) recount(sequence);
    setSegments(sequence, [], shared);
    this.tokens = this.tokens.slice(0, shared);
    return true;
  }

  /** The trimmed cache is the request's now. */
  handOver(): void {
    this.sequence = null;
    this.tokens = [];
  }

  /**
   * Keeps a request's cache, at rest, for the next turn. The full cache may hold rows of a step that broke off in some slots:
   * they go. A recipe's must be as its last whole step left it.
   */
  keep(sequence: CacheSequence, tokens: number[], format: FormatName, program: Program | null): void {
    this.drop();
    if (this.#closed) {
      sequence.free();
      return;
    }
    this.sequence = sequence;
    this.tokens = program ? tokens : tokens.slice(0, level(sequence));
    this.format = format;
    this.program = program;
    this.usedAt = performance.now();
  }

  /** Why the cache cannot go on under a format and a recipe; null: it can. */
  #whyNot(format: FormatName, program: Program | null): string | null {
    if (this.format !== format) return `the cache of the session is in ${this.format}`;
    const [from, to] = [this.program?.text ?? 'full', program?.text ?? 'full'];
    const why = whyNotGoOn(parseRecipe(from), parseRecipe(to));
    if (why !== null) return `the cache of the session was filled under ${from}: ${why}`;
    const pages = (one: Program | null) => JSON.stringify(one?.pages(format) ?? { formatK: format, formatV: format });
    if (pages(this.program) !== pages(program))
      return `the cache of the session was filled under ${from}, in pages that ${to} cannot go on with`;
    return null;
  }

  /** Why a cache that holds more than the prompt shares with it cannot be cut back. */
  #whyNotCut(shared: number, cut: number): string | null {
    if (!this.program || shared === this.tokens.length) return null;
    if (!this.program.prefixStable)
      return `the prompt leaves the session's text after ${shared} tokens, and ${this.program.text} keeps no prefix whole`;
    return cut === 0 ? `the prompt shares ${shared} tokens with the session, less than a page` : null;
  }

  /** Frees the cache now, or when the request that uses it ends. */
  close(): void {
    this.#closed = true;
    this.drop();
  }

  /** @param why what the next turn is told */
  drop(why: string | null = null): void {
    if (this.sequence || why !== null) this.#lost = why;
    this.sequence?.free();
    this.sequence = null;
    this.tokens = [];
  }
}

/** What a session had for a prompt. */
export interface Reuse {
  readonly kept: { readonly sequence: CacheSequence; readonly shared: number } | null;
  /** Why not more tokens of the prompt; null: all that can be were. */
  readonly why: string | null;
}

/** Cuts all slots back to the position that every one of them has reached, and returns it. */
function level(sequence: CacheSequence): number {
  let lowest = sequence.position;
  for (let slot = 0; slot < sequence.cache.shape.slots; slot++) lowest = Math.min(lowest, sequence.nextPosition(slot));
  if (lowest < sequence.position) sequence.truncate(lowest);
  return lowest;
}
