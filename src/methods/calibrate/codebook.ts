/** Numbers in [-1, 1] with their weights. */
export interface Samples {
  readonly values: Float64Array;
  readonly weights?: Float64Array;
}

/** 2^bits ascending centroids: one-dimensional weighted k-means (Lloyd), started at evenly spaced quantiles of the weight. */
export function codebook({ values, weights }: Samples, bits: number, rounds = 50): number[] {
  const order = weights ? Uint32Array.from(values, (_, i) => i).sort((a, b) => values[a]! - values[b]!) : null;
  const x = order ? Float64Array.from(order, i => values[i]!) : values.slice().sort();
  const mass = new Float64Array(x.length + 1);
  const moment = new Float64Array(x.length + 1);
  for (let i = 0; i < x.length; i++) {
    const weight = order ? weights![order[i]!]! : 1;
    mass[i + 1] = mass[i]! + weight;
    moment[i + 1] = moment[i]! + weight * x[i]!;
  }
  const count = 1 << bits;
  if (!(mass[x.length]! > 0)) return Array.from({ length: count }, (_, j) => -1 + (2 * j + 1) / count);
  const quantile = (share: number) => x[Math.min(x.length - 1, firstAbove(mass, share * mass[x.length]!) - 1)]!;
  let centroids = Array.from({ length: count }, (_, j) => quantile((j + 0.5) / count));
  for (let round = 0; round < rounds; round++) {
    const bounds = centroids.map((c, j) => (j === 0 ? 0 : lowerBound(x, (c + centroids[j - 1]!) / 2)));
    bounds.push(x.length);
    const next = centroids.map((old, j) => {
      const within = mass[bounds[j + 1]!]! - mass[bounds[j]!]!;
      return within > 0 ? (moment[bounds[j + 1]!]! - moment[bounds[j]!]!) / within : old;
    });
    const same = next.every((c, j) => c === centroids[j]);
    centroids = next;
    if (same) break;
  }
  return centroids;
}

/**
 * Q-Norm: moves and stretches a codebook so that decoded values have mean and deviation of the samples. Rows are encoded with
 * the plain codebook.
 */
export function qNorm(lut: readonly number[], { values, weights }: Samples): number[] {
  const before = moments(values, weights);
  const after = moments(
    values.map(x => lut[nearest(lut, x)]!),
    weights,
  );
  if (!(after.deviation > 0)) return [...lut];
  const stretch = before.deviation / after.deviation;
  return lut.map(c => c * stretch + before.mean - after.mean * stretch);
}

function moments(x: Float64Array, weights?: Float64Array) {
  let [mass, sum, squares] = [0, 0, 0];
  x.forEach((value, i) => {
    const weight = weights?.[i] ?? 1;
    mass += weight;
    sum += weight * value;
    squares += weight * value * value;
  });
  const mean = mass > 0 ? sum / mass : 0;
  return { mean, deviation: mass > 0 ? Math.sqrt(Math.max(0, squares / mass - mean * mean)) : 0 };
}

/** Number of the nearest value of an ascending list; ties go down. */
export function nearest(lut: readonly number[], x: number): number {
  let best = 0;
  for (let j = 1; j < lut.length; j++) if (Math.abs(lut[j]! - x) < Math.abs(lut[best]! - x)) best = j;
  return best;
}

/** First index whose value is at least `x`. */
function lowerBound(sorted: Float64Array, x: number): number {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const mid = (low + high) >> 1;
    if (sorted[mid]! < x) low = mid + 1;
    else high = mid;
  }
  return low;
}

/** First index whose value is above `x`. */
function firstAbove(sorted: Float64Array, x: number): number {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const mid = (low + high) >> 1;
    if (sorted[mid]! <= x) low = mid + 1;
    else high = mid;
  }
  return low;
}
