/** Pools along entries: same length, stride 1; a mean divides by the width at the borders too, as signals do. */
export function pooledScores(scores: Float32Array, kind: 'mean' | 'max', width: number): Float32Array {
  if (width === 1) return scores;
  const half = width >> 1;
  return scores.map((_, i) => {
    const near = scores.subarray(Math.max(0, i - half), i + half + 1);
    return kind === 'max' ? near.reduce((a, b) => Math.max(a, b)) : near.reduce((a, b) => a + b, 0) / width;
  });
}
