import type { Kernels, Memory } from '../backend/types.ts';
import type { CacheBudget } from './budget.ts';
import type { CacheSequence } from './sequence.ts';
import type { CacheShape, CacheStats, PageOptions, SequenceOptions } from './types.ts';

export interface KvCacheOptions {
  readonly memory: Memory;
  readonly kernels: Kernels;
  readonly shape: CacheShape;
  /** Bytes, or a budget that several caches share. */
  readonly limit: number | CacheBudget;
}

/** The KV caches of one model: makes sequences, holds their pages, keeps the accounts, enforces the limit. */
export declare class KvCache {
  constructor(options: KvCacheOptions);
  readonly memory: Memory;
  readonly kernels: Kernels;
  readonly shape: CacheShape;
  readonly budget: CacheBudget;
  /** Address of the layout table (ATTEND_LAYOUTS and the like); read it anew for every run. */
  readonly layouts: number;
  /** An empty sequence. Raises `invalid_request` on bad options, `kv_cache_full` where not even its tables fit. */
  create(options: SequenceOptions): CacheSequence;
  /** Bytes a token of page space costs over all slots and heads, positions and tables not counted. */
  bytesPerToken(pages: PageOptions): number;
  stats(): CacheStats;
  /** Frees every sequence and the tables. */
  dispose(): void;
}
