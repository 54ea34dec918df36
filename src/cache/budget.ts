import { KvasirError } from '../errors.ts';

/** `kv_cache_full`: more bytes were asked for than the limit leaves. Nothing has changed. */
export class KvCacheFullError extends KvasirError {
  /** Bytes asked for, and bytes that were free (neither held nor promised to others). */
  readonly needed: number;
  readonly free: number;

  constructor(field: string, value: unknown, needed: number, free: number, limit: number) {
    super(
      'kv_cache_full',
      `The KV cache needs ${needed} more bytes for ${field} ${String(value)}, ${free} of ${limit} are free.`,
      {
        field,
        value,
        allowed: `what fits in ${free} bytes`,
      },
    );
    this.needed = needed;
    this.free = free;
  }
}

/** A limit in bytes that one or several caches share. Invariant: held + reserved <= limit. */
export class CacheBudget {
  readonly limit: number;
  #held = 0;
  #reserved = 0;
  #peak = 0;

  constructor(limit: number) {
    if (!(Number.isFinite(limit) && limit >= 0)) {
      throw new KvasirError('invalid_request', 'The KV cache limit must be a number of bytes.', {
        field: 'limit',
        value: limit,
        allowed: 'a finite number >= 0',
      });
    }
    this.limit = limit;
  }

  get held(): number {
    return this.#held;
  }

  get reserved(): number {
    return this.#reserved;
  }

  /** The most bytes held at any moment. */
  get peak(): number {
    return this.#peak;
  }

  /** Bytes neither held nor promised. */
  get free(): number {
    return this.limit - this.#held - this.#reserved;
  }

  /** Counts `bytes` as held, `promised` of them out of a promise. The caller has checked that they fit. */
  take(bytes: number, promised = 0): void {
    this.#held += bytes;
    this.#reserved -= promised;
    if (this.#held > this.#peak) this.#peak = this.#held;
  }

  give(bytes: number): void {
    this.#held -= bytes;
  }

  /** Changes the sum of promises by `bytes`; the caller has checked that they fit. */
  promise(bytes: number): void {
    this.#reserved += bytes;
  }
}
