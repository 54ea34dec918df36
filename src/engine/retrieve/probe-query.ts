import type { ActivationProbe } from '../../methods/types.ts';

/** Running statistics of a layer's queries; see ActivationProbe. A plain object: it is kept with the sequence. */
export interface QueryStatistics {
  windows: number;
  /** f64 [heads * headDim] each */
  readonly mean: Float64Array;
  readonly variance: Float64Array;
}

export function queryStatistics(width: number): QueryStatistics {
  return { windows: 0, mean: new Float64Array(width), variance: new Float64Array(width) };
}

/** Rows f32 [rows][width] cut into `parts` of equal width: f32 [parts][rows][width / parts]. */
export function byHead(rows: Float32Array, width: number, parts: number): Float32Array {
  const count = rows.length / width;
  if (count === 1) return rows;
  const size = width / parts;
  const out = new Float32Array(rows.length);
  for (let part = 0; part < parts; part++)
    for (let row = 0; row < count; row++) {
      const from = row * width + part * size;
      out.set(rows.subarray(from, from + size), (part * count + row) * size);
    }
  return out;
}

/** The mean of rows f32 [rows][width]. */
export function meanQuery(rows: Float32Array, width: number): Float32Array {
  return weightedQuery(rows, width, new Float64Array(rows.length / width).fill(1));
}

/**
 * One query for a window of rows: their mean in which rows that stand out from all windows so far, this one included, weigh
 * more. Takes the window into the statistics. ActQKV (arXiv 2502.13542), section 3.2.
 */
export function activationQuery(
  rows: Float32Array,
  width: number,
  statistics: QueryStatistics,
  { horizon, warmup }: ActivationProbe,
): Float32Array {
  takeWindow(statistics, rows, width, horizon);
  const count = rows.length / width;
  if (statistics.windows <= warmup || count === 1) return meanQuery(rows, width);
  const { mean, variance } = statistics;
  let floor = 0;
  for (const value of variance) floor += value / width / 100;
  const weights = new Float64Array(count);
  let total = 0;
  for (let row = 0; row < count; row++) {
    let bias = 0;
    for (let c = 0; c < width; c++) {
      const spread = variance[c]! + floor;
      if (spread > 0) bias += (rows[row * width + c]! - mean[c]!) ** 2 / spread;
    }
    weights[row] = bias / width;
    total += bias / width;
  }
  return total > 0 ? weightedQuery(rows, width, weights) : meanQuery(rows, width);
}

/** Mean and variance over all rows of all windows, a window weighing 1 / windows, at least 1 / horizon. */
function takeWindow(statistics: QueryStatistics, rows: Float32Array, width: number, horizon: number): void {
  const { mean, variance } = statistics;
  const count = rows.length / width;
  const share = 1 / Math.min(++statistics.windows, horizon);
  for (let c = 0; c < width; c++) {
    let sum = 0;
    let square = 0;
    for (let i = c; i < rows.length; i += width) sum += rows[i]!;
    const middle = sum / count;
    for (let i = c; i < rows.length; i += width) square += (rows[i]! - middle) ** 2;
    const step = middle - mean[c]!;
    variance[c] = (1 - share) * (variance[c]! + share * step * step) + (share * square) / count;
    mean[c]! += share * step;
  }
}

function weightedQuery(rows: Float32Array, width: number, weights: Float64Array): Float32Array {
  const sum = new Float64Array(width);
  let total = 0;
  for (const [row, weight] of weights.entries()) {
    total += weight;
    for (let c = 0; c < width; c++) sum[c]! += weight * rows[row * width + c]!;
  }
  return Float32Array.from(sum, value => value / total);
}
