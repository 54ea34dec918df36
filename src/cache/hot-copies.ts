import type { ParkTotals } from './park-totals.ts';

/**
 * Copies in ordinary memory of what a view has in a file: rows of pieces and pairs of bounds, by number, the least recently
 * used first to go. Only what is read is faster with it, never what comes out.
 */
export class HotCopies {
  /** Bytes it may hold. */
  limit = 0;
  readonly #totals: ParkTotals;
  readonly #copies = new Map<number, Uint8Array>();
  #bytes = 0;

  constructor(totals: ParkTotals) {
    this.#totals = totals;
  }

  get bytes(): number {
    return this.#bytes;
  }

  has(number: number): boolean {
    return this.#copies.has(number);
  }

  /** What was copied; it has now been used. */
  get(number: number): Uint8Array | undefined {
    const copy = this.#copies.get(number);
    if (!copy) return undefined;
    this.#copies.delete(number);
    this.#copies.set(number, copy);
    return copy;
  }

  /** Keeps a copy of the bytes, where the limit and that of all parked entries leave room. */
  put(number: number, bytes: Uint8Array): void {
    if (bytes.length > this.limit || this.#copies.has(number)) return;
    this.#shrink(this.limit - bytes.length);
    if (!this.#totals.fits(bytes.length)) return;
    this.#copies.set(number, bytes.slice());
    this.#bytes += bytes.length;
    this.#totals.take(bytes.length);
  }

  clear(): void {
    this.#shrink(0);
  }

  #shrink(limit: number): void {
    for (const [number, { length }] of this.#copies) {
      if (this.#bytes <= limit) break;
      this.#copies.delete(number);
      this.#bytes -= length;
      this.#totals.give(length);
    }
  }
}
