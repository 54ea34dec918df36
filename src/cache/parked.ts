import { KvasirError } from '../errors.ts';
import type { Content, Storage } from './content.ts';
import { HotCopies } from './hot-copies.ts';
import type { ParkTotals } from './park-totals.ts';
import { Bytes } from './row-bytes.ts';
import type { StoredUnit } from './stored-unit.ts';
import { boundsOf, decodeKeys, type IndexShape, indexWidth, meanOf, pieceStart } from './unit-index.ts';

/** Bytes of one unit's row in the tables of this file, its row of the index not counted. */
const UNIT_BYTES = 88;

/** A unit as one view has it. */
export interface ParkedUnit {
  readonly stored: StoredUnit;
  /** Rows that are left of it, ascending; null: all. */
  readonly rows: Uint32Array | null;
}

/** Live rows of pieces [piece, piece + 1) of 2^level of a unit. */
export function pieceRows({ stored, rows }: ParkedUnit, level: number, piece: number): number {
  const from = pieceStart(stored.positions.length, level, piece);
  const to = pieceStart(stored.positions.length, level, piece + 1);
  if (!rows) return to - from;
  let count = 0;
  for (const row of rows) if (row >= from && row < to) count++;
  return count;
}

/** Bytes of ordinary memory that a unit takes in a view, its rows and positions not counted. */
export function unitBytes(index: IndexShape, headDim: number): number {
  return UNIT_BYTES + indexWidth(index, headDim) * 4;
}

/** The units of one view, in the order of their numbers: immutable, shared by forks. Holds one reference on each unit. */
export class ParkedView {
  readonly units: readonly ParkedUnit[];
  readonly lengths: Uint32Array;
  readonly shape: IndexShape;
  /** f32 [units][indexWidth] */
  readonly #index: Float32Array;
  /** Units that have lost rows: their rows of the index are computed when asked for. */
  readonly #stale: Set<number>;
  readonly #totals: ParkTotals;
  readonly #bytes: number;
  #refs = 1;

  /** Takes over the caller's references on the units. */
  constructor(
    totals: ParkTotals,
    units: readonly ParkedUnit[],
    shape: IndexShape,
    index: Float32Array,
    stale: Set<number>,
  ) {
    this.units = units;
    this.lengths = Uint32Array.from(units, ({ stored, rows }) => rows?.length ?? stored.positions.length);
    this.shape = shape;
    this.#index = index;
    this.#stale = stale;
    this.#totals = totals;
    let bytes = index.byteLength + units.length * UNIT_BYTES;
    for (const { rows } of units) bytes += rows?.byteLength ?? 0;
    this.#bytes = bytes;
    totals.take(bytes);
  }

  /** Bytes of the view without its units, which others may hold too. */
  get tableBytes(): number {
    return this.#bytes;
  }

  /** Bytes of its units that lie in a file. */
  get fileBytes(): number {
    let bytes = 0;
    for (const { stored } of this.units) if (stored.tier === 'file') bytes += stored.blobBytes;
    return bytes;
  }

  retain(): void {
    this.#refs++;
  }

  release(): void {
    if (--this.#refs > 0) return;
    for (const { stored } of this.units) stored.release();
    this.#totals.give(this.#bytes);
  }

  /** With more units of the same shape behind; takes over the caller's references on those. */
  with(added: readonly ParkedUnit[], addedIndex: Float32Array): ParkedView {
    for (const { stored } of this.units) stored.retain();
    const index = new Float32Array(this.#index.length + addedIndex.length);
    index.set(this.#index);
    index.set(addedIndex, this.#index.length);
    return new ParkedView(this.#totals, [...this.units, ...added], this.shape, index, new Set(this.#stale));
  }

  /** Without the rows at `position` and after; units that lose all are gone, later ones move up. `this` where nothing is lost. */
  cut(position: number): ParkedView {
    if (!this.units.some(({ stored }) => stored.positions.some(at => at >= position))) return this;
    const units: ParkedUnit[] = [];
    const from: number[] = [];
    const stale = new Set<number>();
    for (const [n, { stored, rows }] of this.units.entries()) {
      const all = rows ?? Uint32Array.from(stored.positions.keys());
      const left = all.filter(row => stored.positions[row]! < position);
      if (left.length === 0) continue;
      if (left.length < all.length || this.#stale.has(n)) stale.add(units.length);
      units.push(left.length < all.length ? { stored, rows: left } : { stored, rows });
      from.push(n);
      stored.retain();
    }
    const width = this.units.length === 0 ? 0 : this.#index.length / this.units.length;
    const index = new Float32Array(units.length * width);
    for (const [to, n] of from.entries()) index.set(this.#index.subarray(n * width, (n + 1) * width), to * width);
    const cut = new ParkedView(this.#totals, units, this.shape, index, this.shape.kind === 'given' ? new Set() : stale);
    return cut;
  }

  /** f32 [units][indexWidth]. May raise `memory_limit` or `backend_failed` where a unit has lost rows. */
  index(storage: Storage): Float32Array {
    const { headDim } = storage.shape;
    for (const n of this.#stale) {
      const { stored, rows } = this.units[n]!;
      const bytes = new Bytes();
      stored.readRows(bytes, 0, 0, stored.positions.length * stored.rowBytes.size);
      const keys = decodeKeys(storage, stored.rowBytes, bytes, rows!);
      const row = this.shape.kind === 'mean' ? meanOf(keys, headDim) : boundsOf(keys, headDim, 0, rows!.length);
      this.#index.set(row, n * row.length);
      this.#stale.delete(n);
    }
    return this.#index;
  }
}

/** Refuses a verb that gives entries of slots [from, to) other positions, as parked ones keep theirs. */
export function checkNothingParked(c: Content, verb: string, from: number, to: number): void {
  const { kvHeads } = c.storage.shape;
  for (const view of c.parked.keys()) {
    if (view < from * kvHeads || view >= to * kvHeads) continue;
    throw new KvasirError('invalid_request', `Cannot ${verb}: entries of the sequence are parked.`, {
      field: 'slot',
      value: Math.floor(view / kvHeads),
      allowed: 'slots without parked entries',
    });
  }
}

/** Takes the place of a view's units; null: none any more. */
export function setParked(c: Content, view: number, parked: ParkedView): void {
  c.parked.get(view)?.release();
  if (parked.units.length > 0) {
    c.parked.set(view, parked);
    return;
  }
  parked.release();
  c.parked.delete(view);
  c.hot.get(view)?.clear();
  c.hot.delete(view);
  c.recent.delete(view);
}

/** The copies in memory of what a view has in a file. */
export function hotCopies(c: Content, view: number): HotCopies {
  let hot = c.hot.get(view);
  if (!hot) {
    hot = new HotCopies(c.storage.parked);
    c.hot.set(view, hot);
  }
  return hot;
}
