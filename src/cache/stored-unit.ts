import type { ParkPlace } from './park-place.ts';
import type { ParkTotals } from './park-totals.ts';
import type { Bytes, RowBytes } from './row-bytes.ts';
import { finerBytes, levelOffset, pieceStart } from './unit-index.ts';

/** Rows of one unit at rest, and behind them the bounds of its halves, quarters, ...: immutable, freed with the last view that holds them. */
export class StoredUnit {
  /** Number of its first piece; the others follow, and after them the numbers of its pairs of bounds (pairNumber). */
  readonly serial: number;
  /** i32 [rows] */
  readonly positions: Int32Array;
  readonly tier: 'memory' | 'file';
  readonly rowBytes: RowBytes;
  readonly halvings: number;
  readonly #headDim: number;
  readonly #place: ParkPlace;
  readonly #handle: number;
  readonly #totals: ParkTotals;
  #refs = 1;

  /**
   * With one reference, the caller's. Raises what the place raises.
   * @param bytes the rows, and the bounds behind them
   */
  constructor(init: {
    totals: ParkTotals;
    place: ParkPlace;
    tier: 'memory' | 'file';
    rowBytes: RowBytes;
    positions: Int32Array;
    halvings: number;
    headDim: number;
    bytes: Bytes;
  }) {
    const { totals, place, tier, rowBytes, positions, halvings, headDim, bytes } = init;
    this.positions = positions;
    this.tier = tier;
    this.rowBytes = rowBytes;
    this.halvings = halvings;
    this.#headDim = headDim;
    this.#place = place;
    this.#totals = totals;
    this.#handle = place.write(bytes.u8.subarray(0, this.blobBytes));
    this.serial = totals.serial + 1;
    totals.serial += 2 << halvings;
    totals.take(this.bytes, this.memoryBytes);
  }

  /** How many parts of it can be fetched apart. */
  get pieces(): number {
    return 1 << this.halvings;
  }

  get blobBytes(): number {
    return StoredUnit.blobBytes(this.positions.length, this.rowBytes, this.halvings, this.#headDim);
  }

  static blobBytes(rows: number, rowBytes: RowBytes, halvings: number, headDim: number): number {
    return rows * rowBytes.size + finerBytes(halvings, headDim);
  }

  get bytes(): number {
    return this.blobBytes + this.positions.length * 4;
  }

  /** Those of them that lie in ordinary memory. */
  get memoryBytes(): number {
    return this.tier === 'memory' ? this.bytes : this.positions.length * 4;
  }

  /** First row of a piece; of `pieces`: the number of rows. */
  start(piece: number): number {
    return pieceStart(this.positions.length, this.halvings, piece);
  }

  /** Number of the pair of pieces at a level whose first one is `piece`, even. */
  pairNumber(level: number, piece: number): number {
    return this.serial + this.pieces + (1 << (level - 1)) + (piece >> 1) - 1;
  }

  /** Bytes [from, to) of its rows, into `into` from `at` on. */
  readRows(into: Bytes, at: number, from: number, to: number): void {
    into.ensure(at + to - from);
    this.#place.read(this.#handle, into.u8.subarray(at, at + to - from), from);
  }

  /** Bounds of pieces `piece` and `piece` + 1 of a level: f32 [2][2 * headDim] as bytes. */
  readPair(into: Uint8Array, level: number, piece: number): void {
    const from = this.positions.length * this.rowBytes.size + levelOffset(level, this.#headDim);
    this.#place.read(this.#handle, into, from + piece * 2 * this.#headDim * 4);
  }

  retain(): void {
    this.#refs++;
  }

  release(): void {
    if (--this.#refs > 0) return;
    this.#place.free(this.#handle);
    this.#totals.give(this.bytes, this.memoryBytes);
  }
}
