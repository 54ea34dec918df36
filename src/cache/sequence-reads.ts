import { measure, measureParked } from './account.ts';
import type { KvCache } from './cache.ts';
import { readColumn } from './column.ts';
import type { Content } from './content.ts';
import { exactRanges, fullPageRanges } from './exact-ranges.ts';
import { fetchedEntries } from './fetch.ts';
import { pieceRows } from './parked.ts';
import { pieceBounds, unitOf } from './piece-bounds.ts';
import { read, readKeys } from './read.ts';
import { writePieces, writeRanges } from './reads.ts';
import { Ref } from './ref-list.ts';
import type { ParkedUnits, Ranges, ReadResult, SequenceOptions, SequenceStats, ViewInfo } from './types.ts';

/** What a sequence holds, as its readers see it; nothing here changes that. */
export class SequenceReads {
  readonly cache: KvCache;
  readonly owner: string;
  readonly options: SequenceOptions;
  readonly #content: Content;
  readonly #kvHeads: number;
  #shifts = Int32Array.of(0);
  #shiftsVersion = -1;

  constructor(cache: KvCache, options: SequenceOptions, content: Content) {
    this.cache = cache;
    this.owner = options.owner;
    this.options = options;
    this.#content = content;
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

  /** Counts the changes of the views other than appends and fetches; a fork starts with its parent's number. */
  get edits(): number {
    return this.#content.edits;
  }

  /** Rows prepared and not yet committed. */
  pending(slot: number): number {
    this.#content.viewOf(slot, 0);
    return this.#content.pending[slot]!;
  }

  /** Did the last commit of this slot fill a page of one of its views? Nothing else must have changed since. */
  justFilled(slot: number): boolean {
    return this.#content.filled[slot] === 1;
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

  /** How many entries of a view, from the first on, are copies of parked ones. */
  fetchedEntries(slot: number, head: number): number {
    this.#content.checkAlive();
    return fetchedEntries(this.#content, this.#content.viewOf(slot, head));
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

  /** The state object of a method: structured-cloned by fork. */
  state<T>(name: string): T | undefined {
    return this.#content.states.get(name)?.value as T | undefined;
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
}

const ref = new Ref();
const NO_UNITS: ParkedUnits = {
  count: 0,
  pieces: 1,
  lengths: new Uint32Array(),
  kind: 'mean',
  index: new Float32Array(),
};

function distinctShifts(c: Content): Int32Array<ArrayBuffer> {
  const shifts = new Set([0]);
  for (let view = 0; view < c.refs.length; view++) {
    for (let i = 0; i < c.refs[view]!; i++) shifts.add(ref.load(c.storage.memory, c.ref(view, i)).shift);
  }
  return Int32Array.from(shifts);
}
