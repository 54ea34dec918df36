import type { CacheSequence } from '../cache/sequence.ts';
import type { FormatName } from '../cache/types.ts';
import type { Program } from './program/program.ts';
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

  constructor(id: string, model: string) {
    this.id = id;
    this.model = model;
  }

  get busy(): boolean {
    return this.request !== null;
  }

  /**
   * The kept cache for a new prompt, or null: cut back to what it shares with the prompt where every entry stands for its own
   * token; whole where a recipe has changed it, and then only if the prompt goes on from there. At least one prompt token is
   * left to run, since its logits are needed.
   */
  take(
    prompt: readonly number[],
    format: FormatName,
    program: Program | null,
  ): { sequence: CacheSequence; shared: number } | null {
    if (!this.sequence || this.format !== format || !this.#goesOn(program)) {
      this.drop();
      return null;
    }
    let shared = 0;
    const most = Math.min(this.tokens.length, prompt.length - 1);
    while (shared < most && this.tokens[shared] === prompt[shared]) shared++;
    if (this.program && shared < this.tokens.length) {
      this.drop();
      return null;
    }
    const sequence = this.sequence;
    if (!this.program) {
      sequence.truncate(shared);
      setSegments(sequence, [], shared);
    }
    this.sequence = null;
    this.tokens = [];
    return { sequence, shared };
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

  /**
   * May a cache that was filled under `this.program` go on under another? From the full cache, yes, where the pages have what
   * the new recipe needs; from a recipe only under the same one, since what it dropped is gone.
   */
  #goesOn(program: Program | null): boolean {
    if (this.program) return this.program.text === program?.text;
    return !program?.needsPages;
  }

  /** Frees the cache now, or when the request that uses it ends. */
  close(): void {
    this.#closed = true;
    this.drop();
  }

  drop(): void {
    this.sequence?.free();
    this.sequence = null;
    this.tokens = [];
  }
}

/** Cuts all slots back to the position that every one of them has reached, and returns it. */
function level(sequence: CacheSequence): number {
  let lowest = sequence.position;
  for (let slot = 0; slot < sequence.cache.shape.slots; slot++) lowest = Math.min(lowest, sequence.nextPosition(slot));
  if (lowest < sequence.position) sequence.truncate(lowest);
  return lowest;
}
