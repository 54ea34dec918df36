import type { CacheSequence } from '../cache/sequence.ts';
import type { FormatName } from '../cache/types.ts';

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
   * The kept cache cut back to what it shares with a new prompt, or null. At least one prompt token is left to run,
   * since its logits are needed.
   */
  take(prompt: readonly number[], format: FormatName): { sequence: CacheSequence; shared: number } | null {
    if (!this.sequence || this.format !== format) {
      this.drop();
      return null;
    }
    let shared = 0;
    const most = Math.min(this.tokens.length, prompt.length - 1);
    while (shared < most && this.tokens[shared] === prompt[shared]) shared++;
    const sequence = this.sequence;
    sequence.truncate(shared);
    this.sequence = null;
    this.tokens = [];
    return { sequence, shared };
  }

  /** Keeps a finished request's cache for the next turn. */
  keep(sequence: CacheSequence, tokens: number[], format: FormatName): void {
    this.drop();
    if (this.#closed) {
      sequence.free();
      return;
    }
    this.sequence = sequence;
    this.tokens = tokens;
    this.format = format;
    this.usedAt = performance.now();
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
