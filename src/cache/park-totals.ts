import type { CacheBudget } from './budget.ts';
import { KvCacheFullError } from './budget.ts';

/** Ordinary memory that the parked entries of a cache may take where no limit is given. */
export const DEFAULT_PARK_LIMIT = 16 * 2 ** 30;

/** What the sequences of one cache have parked. Invariant: bytes in ordinary memory stay within the budget, files do not count. */
export class ParkTotals {
  /** Bytes outside the arena: rows, positions, indices, tables, copies in memory of what lies in a file. */
  bytes = 0;
  /** Bytes of rows that `fetch` has brought back so far. */
  fetched = 0;
  /** Numbers the pieces of units. */
  serial = 0;
  readonly #budget: CacheBudget;

  constructor(budget: CacheBudget) {
    this.#budget = budget;
  }

  /** Raises `kv_cache_full` where so many bytes of ordinary memory are not free. */
  require(bytes: number, entries: number): void {
    const { free, limit } = this.#budget;
    if (bytes > free) throw new KvCacheFullError('parked entries', entries, bytes, free, limit);
  }

  fits(bytes: number): boolean {
    return bytes <= this.#budget.free;
  }

  /** `memory` of the bytes lie in ordinary memory. */
  take(bytes: number, memory = bytes): void {
    this.bytes += bytes;
    this.#budget.take(memory);
  }

  give(bytes: number, memory = bytes): void {
    this.bytes -= bytes;
    this.#budget.give(memory);
  }
}
