/** K and V rows: f32 [rows, headDim] each, keys as stored. */
export interface Rows {
  readonly k: Float32Array;
  readonly v: Float32Array;
}

export interface Blend {
  /** [groups + 1]: rows [starts[g], starts[g + 1]) become row g. */
  readonly starts: ArrayLike<number>;
  /** One a row. */
  readonly weightsK: Float32Array;
  readonly weightsV: Float32Array;
  /** `direction`: unit keys are weighed (a zero key has none), and the norm is the weighted mean of norms. Default `sum`. */
  readonly key?: 'sum' | 'direction';
}

/** Weighted sums of groups of rows, in float64: f32 [groups, headDim]. */
export function blendRows(rows: Rows, { starts, weightsK, weightsV, key }: Blend, headDim: number): Rows {
  const groups = starts.length - 1;
  const k = new Float32Array(groups * headDim);
  const v = new Float32Array(groups * headDim);
  const sumK = new Float64Array(headDim);
  const sumV = new Float64Array(headDim);
  for (let g = 0; g < groups; g++) {
    sumK.fill(0);
    sumV.fill(0);
    let weights = 0;
    let norms = 0;
    for (let m = starts[g]!; m < starts[g + 1]!; m++) {
      const wk = weightsK[m]!;
      const wv = weightsV[m]!;
      const at = m * headDim;
      let factor = wk;
      if (key === 'direction') {
        const size = norm(rows.k, at, headDim);
        factor = size > 0 ? wk / size : 0;
        weights += wk;
        norms += wk * size;
      }
      for (let i = 0; i < headDim; i++) {
        sumK[i]! += factor * rows.k[at + i]!;
        sumV[i]! += wv * rows.v[at + i]!;
      }
    }
    if (key === 'direction') {
      const size = norm(sumK, 0, headDim);
      const factor = size > 0 ? norms / weights / size : 0;
      for (let i = 0; i < headDim; i++) sumK[i]! *= factor;
    }
    k.set(sumK, g * headDim);
    v.set(sumV, g * headDim);
  }
  return { k, v };
}

function norm(values: ArrayLike<number>, from: number, count: number): number {
  let sum = 0;
  for (let i = from; i < from + count; i++) sum += values[i]! * values[i]!;
  return Math.sqrt(sum);
}
