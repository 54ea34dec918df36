import {
  KIND_READ,
  PAGE_TOKENS,
  READ_BYTES,
  READ_CELL,
  READ_COUNT,
  READ_FIRST,
  READ_K,
  READ_LAYOUT,
  READ_LAYOUTS,
  READ_V,
} from '../../kernels/abi.ts';
import { KvasirError } from '../errors.ts';
import type { Content, Storage } from './content.ts';
import type { ParkPlace } from './park-place.ts';
import { Bytes, type RowBytes } from './row-bytes.ts';
import type { ParkedUnits } from './types.ts';

/** Bytes of one unit's row in the tables of this file, its mean key not counted. */
const UNIT_BYTES = 88;

/** What the caches of one model have parked. */
export interface ParkedTotals {
  /** Bytes outside the arena: rows, positions, mean keys, tables. */
  bytes: number;
  /** Bytes of rows that `fetch` has brought back so far. */
  fetched: number;
  /** Numbers the units. */
  serial: number;
}

/** Rows of one unit at rest: immutable, freed with the last view that holds them. */
export class StoredUnit {
  readonly serial: number;
  /** i32 [rows] */
  readonly positions: Int32Array;
  readonly place: ParkPlace;
  readonly handle: number;
  readonly rowBytes: RowBytes;
  readonly #totals: ParkedTotals;
  #refs = 1;

  /** With one reference, the caller's. Raises what the place raises. */
  constructor(totals: ParkedTotals, place: ParkPlace, rowBytes: RowBytes, positions: Int32Array, bytes: Bytes) {
    this.handle = place.write(bytes.u8.subarray(0, positions.length * rowBytes.size));
    this.serial = ++totals.serial;
    this.positions = positions;
    this.place = place;
    this.rowBytes = rowBytes;
    this.#totals = totals;
    totals.bytes += this.bytes;
  }

  get bytes(): number {
    return this.positions.length * (this.rowBytes.size + 4);
  }

  /** All rows, one after the other, from `at` on. */
  read(into: Bytes, at: number): void {
    const end = at + this.positions.length * this.rowBytes.size;
    into.ensure(end);
    this.place.read(this.handle, into.u8.subarray(at, end));
  }

  retain(): void {
    this.#refs++;
  }

  release(): void {
    if (--this.#refs > 0) return;
    this.place.free(this.handle);
    this.#totals.bytes -= this.bytes;
  }
}

/** A unit as one view has it. */
export interface ParkedUnit {
  readonly stored: StoredUnit;
  /** Rows that are left of it, ascending; null: all. */
  readonly rows: Uint32Array | null;
}

/** The units of one view, in the order of their numbers: immutable, shared by forks. Holds one reference on each unit. */
export class ParkedView {
  readonly units: readonly ParkedUnit[];
  readonly lengths: Uint32Array;
  /** f32 [units, headDim] */
  readonly #keys: Float32Array;
  /** Units that have lost rows: their means are computed when asked for. */
  readonly #stale: Set<number>;
  readonly #totals: ParkedTotals;
  readonly #bytes: number;
  #refs = 1;

  /** Takes over the caller's references on the units. */
  constructor(totals: ParkedTotals, units: readonly ParkedUnit[], keys: Float32Array, stale: Set<number>) {
    this.units = units;
    this.lengths = Uint32Array.from(units, ({ stored, rows }) => rows?.length ?? stored.positions.length);
    this.#keys = keys;
    this.#stale = stale;
    this.#totals = totals;
    let bytes = keys.byteLength + units.length * UNIT_BYTES;
    for (const { rows } of units) bytes += rows?.byteLength ?? 0;
    this.#bytes = bytes;
    totals.bytes += bytes;
  }

  /** Bytes of the view, units whole. */
  get bytes(): number {
    let bytes = this.#bytes;
    for (const { stored } of this.units) bytes += stored.bytes;
    return bytes;
  }

  retain(): void {
    this.#refs++;
  }

  release(): void {
    if (--this.#refs > 0) return;
    for (const { stored } of this.units) stored.release();
    this.#totals.bytes -= this.#bytes;
  }

  /** With more units behind; takes over the caller's references on those. */
  with(added: readonly ParkedUnit[], addedKeys: Float32Array): ParkedView {
    for (const { stored } of this.units) stored.retain();
    const keys = new Float32Array(this.#keys.length + addedKeys.length);
    keys.set(this.#keys);
    keys.set(addedKeys, this.#keys.length);
    return new ParkedView(this.#totals, [...this.units, ...added], keys, new Set(this.#stale));
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
    const headDim = this.#keys.length / this.units.length;
    const keys = new Float32Array(units.length * headDim);
    for (const [to, n] of from.entries()) keys.set(this.#keys.subarray(n * headDim, (n + 1) * headDim), to * headDim);
    return new ParkedView(this.#totals, units, keys, stale);
  }

  /** May raise `memory_limit` or `backend_failed` where a unit has lost rows. */
  index(storage: Storage): ParkedUnits {
    const headDim = this.units.length === 0 ? 0 : this.#keys.length / this.units.length;
    for (const n of this.#stale) {
      const { stored, rows } = this.units[n]!;
      const bytes = new Bytes();
      stored.read(bytes, 0);
      const all = rows ?? Uint32Array.from(stored.positions.keys());
      this.#keys.set(meanKey(storage, stored.rowBytes, bytes, all), n * headDim);
      this.#stale.delete(n);
    }
    return { count: this.units.length, lengths: this.lengths, means: this.#keys };
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
}

/** Mean of the keys of some rows, as they are stored, in float64. Decoded by the kernels from a cell of its own. */
export function meanKey(storage: Storage, rowBytes: RowBytes, bytes: Bytes, rows: Uint32Array): Float32Array {
  const { memory, kernels, layouts, shape } = storage;
  const { headDim } = shape;
  const sum = new Float64Array(headDim);
  const { cellBytes } = layouts.get(rowBytes.layout);
  const plane = PAGE_TOKENS * headDim * 4;
  const work = memory.alloc(cellBytes + plane + READ_BYTES);
  try {
    const out = work + cellBytes;
    const at = (out + plane) >>> 2;
    for (let from = 0; from < rows.length; from += PAGE_TOKENS) {
      const count = Math.min(PAGE_TOKENS, rows.length - from);
      for (let row = 0; row < count; row++) rowBytes.put(work, row, bytes, rows[from + row]! * rowBytes.size);
      const { u32, f32 } = memory;
      u32[at + READ_CELL / 4] = work;
      u32[at + READ_LAYOUT / 4] = rowBytes.layout;
      u32[at + READ_FIRST / 4] = 0;
      u32[at + READ_COUNT / 4] = count;
      u32[at + READ_K / 4] = out;
      u32[at + READ_V / 4] = 0;
      u32[at + READ_LAYOUTS / 4] = layouts.address;
      kernels.run(KIND_READ, out + plane, 1);
      for (let i = 0; i < count * headDim; i++) sum[i % headDim]! += f32[out / 4 + i]!;
    }
  } finally {
    memory.free(work, cellBytes + plane + READ_BYTES);
  }
  return Float32Array.from(sum, value => value / rows.length);
}
