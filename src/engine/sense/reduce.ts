import type { AttentionSignal } from '../../methods/types.ts';

type Pool = NonNullable<AttentionSignal['pool']>;

/**
 * The light end of an attention signal: entries dropped, pooled and reduced over the query heads of a group.
 * @param heads f32 [entries] of each query head, reduced over rows
 */
export function finishAttention(
  heads: readonly Float32Array[],
  request: AttentionSignal,
  group: number,
): Float32Array[] {
  const { drop = 0, pool, group: kind } = request;
  let arrays: Float32Array[] = heads.map(head => head.slice(0, Math.max(0, head.length - drop)));
  if (pool && pool.after !== 'group') arrays = arrays.map(array => pooled(array, pool));
  if (kind) arrays = reduceGroups(arrays, kind, group);
  if (pool?.after === 'group') arrays = arrays.map(array => pooled(array, pool));
  return arrays;
}

/** One array a KV head. */
export function reduceGroups(
  heads: readonly Float32Array[],
  kind: 'mean' | 'sum' | 'max',
  group: number,
): Float32Array[] {
  return Array.from({ length: heads.length / group }, (_, head) => {
    const members = heads.slice(head * group, (head + 1) * group);
    const out = members[0]!.slice();
    for (const member of members.slice(1)) {
      for (let i = 0; i < out.length; i++)
        out[i] = kind === 'max' ? Math.max(out[i]!, member[i]!) : out[i]! + member[i]!;
    }
    if (kind === 'mean') for (let i = 0; i < out.length; i++) out[i]! /= group;
    return out;
  });
}

/** Same length: entry i looks at [i - floor(width / 2), ...) of `width` entries; zeros beyond the ends, none of which is a maximum. */
export function pooled(array: Float32Array, { kind, width }: Pool): Float32Array {
  const before = Math.floor(width / 2);
  const out = new Float32Array(array.length);
  for (let i = 0; i < out.length; i++) {
    const from = Math.max(0, i - before);
    const to = Math.min(array.length, i - before + width);
    let value = kind === 'max' ? Number.NEGATIVE_INFINITY : 0;
    for (let j = from; j < to; j++) value = kind === 'max' ? Math.max(value, array[j]!) : value + array[j]!;
    out[i] = kind === 'max' ? value : value / width;
  }
  return out;
}
