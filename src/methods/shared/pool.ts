import type { PerHead } from '../types.ts';

/** Pools along entries: same length, stride 1; a mean divides by the width at the borders too, as signals do. */
export function pooledScores(scores: Float32Array, kind: 'mean' | 'max', width: number): Float32Array {
  if (width === 1) return scores;
  const half = width >> 1;
  return scores.map((_, i) => {
    const near = scores.subarray(Math.max(0, i - half), i + half + 1);
    return kind === 'max' ? near.reduce((a, b) => Math.max(a, b)) : near.reduce((a, b) => a + b, 0) / width;
  });
}

/** Scores of query heads, `group` of which share a KV head: one array a KV head. */
export function groupedScores(heads: PerHead, how: 'mean' | 'sum' | 'max', group: number): Float32Array[] {
  return Array.from({ length: heads.length / group }, (_, head) => {
    const members = heads.slice(head * group, (head + 1) * group);
    return members[0]!.map((_, i) => {
      const values = members.map(member => member[i]!);
      if (how === 'max') return Math.max(...values);
      const sum = values.reduce((a, b) => a + b, 0);
      return how === 'sum' ? sum : sum / group;
    });
  });
}
