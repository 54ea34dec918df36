import { KvasirError } from '../errors.ts';
import { measure, measureParked, notePeak } from './account.ts';
import { prepareAppend } from './append.ts';
import type { KvCache } from './cache.ts';
import { prepareColumns, readColumn, writeColumn } from './column.ts';
import { appendItemCount, commitAppend, rollback, undoAppend, writeAppendItems } from './commit.ts';
import type { Content } from './content.ts';
import { dropEntries } from './drop.ts';
import { prepareEncode } from './encode.ts';
import { exactRanges, fullPageRanges } from './exact-ranges.ts';
import { fetch, fetchedEntries, pieceBounds, unitOf } from './fetch.ts';
import { fork } from './fork.ts';
import { inOrder } from './in-order.ts';
import { prepareJoin } from './join.ts';
import { prepareKeep } from './keep.ts';
import { prepareMap } from './map.ts';
import { prepareMerge } from './merge.ts';
import { preparePark } from './park.ts';
import { pieceRows } from './parked.ts';
import { reserve } from './promise.ts';
import { read, readKeys } from './read.ts';
import { writePieces, writeRanges } from './reads.ts';
import { Ref } from './ref-list.ts';
import { renumber } from './renumber.ts';
import { shift } from './shift.ts';
import { setState } from './state.ts';
import { truncate } from './truncate.ts';
import type {
  ColumnItem,
  EncodeItem,
  JoinItem,
  KeepItem,
  KeepOptions,
  MapItem,
  MergeItem,
  ParkedUnits,
  ParkItem,
  PreparedKeep,
  PreparedPlan,
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
export class CacheSequence {
  readonly cache: KvCache;
  readonly owner: string;
  readonly options: SequenceOptions;
  readonly #content: Content;
  readonly #slots: number;
  readonly #kvHeads: number;
  #shifts = Int32Array.of(0);
  #shiftsVersion = -1;

  /** Made by KvCache.create and fork. */
  constructor(cache: KvCache, options: SequenceOptions, content: Content) {
    this.cache = cache;
    this.owner = options.owner;
    this.options = options;
    this.#content = content;
    this.#slots = cache.shape.slots;
    this.#kvHeads = cache.shape.kvHeads;
  }

  /** Position of the next row: one more than the last appended row's; the greatest of all slots'. */
  get position(): number {
    let position = 0;
    for (const next of this.#content.next) if (next > position) position = next;
    return position;
  }

  /** The same for one slot. */
  nextPosition(slot: number): number {
    this.#content.viewOf(slot, 0);
    return this.#content.next[slot]!;
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

  /** Rows prepared and not yet committed. */
  pending(slot: number): number {
    this.#content.viewOf(slot, 0);
    return this.#content.pending[slot]!;
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

  /** A sequence with the same content and states; pages are shared until one side writes. Promises are not passed on. */
  fork(owner = this.owner): CacheSequence {
    this.#content.checkAtRest('fork');
    const options = { ...this.options, owner };
    return this.cache.adopt(options, fork(this.#content, owner));
  }

  /** Removes the entries with position >= `position` from every view; the next row continues there at the latest. Cannot fail. */
  truncate(position: number): void {
    this.#content.checkAtRest('truncate');
    if (!(Number.isInteger(position) && position >= 0)) {
      throw new KvasirError('invalid_request', `Cannot truncate at ${position}.`, {
        field: 'position',
        value: position,
        allowed: 'a whole number',
      });
    }
    truncate(this.#content, position);
  }

  /**
   * Keeps only the given entries of the named views (others stay whole); changes nothing until apply(). Rows are moved
   * together within a view's own pages, codes and parameters alike; pages shared with others, and joint pages whose views
   * keep different rows, only get holes in their masks. Raises `invalid_request`, never `kv_cache_full`.
   */
  prepareKeep(plan: readonly KeepItem[], options?: KeepOptions): PreparedKeep {
    this.#content.checkAtRest('keep');
    return prepareKeep(this.#content, plan, options);
  }

  /** prepareKeep of one view, applied. */
  keep(slot: number, head: number, ranges: Ranges | Uint32Array): void {
    this.prepareKeep([{ slot, head, ranges }]).apply();
  }

  /**
   * Stores entries in other formats: their live rows, in order, in new pages of up to 64 rows, positions, shifts and columns as
   * they were. Only rows of exact planes can be encoded (with `again` those of scalar planes too). Pages of a range stand where
   * it stood; those of single entries come, item by item, before the record that holds the first of all single entries of
   * their view. Where an item leaves one plane out, that plane's bytes are copied, and it must be a range of all live rows of
   * whole pages. Several items may name one view; their entries are disjoint.
   * The new pages are made at once (the old ones go with apply()); nothing else changes until then. Raises `invalid_request`
   * naming the item's field, `kv_cache_full` or `memory_limit`; then nothing has changed.
   */
  prepareEncode(plan: readonly EncodeItem[]): PreparedPlan {
    this.#content.checkAtRest('encode');
    return prepareEncode(this.#content, plan);
  }

  /**
   * Moves entries of several views into pages that the views share: rows once, each view's norms and basis beside them. The
   * entries must be the same tokens, at the same positions and shifts in all views of an item; they come before what is left
   * of each view. Made and applied like prepareEncode; the same errors.
   */
  prepareJoin(plan: readonly JoinItem[]): PreparedPlan {
    this.#content.checkAtRest('join');
    return prepareJoin(this.#content, plan);
  }

  /** Ranges of a view's entries that lie in exact pages. */
  exactRanges(slot: number, head: number): Ranges {
    this.#content.checkAlive();
    return exactRanges(this.#content, this.#content.viewOf(slot, head));
  }

  /**
   * Ranges of a view's entries that lie in full exact pages: 64 live rows seen by one reference, so no growing page is among
   * them. With `plane` that plane alone must be exact.
   */
  fullPageRanges(slot: number, head: number, plane?: 'k' | 'v'): Ranges {
    this.#content.checkAlive();
    return fullPageRanges(this.#content, this.#content.viewOf(slot, head), plane);
  }

  /** Did the last commit of this slot fill a page of one of its views? Nothing else must have changed since. */
  justFilled(slot: number): boolean {
    return this.#content.filled[slot] === 1;
  }

  /**
   * Replaces groups of entries by one each: the target's row becomes the weighted sum of its members' rows as stored, the
   * other members are dropped; the target keeps its position and its columns but `bias`, which becomes what the item says
   * (default 0). Sums are taken in float64 and stored in the page's own format; `direction` weighs unit keys (a zero key has
   * none) and sets the norm to the weighted mean of norms. Pages shared with others are copied first. Changes nothing until
   * apply(). Raises `invalid_request` (an entry in two groups, encoded rows, a bias without that column, members at
   * different shifts where keys are turned), `kv_cache_full`.
   */
  prepareMerge(items: readonly MergeItem[]): PreparedPlan {
    this.#content.checkAtRest('merge');
    return prepareMerge(this.#content, items);
  }

  /**
   * Rewrites rows of entries: each becomes f(rows of its sources, as stored), f from a fixed list (RowMap); sources may lie in any
   * view, and all are read before any target is written. Positions, columns and order stay. Written in the page's own format;
   * pages shared with others are copied first. Changes nothing until apply(). Raises `invalid_request` (a target in an encoded
   * page, keys that are not turned alike, `rotate` where keys are stored before RoPE), `kv_cache_full`, `memory_limit`.
   */
  prepareMap(items: readonly MapItem[]): PreparedPlan {
    this.#content.checkAtRest('map');
    return prepareMap(this.#content, items);
  }

  /**
   * Moves entries out of the arena, in units that come back whole (fetch): rows bit for bit as their pages hold them,
   * positions and columns as they are now. A view's units are numbered in the order of all its plans; forks share them. What is
   * left of the views is packed. The rows are written to their place at once, nothing else changes until apply(). Raises
   * `invalid_request` (encoded rows, entries in two units, keys that a shift turns, joint pages), `unsupported` where the
   * cache has no place for a file, `kv_cache_full` (ordinary memory, the disk), `memory_limit`, `backend_failed` (the file);
   * then nothing has changed.
   */
  preparePark(items: readonly ParkItem[]): PreparedPlan {
    this.#content.checkAtRest('park');
    return preparePark(this.#content, items);
  }

  /** The parked units of a view, fetched or not. A truncate that takes all of a unit moves later ones up. Do not change them. */
  units(slot: number, head: number): ParkedUnits {
    const parked = this.#content.parked.get(this.#content.viewOf(slot, head));
    if (!parked) return NO_UNITS;
    const { units, lengths, shape } = parked;
    const index = parked.index(this.cache.storage);
    return { count: units.length, pieces: 1 << shape.halvings, lengths, kind: shape.kind, index };
  }

  /** Entries in piece `piece` of the 2^level pieces of a parked unit. */
  pieceRows(slot: number, head: number, unit: number, level: number, piece: number): number {
    return pieceRows(unitOf(this.#content, this.#content.viewOf(slot, head), unit), level, piece);
  }

  /**
   * Bounds of pieces `piece`, an even number, and `piece` + 1 of the 2^level pieces of a parked unit, read from where its rows
   * lie: f32 [2][2 * headDim], valid until the next call. Raises `backend_failed` (the file).
   */
  pieceBounds(slot: number, head: number, unit: number, level: number, piece: number): Float32Array {
    return pieceBounds(this.#content, this.#content.viewOf(slot, head), unit, level, piece);
  }

  /**
   * Makes parked pieces of a view (numbered as in `units`) resident: those that are stay where they are, others are copied
   * into pages of fetched rows. Of those resident beside them so many stay that there are at most `resident` fetched rows in
   * all, the ones named last longest ago go first (they stay parked). Fetched entries come before the rest of the view, in
   * any order. Columns set on them are not parked again. Returns how many rows were copied. Raises `invalid_request` on
   * pieces that there are not, `kv_cache_full`, `memory_limit`, `backend_failed` (the file); then the old ones stay resident.
   */
  fetch(slot: number, head: number, pieces: Uint32Array, resident = 0): number {
    const c = this.#content;
    c.checkAtRest('fetch');
    return fetch(c, c.viewOf(slot, head), pieces, resident);
  }

  /**
   * Writes the REF records of a part of a view at an address that has room for refCount(slot, head) of them: of fetched
   * entries those of the named pieces, and all others. Valid until the next verb that changes the sequence.
   * @returns how many records there are
   */
  writePieces(slot: number, head: number, pieces: Uint32Array, count: number, address: number): number {
    return writePieces(this.#content, this.#content.viewOf(slot, head), pieces, count, address);
  }

  /** The same for ranges of entries: pairs (from, to), ascending, the first `count` of them. */
  writeRanges(slot: number, head: number, ranges: Uint32Array, count: number, address: number): number {
    return writeRanges(this.#content, this.#content.viewOf(slot, head), ranges, count, address);
  }

  /** Counts the changes of the views other than appends and fetches; a fork starts with its parent's number. */
  get edits(): number {
    return this.#content.edits;
  }

  /** How many entries of a view, from the first on, are copies of parked ones. */
  fetchedEntries(slot: number, head: number): number {
    this.#content.checkAlive();
    return fetchedEntries(this.#content, this.#content.viewOf(slot, head));
  }

  /**
   * Removes one entry of a view; later entries move up by one. Costs a look at each of the view's records and allocates
   * nothing, so it may be called for every view at every step; every few hundred drops the view's rows are packed.
   * Shared and encoded pages only get a hole in the mask. Raises `invalid_request` where there is no such entry.
   */
  drop(slot: number, head: number, entry: number): void {
    this.dropOldest(slot, head, entry, 1);
  }

  /** Removes entries [from, from + count) of a view in the same way: a window that moves on behind its sinks. */
  dropOldest(slot: number, head: number, from: number, count: number): void {
    const c = this.#content;
    c.checkAtRest('drop');
    const view = c.viewOf(slot, head);
    if (!(Number.isInteger(from) && Number.isInteger(count) && from >= 0 && count >= 0)) {
      throw badDrop(from, count, c.entries[view]!);
    }
    if (from + count > c.entries[view]!) throw badDrop(from, count, c.entries[view]!);
    if (count > 0) dropEntries(c, view, from, count);
  }

  /**
   * Moves the entries with position in [from, to) by `delta` positions, by reference: pages are not touched. Where the range
   * reaches the end, the next position moves along. Every entry must then lie in 0 .. next position - 1 (else a later query
   * would not see it): raises `invalid_request` and changes nothing; so does `kv_cache_full`, where references are split.
   */
  shift(delta: number, from: number, to: number): void {
    this.#content.checkAtRest('shift');
    shift(this.#content, delta, from, to);
  }

  /**
   * Gives the entries of a slot's views the positions 0, 1, 2, ... in order; the slot's next position becomes the greatest
   * number of entries of its heads, so slots come to differ: queries of this slot stand at nextPosition(slot). Exact, as keys
   * before RoPE are turned on read by their stored position and queries by their distance to a reference's shift (rows of
   * its own pages get other stored positions, pages shared with others are shifted, or copied where their rows part).
   * Cheap where little moves, so it may follow every drop. Raises `invalid_request` where a moved entry's key is stored
   * after RoPE or its page spans several views, `kv_cache_full`; then nothing has changed.
   */
  renumber(slot: number): void {
    this.#content.checkAtRest('renumber');
    this.#content.viewOf(slot, 0);
    renumber(this.#content, slot);
  }

  /** Distinct shifts of all references, 0 first: the forward pass prepares one rotary table for each. Do not change it. */
  shifts(): Int32Array {
    const c = this.#content;
    // Appends bring no new shift.
    if (this.#shiftsVersion !== c.edits) {
      this.#shifts = distinctShifts(c);
      this.#shiftsVersion = c.edits;
    }
    return this.#shifts;
  }

  /** Gives everything back; may be called again. Later calls of other verbs raise `disposed`. */
  free(): void {
    if (this.#content.freed) return;
    this.rollback();
    this.#content.free();
    this.cache.forget(this);
  }

  /** ATTEND_REFS, ATTEND_REF_COUNT and number of entries of a view; valid until the next verb that changes the sequence. */
  refs(slot: number, head: number): number {
    return this.#content.refsAt[slot * this.#kvHeads + head]!;
  }

  refCount(slot: number, head: number): number {
    return this.#content.refs[slot * this.#kvHeads + head]!;
  }

  entries(slot: number, head: number): number {
    return this.#content.entries[slot * this.#kvHeads + head]!;
  }

  /** The three above in one object. */
  view(slot: number, head: number): ViewInfo {
    const view = this.#content.viewOf(slot, head);
    const c = this.#content;
    return { refs: c.refsAt[view]!, refCount: c.refs[view]!, entries: c.entries[view]! };
  }

  /** Positions of the entries, shift included: i32 [entries]. */
  positions(slot: number, head: number): Int32Array {
    const view = this.#content.viewOf(slot, head);
    const positions = new Int32Array(this.#content.entries[view]!);
    this.#content.readPositions(view, positions);
    return positions;
  }

  /** Decoded rows in order of entries. Keys as stored: turned by their stored position, not by a shift. */
  read(slot: number, head: number): ReadResult {
    this.#content.checkAlive();
    return read(this.#content, slot, head);
  }

  /** The keys of entries [from, to) alone: f32 [to - from, headDim]. */
  readKeys(slot: number, head: number, from: number, to: number): Float32Array {
    this.#content.checkAlive();
    return readKeys(this.#content, slot, head, from, to);
  }

  /** Values of a named column: f32 [entries], or the first ones of `into`; new rows start at 0. */
  column(slot: number, head: number, name: string, into?: Float32Array): Float32Array {
    this.#content.checkAlive();
    return readColumn(this.#content, this.#content.viewOf(slot, head), name, into);
  }

  /** Sets a column; shared pages are copied first (may raise `kv_cache_full`, then nothing changed). */
  setColumn(slot: number, head: number, name: string, values: Float32Array): void {
    this.#content.checkAtRest('setColumn');
    writeColumn(this.#content, this.#content.viewOf(slot, head), name, values);
  }

  /** setColumn of several views and names as one plan, made and applied like prepareMerge; the same errors as setColumn's. */
  prepareColumns(items: readonly ColumnItem[]): PreparedPlan {
    this.#content.checkAtRest('columns');
    return prepareColumns(this.#content, items);
  }

  /**
   * Plans one after the other: each is prepared on what those before it have left, and applied. A step may also act itself and
   * return nothing. Where one raises an error the views are what they were before the first; states and promises are not
   * touched. Until the last plan is prepared, pages that the ones before have given up still count as held.
   */
  inOrder(steps: readonly (() => PreparedPlan | undefined)[]): void {
    this.#content.checkAtRest('inOrder');
    inOrder(this.#content, steps);
  }

  /** The state object of a method: structured-cloned by fork. */
  state<T>(name: string): T | undefined {
    return this.#content.states.get(name)?.value as T | undefined;
  }

  /** Sets a state object, counts its bytes (measured now, and again at each set and fork); undefined removes it. */
  setState(name: string, value: unknown): void {
    this.#content.checkAlive();
    setState(this.#content, name, value);
  }

  stats(): SequenceStats {
    const c = this.#content;
    c.checkAlive();
    const { held, unique, items } = measure(c);
    c.peak = Math.max(c.peak, held);
    const parked = measureParked([c]);
    const { peak, fetched } = c;
    const traffic = { ...c.traffic };
    const tokens = c.entries.slice();
    return { position: this.position, held, unique, peak, tokens, bytes: items, parked, fetched, traffic };
  }

  /** The storage itself, for tests and reports. */
  get content(): Content {
    return this.#content;
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

const ref = new Ref();
const NO_UNITS: ParkedUnits = {
  count: 0,
  pieces: 1,
  lengths: new Uint32Array(),
  kind: 'mean',
  index: new Float32Array(),
};

function badDrop(from: number, count: number, entries: number): KvasirError {
  return new KvasirError('invalid_request', `Cannot drop entries ${from} to ${from + count - 1}.`, {
    field: 'entry',
    value: count === 1 ? from : `${from}..${from + count}`,
    allowed: `entries 0 to ${entries - 1}`,
  });
}

function distinctShifts(c: Content): Int32Array<ArrayBuffer> {
  const shifts = new Set([0]);
  for (let view = 0; view < c.refs.length; view++) {
    for (let i = 0; i < c.refs[view]!; i++) shifts.add(ref.load(c.storage.memory, c.ref(view, i)).shift);
  }
  return Int32Array.from(shifts);
}
