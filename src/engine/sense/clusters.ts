import type { ClusterSignal, Clusters } from '../../methods/types.ts';

/** Entries that are clustered among themselves. */
export const CLUSTER_BLOCK = 8192;

/**
 * k-means of keys (Lloyd 1982) by Euclidean distance, within blocks of CLUSTER_BLOCK entries: ceil(n / size) centroids of a
 * block, at first evenly strided rows; `rounds` times every row goes to the nearest (the first among equals), and centroids
 * that have rows become their mean. Clusters are numbered in order of blocks and centroids; those left empty have no number.
 * @param rows f32 [entries][width] of those that take part
 */
export function cluster(rows: Float32Array, width: number, { size, rounds }: ClusterSignal): Clusters {
  const entries = rows.length / width;
  const assignment = new Uint32Array(entries);
  let count = 0;
  for (let from = 0; from < entries; from += CLUSTER_BLOCK) {
    const to = Math.min(entries, from + CLUSTER_BLOCK);
    const block = centred(rows.subarray(from * width, to * width), width);
    count = renumber(assignment.subarray(from, to), lloyd(block, width, size, rounds), count);
  }
  return { assignment, count };
}

/** The mean taken off: distances stay, their cancellation in f32 does not. */
function centred(rows: Float32Array, width: number): Float32Array {
  const mean = new Float64Array(width);
  const n = rows.length / width;
  for (let at = 0; at < rows.length; at++) mean[at % width]! += rows[at]! / n;
  return rows.map((x, at) => x - mean[at % width]!);
}

function lloyd(rows: Float32Array, width: number, size: number, rounds: number): Uint32Array {
  const n = rows.length / width;
  const k = Math.ceil(n / size);
  const centroids = new Float32Array(k * width);
  for (let j = 0; j < k; j++) {
    const from = Math.floor((j * n) / k) * width;
    centroids.set(rows.subarray(from, from + width), j * width);
  }
  const nearest = new Uint32Array(n);
  for (let round = 0; round < rounds; round++) {
    assign(rows, centroids, width, nearest);
    if (round + 1 < rounds) update(rows, centroids, width, nearest);
  }
  return nearest;
}

/** nearest[i] = arg min over j of |c_j|^2 / 2 - x_i . c_j */
function assign(rows: Float32Array, centroids: Float32Array, width: number, nearest: Uint32Array): void {
  const k = centroids.length / width;
  const half = new Float64Array(k);
  for (let at = 0; at < centroids.length; at++) half[Math.floor(at / width)]! += centroids[at]! ** 2 / 2;
  for (let i = 0; i < nearest.length; i++) {
    let least = Number.POSITIVE_INFINITY;
    for (let j = 0; j < k; j++) {
      let distance = half[j]!;
      for (let c = 0, x = i * width, y = j * width; c < width; c++) distance -= rows[x + c]! * centroids[y + c]!;
      if (distance < least) {
        least = distance;
        nearest[i] = j;
      }
    }
  }
}

function update(rows: Float32Array, centroids: Float32Array, width: number, nearest: Uint32Array): void {
  const k = centroids.length / width;
  const sums = new Float64Array(centroids.length);
  const counts = new Uint32Array(k);
  for (let i = 0; i < nearest.length; i++) {
    const j = nearest[i]!;
    counts[j]!++;
    for (let c = 0; c < width; c++) sums[j * width + c]! += rows[i * width + c]!;
  }
  for (let j = 0; j < k; j++) {
    if (counts[j] === 0) continue;
    for (let c = 0; c < width; c++) centroids[j * width + c] = sums[j * width + c]! / counts[j]!;
  }
}

/** Writes cluster numbers from `next` on, without gaps; returns the next free one. */
function renumber(to: Uint32Array, nearest: Uint32Array, next: number): number {
  const used = [...new Set(nearest)].sort((a, b) => a - b);
  const numbers = new Map(used.map((j, i) => [j, next + i]));
  for (let i = 0; i < nearest.length; i++) to[i] = numbers.get(nearest[i]!)!;
  return next + used.length;
}
