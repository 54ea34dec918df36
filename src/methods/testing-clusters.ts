import type { PlainView } from './testing-signals.ts';
import type { ClusterSignal, Clusters } from './types.ts';

const CLUSTER_BLOCK = 8192;

/** A block of n keys gets ceil(n / size) centroids, first at key floor(j n / count); the last round's assignment is the answer. */
export function plainClusters(view: PlainView, d: number, request: ClusterSignal): Clusters {
  const from = Math.min(request.skipFirst, view.positions.length);
  const to = Math.max(from, view.positions.length - request.skipLast);
  const assignment = new Uint32Array(to - from);
  const mean = new Float64Array(d);
  for (let i = from; i < to; i++) for (let c = 0; c < d; c++) mean[c]! += view.k[i * d + c]! / (to - from);
  const key = (i: number) => view.k.subarray(i * d, (i + 1) * d).map((x, c) => x - mean[c]!);
  let count = 0;
  for (let start = from; start < to; start += CLUSTER_BLOCK) {
    const keys = Array.from({ length: Math.min(CLUSTER_BLOCK, to - start) }, (_, i) => key(start + i));
    const k = Math.ceil(keys.length / request.size);
    let centroids = Array.from({ length: k }, (_, j) => keys[Math.floor((j * keys.length) / k)]!);
    for (let round = 0; round < request.rounds; round++) {
      const owner = keys.map(x => nearest(x, centroids));
      owner.forEach((j, i) => {
        assignment[start - from + i] = count + j;
      });
      centroids = centroids.map((old, j) => {
        const members = keys.filter((_, i) => owner[i] === j);
        return members.length === 0
          ? old
          : old.map((_, c) => members.reduce((sum, x) => sum + x[c]!, 0) / members.length);
      });
    }
    count += k;
  }
  return { assignment, count };
}

function nearest(x: Float64Array, centroids: readonly Float64Array[]): number {
  let best = 0;
  let least = Number.POSITIVE_INFINITY;
  centroids.forEach((centroid, j) => {
    const distance = x.reduce((sum, value, c) => sum + (value - centroid[c]!) ** 2, 0);
    if (distance < least) {
      least = distance;
      best = j;
    }
  });
  return best;
}
