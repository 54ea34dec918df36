import type { KvCache } from './cache.ts';
import type {
  KeepItem,
  KeepOptions,
  PreparedKeep,
  Ranges,
  ReadResult,
  SequenceOptions,
  SequenceStats,
  ViewInfo,
} from './types.ts';

/**
 * The cached keys and values of one token sequence: for every cache slot and KV head a view, an ordered list of
 * references into pages that may be shared with other sequences (copy on write).
 *
 * Appending, for each tile of rows:
 *   prepareAppend(rows)                      everything is allocated, or nothing changed and `kv_cache_full` is raised
 *   for each slot: writeAppendItems(slot, …) adds APPEND records to the caller's list (of several sequences, if it likes)
 *                  kernels.run(KIND_APPEND, …)
 *                  commitAppend(slot)        the rows are now seen through view(slot, head)
 * Rows prepared at once may be written and committed in several parts, and slots need not go in step (layer-major prefill).
 * No other verb may be called while prepared rows are neither committed nor rolled back.
 */
export declare class CacheSequence {
  readonly cache: KvCache;
  readonly owner: string;
  readonly options: SequenceOptions;

  /** Position of the next row: one more than the last appended row's, over all slots. */
  readonly position: number;
  /** The same for one slot. */
  nextPosition(slot: number): number;

  /**
   * Promises room for `tokens` more rows in every slot (positions ascending): they will not meet `kv_cache_full`.
   * Replaces an earlier promise; 0 gives it back. Raises `kv_cache_full` (KvCacheFullError: needed, free) and changes nothing.
   */
  reserve(tokens: number): void;

  /**
   * Makes room for `rows` rows in the slots [fromSlot, toSlot): all or nothing, raises `kv_cache_full`.
   * @param positions i32[rows]; without it each slot counts on from nextPosition(slot)
   * Pages that span several slots need whole groups of slots. Allocates nothing where every last page has room.
   */
  prepareAppend(rows: number, positions?: Int32Array, fromSlot?: number, toSlot?: number): void;
  /** Rows prepared and not yet committed. */
  pending(slot: number): number;
  /** APPEND records that writeAppendItems will write; at most kvHeads * (ceil(rows / 64) + 1) where positions ascend. */
  appendItemCount(slot: number, rows?: number): number;
  /**
   * Writes the APPEND records of the next `rows` prepared rows of a slot, for all its KV heads.
   * @param items address of the first record to write
   * @param k, v addresses of f32 [rows, kvHeads * headDim], keys before RoPE
   * @param stride floats from one row to the next
   * @param turn address of f32 [rows][rotary], the rotary table of these rows (TURN, shift 0)
   * @returns how many records were written
   */
  writeAppendItems(
    slot: number,
    items: number,
    k: number,
    v: number,
    stride: number,
    turn: number,
    rows?: number,
  ): number;
  /** The next `rows` prepared rows (default all) have been written: advances the views of the slot. */
  commitAppend(slot: number, rows?: number): void;
  /** commitAppend of every slot that has prepared rows. */
  commit(): void;
  /** Drops prepared rows of all slots, written or not, as if they had never been prepared. */
  rollback(): void;
  /** Takes back the rows of each slot's last prepareAppend after their commit (probe rows); nothing else may have happened since. */
  undoAppend(): void;

  /** A sequence with the same content; pages are shared until one side writes. */
  fork(owner?: string): CacheSequence;
  /** Removes the entries with position >= `position` from every view; the next row continues there. Cannot fail. */
  truncate(position: number): void;
  /** Keeps only the given entries of the named views (others stay whole). Changes nothing until apply(). */
  prepareKeep(plan: readonly KeepItem[], options?: KeepOptions): PreparedKeep;
  /** prepareKeep of one view, applied. */
  keep(slot: number, head: number, ranges: Ranges | Uint32Array): void;
  /**
   * Moves the entries with position in [from, to) by `delta` positions, by reference: pages are not touched. Where the range
   * reaches the end, the next position moves along. Every moved entry must land in 0 .. next position - 1 (else a later
   * query would not see it): raises `invalid_request` and changes nothing.
   */
  shift(delta: number, from: number, to: number): void;
  /** Distinct shifts of all references, 0 first: the forward pass prepares one rotary table for each. Do not change it. */
  shifts(): Int32Array;
  /** Gives everything back. Later calls raise `disposed`. */
  free(): void;

  /** ATTEND_REFS, ATTEND_REF_COUNT and number of entries of a view; valid until the next verb that changes the sequence. */
  refs(slot: number, head: number): number;
  refCount(slot: number, head: number): number;
  entries(slot: number, head: number): number;
  /** The three above in one object. */
  view(slot: number, head: number): ViewInfo;

  /** Positions of the entries, shift included: i32 [entries]. */
  positions(slot: number, head: number): Int32Array;
  /** Decoded rows in order of entries. Keys as stored: turned by their stored position, not by a shift. */
  read(slot: number, head: number): ReadResult;
  /** Values of a named column: f32 [entries]; new rows start at 0. */
  column(slot: number, head: number, name: string): Float32Array;
  /** Sets a column; shared pages are copied first (may raise `kv_cache_full`, then nothing changed). */
  setColumn(slot: number, head: number, name: string, values: Float32Array): void;

  /** The state object of a method: structured-cloned by fork, counted in bytes when set. */
  state<T>(name: string): T | undefined;
  setState(name: string, value: unknown): void;

  stats(): SequenceStats;
}
