import type { UnitScore } from '../../methods/types.ts';

/** Units of one view as scores see them: f32 [count][headDim] keys, or [count][2 * headDim] least and greatest values. */
export interface UnitKeys {
  readonly count: number;
  readonly index: Float32Array;
}

/** Upper (or lower) bound of q . k for keys within bounds: f32 [2 * headDim] from `at` on. */
export function boundOf(
  query: Float32Array,
  from: number,
  bounds: Float32Array,
  at: number,
  headDim: number,
  end: 'upper' | 'lower' = 'upper',
): number {
  let sum = 0;
  for (let c = 0; c < headDim; c++) {
    const q = query[from + c]!;
    sum += q * bounds[q > 0 === (end === 'upper') ? at + headDim + c : at + c]!;
  }
  return sum;
}

/** The same, or its linear form, the maximum over the query heads of a group. See UnitScore. */
export function boundScore(
  queries: Float32Array,
  bounds: Float32Array,
  at: number,
  headDim: number,
  linear?: number,
): number {
  let most = Number.NEGATIVE_INFINITY;
  for (let from = 0; from < queries.length; from += headDim) {
    let score = 0;
    if (linear === undefined) score = boundOf(queries, from, bounds, at, headDim);
    else
      for (let c = 0; c < headDim; c++)
        score += queries[from + c]! * (linear * bounds[at + headDim + c]! + (1 - linear) * bounds[at + c]!);
    if (score > most) most = score;
  }
  return most;
}

/** Softmax of q . mean key / sqrt(headDim) over the units, averaged over the group's query heads. */
export function meanScores(queries: Float32Array, { index, count }: UnitKeys, headDim: number): Float64Array {
  const scores = new Float64Array(count);
  const line = new Float64Array(count);
  const group = queries.length / headDim;
  for (let from = 0; from < queries.length; from += headDim) {
    for (let unit = 0; unit < count; unit++) {
      let dot = 0;
      for (let c = 0; c < headDim; c++) dot += queries[from + c]! * index[unit * headDim + c]!;
      line[unit] = dot / Math.sqrt(headDim);
    }
    const shares = softmax(line);
    for (let unit = 0; unit < count; unit++) scores[unit]! += shares[unit]! / group;
  }
  return scores;
}

/**
 * Cosine of all heads' queries side by side and the units' keys, each key repeated for the query heads of its group; 0 where
 * one of them is zero.
 * @param views [kvHeads]: alike in number of units
 */
export function cosineScores(queries: Float32Array, views: readonly UnitKeys[], headDim: number): Float64Array {
  const count = views[0]!.count;
  const group = queries.length / headDim / views.length;
  let qq = 0;
  for (const q of queries) qq += q * q;
  const scores = new Float64Array(count);
  for (let unit = 0; unit < count; unit++) {
    let dot = 0;
    let kk = 0;
    for (const [head, { index }] of views.entries())
      for (let c = 0; c < headDim; c++) {
        const key = index[unit * headDim + c]!;
        kk += group * key * key;
        for (let g = 0; g < group; g++) dot += queries[(head * group + g) * headDim + c]! * key;
      }
    scores[unit] = qq > 0 && kk > 0 ? dot / Math.sqrt(qq * kk) : 0;
  }
  return scores;
}

/** Scores of the units of one view by the queries of its group. Not for `cosine`, which is about all heads. */
export function unitScores(
  by: Exclude<UnitScore, { by: 'cosine' }>,
  queries: Float32Array,
  units: UnitKeys,
  headDim: number,
): Float64Array {
  if (by.by === 'mean') return meanScores(queries, units, headDim);
  const width = 2 * headDim;
  return Float64Array.from({ length: units.count }, (_, unit) =>
    boundScore(queries, units.index, unit * width, headDim, by.linear),
  );
}

export function softmax(scores: Float64Array): Float64Array {
  let most = Number.NEGATIVE_INFINITY;
  for (const score of scores) most = Math.max(most, score);
  const shares = scores.map(score => Math.exp(score - most));
  let total = 0;
  for (const share of shares) total += share;
  return shares.map(share => share / total);
}
