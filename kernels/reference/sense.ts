import type { Entry } from './attend.ts';

/**
 * The probability that a row gives to each entry, float64: softmax of scale * q . k + bias over the entries at or before the
 * query and, with a window, less than `window` positions back; 0 for the others.
 */
export function probabilitiesOf(
  query: ArrayLike<number>,
  position: number,
  entries: readonly Entry[],
  scale: number,
  window: number,
): Float64Array {
  const scores = entries.map(({ key, position: at, bias }) => {
    if (at > position || (window > 0 && position - at >= window)) return Number.NEGATIVE_INFINITY;
    let dot = 0;
    for (let c = 0; c < query.length; c++) dot += query[c]! * key[c]!;
    return dot * scale + bias;
  });
  const top = scores.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const weights = Float64Array.from(scores, score => (score === Number.NEGATIVE_INFINITY ? 0 : Math.exp(score - top)));
  const sum = weights.reduce((a, b) => a + b, 0);
  return sum > 0 ? weights.map(weight => weight / sum) : weights;
}

export type Reduction = 'sum' | 'mean' | 'max' | 'variance' | 'entropy';

/** Reduces rows of probabilities [rows][entries] to one number an entry; see AttentionSignal. */
export function reduceRows(rows: readonly Float64Array[], reduction: Reduction, entries: number): Float64Array {
  return Float64Array.from({ length: entries }, (_, i) => {
    const column = rows.map(row => row[i]!);
    const sum = column.reduce((a, b) => a + b, 0);
    const mean = rows.length > 0 ? sum / rows.length : 0;
    switch (reduction) {
      case 'sum':
        return sum;
      case 'mean':
        return mean;
      case 'max':
        return column.reduce((a, b) => Math.max(a, b), 0);
      case 'entropy':
        return column.reduce((a, p) => a - p * Math.log(p + 1e-10), 0);
      default:
        return rows.length < 2 ? 0 : column.reduce((a, p) => a + (p - mean) ** 2, 0) / (rows.length - 1);
    }
  });
}
