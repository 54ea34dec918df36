import type { Memory } from '../../backend/types.ts';

/** Work space that is given back whole. */
export class Space {
  readonly #memory: Memory;
  readonly #blocks: (readonly [address: number, bytes: number])[] = [];

  constructor(memory: Memory) {
    this.#memory = memory;
  }

  /** 64-byte aligned, not cleared; views of the memory taken before may be void. */
  alloc(bytes: number): number {
    const size = Math.max(bytes, 64);
    const address = this.#memory.alloc(size);
    this.#blocks.push([address, size]);
    return address;
  }

  free(): void {
    for (const [address, bytes] of this.#blocks.splice(0)) this.#memory.free(address, bytes);
  }
}
