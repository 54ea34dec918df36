import { KvasirError } from '../errors.ts';
import type { KvCache } from './cache.ts';
import { prepareColumns, writeColumn } from './column.ts';
import type { Content } from './content.ts';
import { dropEntries } from './drop.ts';
import { prepareEncode } from './encode.ts';
import { fetch } from './fetch.ts';
import { fork } from './fork.ts';
import { inOrder } from './in-order.ts';
import { prepareJoin } from './join.ts';
import { prepareKeep } from './keep.ts';
import { prepareMap } from './map.ts';
import { prepareMerge } from './merge.ts';
import { preparePark } from './park.ts';
import { renumber } from './renumber.ts';
import { SequenceAppend } from './sequence-append.ts';
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
  ParkItem,
  PreparedKeep,
  PreparedPlan,
  Ranges,
  SequenceOptions,
} from './types.ts';

/**
 * The cached keys and values of one token sequence: for every cache slot and KV head a view, an ordered list of
 * references into pages that may be shared with other sequences (copy on write).
 */
export class CacheSequence extends SequenceAppend {
  readonly #content: Content;

  /** Made by KvCache.create and fork. */
  constructor(cache: KvCache, options: SequenceOptions, content: Content) {
    super(cache, options, content);
    this.#content = content;
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

  /** Gives everything back; may be called again. Later calls of other verbs raise `disposed`. */
  free(): void {
    if (this.#content.freed) return;
    this.rollback();
    this.#content.free();
    this.cache.forget(this);
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

  /** Sets a state object, counts its bytes (measured now, and again at each set and fork); undefined removes it. */
  setState(name: string, value: unknown): void {
    this.#content.checkAlive();
    setState(this.#content, name, value);
  }
}

function badDrop(from: number, count: number, entries: number): KvasirError {
  return new KvasirError('invalid_request', `Cannot drop entries ${from} to ${from + count - 1}.`, {
    field: 'entry',
    value: count === 1 ? from : `${from}..${from + count}`,
    allowed: `entries 0 to ${entries - 1}`,
  });
}
