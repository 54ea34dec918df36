import type { Kernels } from '../../backend/types.ts';
import type { ClusterSignal, Clusters } from '../../methods/types.ts';
import { NearestSearch } from './nearest-search.ts';
import { Space } from './space.ts';

/** Entries that are clustered among themselves. */
const CLUSTER_BLOCK = 8192;

/**
 * k-means of keys (Lloyd 1982) by Euclidean distance, within blocks of 8,192 entries: ceil(n / size) centroids of a block, at
 * first evenly strided rows; `rounds` times every row goes to the nearest (the first among equals), and centroids that have
 * rows become their mean. Blocks number their centroids one after the other.
 * @param address f32 [entries][width], which is overwritten
 */
export function cluster(
  kernels: Kernels,
  address: number,
  entries: number,
  width: number,
  { size, rounds }: Pick<ClusterSignal, 'size' | 'rounds'>,
): Clusters {
  const assignment = new Uint32Array(entries);
  let count = 0;
  for (let from = 0; from < entries; from += CLUSTER_BLOCK) {
    const n = Math.min(CLUSTER_BLOCK, entries - from);
    const block = new Block(kernels, address + from * width * 4, n, width, Math.ceil(n / size));
    try {
      for (let round = 0; round < rounds; round++) {
        if (round > 0) block.update();
        block.assign();
      }
      const { nearest } = block;
      for (let i = 0; i < n; i++) assignment[from + i] = count + nearest[i]!;
    } finally {
      block.dispose();
    }
    count += Math.ceil(n / size);
  }
  return { assignment, count };
}

/** Lloyd's steps of one block. */
class Block {
  readonly #kernels: Kernels;
  readonly #x: number;
  readonly #rows: number;
  readonly #width: number;
  readonly #centroids: Float64Array;
  readonly #space: Space;
  readonly #search: NearestSearch;

  constructor(kernels: Kernels, x: number, rows: number, width: number, count: number) {
    this.#kernels = kernels;
    this.#x = x;
    this.#rows = rows;
    this.#width = width;
    this.#centroids = new Float64Array(count * width);
    this.#space = new Space(kernels.memory);
    try {
      this.#search = new NearestSearch(kernels, this.#space, rows, width, count);
    } catch (error) {
      this.#space.free();
      throw error;
    }
    this.#centre();
    for (let j = 0; j < count; j++) {
      const from = Math.floor((j * rows) / count) * width;
      this.#centroids.set(this.#values().subarray(from, from + width), j * width);
    }
  }

  /** u32 [rows], as of the last `assign`. */
  get nearest(): Uint32Array {
    return this.#search.found;
  }

  assign(): void {
    const width = this.#width;
    const centroids = this.#centroids;
    for (let j = 0; j * width < centroids.length; j++) {
      const row = centroids.subarray(j * width, (j + 1) * width);
      this.#search.setCentroid(
        j,
        row,
        row.reduce((half, x) => half + (x * x) / 2, 0),
      );
    }
    this.#search.run(this.#x);
  }

  update(): void {
    const width = this.#width;
    const sums = new Float64Array(this.#centroids.length);
    const counts = new Uint32Array(sums.length / width);
    const values = this.#values();
    const { nearest } = this;
    for (let i = 0, at = 0; i < this.#rows; i++) {
      const j = nearest[i]!;
      counts[j]!++;
      for (let c = j * width; c < (j + 1) * width; c++, at++) sums[c]! += values[at]!;
    }
    for (let j = 0; j < counts.length; j++) {
      if (counts[j] === 0) continue;
      for (let c = j * width; c < (j + 1) * width; c++) this.#centroids[c] = sums[c]! / counts[j]!;
    }
  }

  dispose(): void {
    this.#space.free();
  }

  #values(): Float32Array {
    return this.#kernels.memory.f32.subarray(this.#x / 4, this.#x / 4 + this.#rows * this.#width);
  }

  /** Takes the mean row off: distances stay, but less cancels in f32. */
  #centre(): void {
    const width = this.#width;
    const values = this.#values();
    const mean = new Float64Array(width);
    for (let at = 0; at < values.length; at += width) for (let c = 0; c < width; c++) mean[c]! += values[at + c]!;
    for (let at = 0; at < values.length; at += width)
      for (let c = 0; c < width; c++) values[at + c]! -= mean[c]! / this.#rows;
  }
}
