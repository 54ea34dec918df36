import {
  KIND_NEAREST,
  NEAREST_BYTES,
  NEAREST_CENTROIDS,
  NEAREST_CHUNKS,
  NEAREST_HALF_NORMS,
  NEAREST_OUT,
  NEAREST_ROWS,
  NEAREST_WIDTH,
  NEAREST_X,
} from '../../../kernels/abi.ts';
import type { Kernels } from '../../backend/types.ts';
import type { Space } from './space.ts';

/** Centroids side by side (NEAREST). */
const CHUNK = 64;
const ROWS_PER_ITEM = 512;

/** For each of some rows, the centroid with the greatest x . c - half(c), the first among equals: NEAREST on all threads. */
export class NearestSearch {
  readonly #kernels: Kernels;
  readonly #rows: number;
  readonly #width: number;
  readonly #chunks: number;
  readonly #packed: number;
  readonly #half: number;
  readonly #out: number;
  readonly #items: number;

  /** @param space gives the memory, and takes it back */
  constructor(kernels: Kernels, space: Space, rows: number, width: number, count: number) {
    this.#kernels = kernels;
    this.#rows = rows;
    this.#width = width;
    this.#chunks = Math.ceil(count / CHUNK);
    this.#packed = space.alloc(this.#chunks * CHUNK * width * 4);
    this.#half = space.alloc(this.#chunks * CHUNK * 4);
    this.#out = space.alloc(rows * 4);
    this.#items = space.alloc(Math.ceil(rows / ROWS_PER_ITEM) * NEAREST_BYTES);
    const { f32 } = kernels.memory;
    f32.fill(0, this.#packed / 4, this.#packed / 4 + this.#chunks * CHUNK * width);
    // What fills the last chunk is never the nearest.
    f32.fill(Number.POSITIVE_INFINITY, this.#half / 4, this.#half / 4 + this.#chunks * CHUNK);
  }

  /** @param half |c|^2 / 2 for the least distance, 0 for the greatest product */
  setCentroid(j: number, row: ArrayLike<number>, half: number): void {
    const { f32 } = this.#kernels.memory;
    const to = this.#packed / 4 + Math.floor(j / CHUNK) * CHUNK * this.#width + (j % CHUNK);
    for (let c = 0; c < this.#width; c++) f32[to + c * CHUNK] = row[c]!;
    f32[this.#half / 4 + j] = half;
  }

  /** @param x address of f32 [rows][width] */
  run(x: number): void {
    const { i32 } = this.#kernels.memory;
    const count = Math.ceil(this.#rows / ROWS_PER_ITEM);
    for (let i = 0; i < count; i++) {
      const at = (this.#items + i * NEAREST_BYTES) / 4;
      const from = i * ROWS_PER_ITEM;
      i32[at + NEAREST_X / 4] = x + from * this.#width * 4;
      i32[at + NEAREST_ROWS / 4] = Math.min(ROWS_PER_ITEM, this.#rows - from);
      i32[at + NEAREST_WIDTH / 4] = this.#width;
      i32[at + NEAREST_CENTROIDS / 4] = this.#packed;
      i32[at + NEAREST_CHUNKS / 4] = this.#chunks;
      i32[at + NEAREST_HALF_NORMS / 4] = this.#half;
      i32[at + NEAREST_OUT / 4] = this.#out + from * 4;
    }
    this.#kernels.run(KIND_NEAREST, this.#items, count);
  }

  /** u32 [rows], as of the last run; valid until the memory grows. */
  get found(): Uint32Array {
    return this.#kernels.memory.u32.subarray(this.#out / 4, this.#out / 4 + this.#rows);
  }
}
