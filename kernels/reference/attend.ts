/** One entry of a view as a query sees it. */
export interface Entry {
  /** Decoded key and value; the key is turned to the entry's effective position. */
  readonly key: ArrayLike<number>;
  readonly value: ArrayLike<number>;
  /** Stored position + shift. */
  readonly position: number;
  /** Added to the score. */
  readonly bias: number;
}

/**
 * softmax(scale * q . k + bias) weighted sum of values, in float64, over the entries at or before the query and, with a
 * window, less than `window` positions back. Nothing seen gives zeros.
 */
export function attendRow(
  query: ArrayLike<number>,
  position: number,
  entries: readonly Entry[],
  scale: number,
  window: number,
): Float64Array {
  const out = new Float64Array(query.length);
  const seen = entries.filter(e => e.position <= position && (window === 0 || position - e.position < window));
  if (seen.length === 0) return out;
  const scores = seen.map(e => {
    let dot = 0;
    for (let c = 0; c < query.length; c++) dot += query[c]! * e.key[c]!;
    return dot * scale + e.bias;
  });
  const top = Math.max(...scores);
  const weights = scores.map(score => Math.exp(score - top));
  const sum = weights.reduce((a, b) => a + b, 0);
  for (let i = 0; i < seen.length; i++) {
    for (let c = 0; c < out.length; c++) out[c]! += (weights[i]! / sum) * seen[i]!.value[c]!;
  }
  return out;
}
