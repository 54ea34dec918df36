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
    const { inverseFrequencies, magnitude } = this.#rope;
    const half = this.rotary / 2;
    const table = this.#memory.f32.subarray(address / 4, address / 4 + capacity * this.rotary);
    for (let position = 0; position < capacity; position++) {
      const row = position * this.rotary;
      for (let i = 0; i < half; i++) {
        const angle = position * inverseFrequencies[i]!;
        table[row + i] = Math.cos(angle) * magnitude;
        table[row + half + i] = Math.sin(angle) * magnitude;
      }
    }
    if (this.#capacity > 0) this.#memory.free(this.#address, this.bytes);
    this.#address = address;
    this.#capacity = capacity;
  }

  /** Address of the row of a position below what `ensure` was called with. */
  row(position: number): number {
    return this.#address + position * this.rotary * 4;
  }

  dispose(): void {
    if (this.#capacity > 0) this.#memory.free(this.#address, this.bytes);
    this.#capacity = 0;
  }
}
