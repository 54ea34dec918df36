import { KEY_TURN_STEP } from '../../kernels/abi.ts';
import type { Memory } from '../backend/types.ts';
import type { RopeTable } from '../model/types.ts';

/**
 * Rotary angles of one rope table for positions 0, 1, 2, ... in shared memory, computed in float64:
 * f32 [positions][rotary], cosines of the rotary / 2 frequencies then sines, the magnitude factor multiplied in.
 * Rows of consecutive positions are adjacent, so a block of rows turned by a shift is a pointer, not a copy.
 */
export class RotaryTable {
  readonly rotary: number;
  readonly #rope: RopeTable;
  readonly #memory: Memory;
  #address = 0;
  #capacity = 0;
  /** ATTEND_KEY_COARSE and ATTEND_KEY_FINE tables, made when first asked for. */
  #coarse = 0;
  #coarseRows = 0;
  #fine = 0;

  constructor(rope: RopeTable, memory: Memory) {
    this.#rope = rope;
    this.#memory = memory;
    this.rotary = rope.inverseFrequencies.length * 2;
  }

  get bytes(): number {
    return this.#capacity * this.rotary * 4;
  }

  /** Makes rows for positions below `positions`; addresses given out before are void after a growth. */
  ensure(positions: number): void {
    if (positions <= this.#capacity) return;
    const capacity = Math.max(1024, 2 ** Math.ceil(Math.log2(positions)));
    const address = this.#memory.alloc(capacity * this.rotary * 4);
    this.#write(address, capacity, 1, this.#rope.magnitude);
    if (this.#capacity > 0) this.#memory.free(this.#address, this.bytes);
    this.#address = address;
    this.#capacity = capacity;
  }

  /** Address of the row of a position below what `ensure` was called with. */
  row(position: number): number {
    return this.#address + position * this.rotary * 4;
  }

  /** Rows of any positions side by side at `to`: f32 [positions][rotary]. Each position + `by` is below what `ensure` was called with. */
  gather(positions: Int32Array, by: number, to: number): void {
    const { f32 } = this.#memory;
    for (let i = 0; i < positions.length; i++) {
      const from = this.row(positions[i]! + by) / 4;
      f32.copyWithin(to / 4 + i * this.rotary, from, from + this.rotary);
    }
  }

  /** Turns by numbers of positions, of any sign: f32 [by][rotary], cosines then sines, the magnitude left out. */
  turns(by: Int32Array): Float32Array {
    const out = new Float32Array(by.length * this.rotary);
    for (const [n, positions] of by.entries()) this.#angles(out, n, positions, 1);
    return out;
  }

  /** Tables that turn stored keys on read (kernels/abi.ts), good for the positions of `ensure`; void after a growth. */
  keyTables(): { readonly coarse: number; readonly fine: number } {
    if (this.#fine === 0) {
      this.#fine = this.#memory.alloc(KEY_TURN_STEP * this.rotary * 4);
      this.#write(this.#fine, KEY_TURN_STEP, 1, this.#rope.magnitude);
    }
    const rows = Math.ceil(this.#capacity / KEY_TURN_STEP);
    if (rows > this.#coarseRows) {
      this.#freeCoarse();
      this.#coarse = this.#memory.alloc(rows * this.rotary * 4);
      this.#coarseRows = rows;
      this.#write(this.#coarse, rows, KEY_TURN_STEP, 1);
    }
    return { coarse: this.#coarse, fine: this.#fine };
  }

  dispose(): void {
    if (this.#capacity > 0) this.#memory.free(this.#address, this.bytes);
    this.#capacity = 0;
    this.#freeCoarse();
    if (this.#fine > 0) this.#memory.free(this.#fine, KEY_TURN_STEP * this.rotary * 4);
    this.#fine = 0;
  }

  #freeCoarse(): void {
    if (this.#coarseRows > 0) this.#memory.free(this.#coarse, this.#coarseRows * this.rotary * 4);
    this.#coarseRows = 0;
  }

  /** Rows at positions 0, step, 2 step, ... */
  #write(address: number, rows: number, step: number, magnitude: number): void {
    const table = this.#memory.f32.subarray(address / 4, address / 4 + rows * this.rotary);
    for (let n = 0; n < rows; n++) this.#angles(table, n, n * step, magnitude);
  }

  #angles(table: Float32Array, row: number, position: number, magnitude: number): void {
    const { inverseFrequencies } = this.#rope;
    const half = this.rotary / 2;
    for (let i = 0; i < half; i++) {
      const angle = position * inverseFrequencies[i]!;
      table[row * this.rotary + i] = Math.cos(angle) * magnitude;
      table[row * this.rotary + half + i] = Math.sin(angle) * magnitude;
    }
  }
}
