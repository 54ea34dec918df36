import { KvasirError } from '../errors.ts';
import { notePeak } from './account.ts';
import { prepareAppend } from './append.ts';
import type { KvCache } from './cache.ts';
import { appendItemCount, commitAppend, rollback, undoAppend, writeAppendItems } from './commit.ts';
import type { Content } from './content.ts';
import { reserve } from './promise.ts';
import { SequenceReads } from './sequence-reads.ts';
import type { SequenceOptions } from './types.ts';

/**
 * A sequence to which rows are added, for each tile of rows:
 *   prepareAppend(rows)                      everything is allocated, or nothing changed and `kv_cache_full` is raised
 *   for each slot: writeAppendItems(slot, …) adds APPEND records to the caller's list (of several sequences, if it likes)
 *                  kernels.run(KIND_APPEND, …)
 *                  commitAppend(slot)        the rows are now seen through view(slot, head)
 * Rows prepared at once may be written and committed in several parts, and slots need not go in step (layer-major prefill).
 * No other verb may be called while prepared rows are neither committed nor rolled back.
 */
export class SequenceAppend extends SequenceReads {
  readonly #content: Content;
  readonly #slots: number;

  constructor(cache: KvCache, options: SequenceOptions, content: Content) {
    super(cache, options, content);
    this.#content = content;
    this.#slots = cache.shape.slots;
  }

  /**
   * Promises room for `tokens` more rows in every slot (positions ascending): they will not meet `kv_cache_full`.
   * With `most`, the entries that every view is cut back to after each row, only as many pages as that takes are promised at a
   * time: those that go make room for those that come. It holds where all pages can be packed (own, exact).
   * Replaces an earlier promise; 0 gives it back. Encoding draws on it until the old pages are gone. Raises `kv_cache_full` (KvCacheFullError: needed, free) and changes nothing.
   */
  reserve(tokens: number, most = Number.POSITIVE_INFINITY): void {
    if (!(Number.isInteger(tokens) && tokens >= 0 && tokens < 2 ** 31)) {
      throw new KvasirError('invalid_request', `Cannot reserve ${tokens} tokens.`, {
        field: 'tokens',
        value: tokens,
        allowed: 'a whole number below 2^31',
      });
    }
    this.#content.checkAtRest('reserve');
    reserve(this.#content, tokens, most);
  }

  /**
   * Makes room for `rows` rows in the slots [fromSlot, toSlot): all or nothing, raises `kv_cache_full`.
   * @param positions i32[rows]; without it each slot counts on from nextPosition(slot)
   * Pages that span several slots need whole groups of slots. Allocates nothing where every last page has room.
   */
  prepareAppend(rows: number, positions?: Int32Array, fromSlot = 0, toSlot = this.#slots): void {
    prepareAppend(this.#content, rows, positions, fromSlot, toSlot);
  }

  /** APPEND records that writeAppendItems will write; at most kvHeads * (ceil(rows / 64) + 1) where positions count on. */
  appendItemCount(slot: number, rows?: number): number {
    return appendItemCount(this.#content, slot, this.#checkRows(slot, rows));
  }

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
  ): number {
    return writeAppendItems(this.#content, slot, items, k, v, stride, turn, this.#checkRows(slot, rows));
  }

  /** The next `rows` prepared rows (default all) have been written: advances the views of the slot. */
  commitAppend(slot: number, rows?: number): void {
    const count = this.#checkRows(slot, rows);
    if (count > 0) commitAppend(this.#content, slot, count);
  }

  /** commitAppend of every slot that has prepared rows. */
  commit(): void {
    for (let slot = 0; slot < this.#slots; slot++) if (this.#content.pending[slot]! > 0) this.commitAppend(slot);
  }

  /** Drops prepared rows of all slots, written or not, as if they had never been prepared. */
  rollback(): void {
    if (this.#content.pendingSlots > 0) rollback(this.#content);
  }

  /**
   * Takes back the rows of each slot's last prepareAppend after their commit (probe rows), in the slots [fromSlot, toSlot);
   * nothing else may have happened since.
   */
  undoAppend(fromSlot = 0, toSlot = this.#slots): void {
    this.#content.checkAtRest('undoAppend');
    notePeak(this.#content);
    undoAppend(this.#content, fromSlot, toSlot);
  }

  #checkRows(slot: number, rows: number | undefined): number {
    const pending = this.#content.pending[slot];
    if (rows === undefined && pending !== undefined) return pending;
    if (pending !== undefined && Number.isInteger(rows) && rows! >= 0 && rows! <= pending) return rows!;
    throw new KvasirError('invalid_request', `Slot ${slot} has ${pending ?? 'no'} prepared rows.`, {
      field: 'rows',
      value: rows,
      allowed: `at most ${pending ?? 0}`,
    });
  }
}
