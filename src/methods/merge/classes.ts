import { pooledScores } from '../shared/pool.ts';
import { topK } from '../shared/top-k.ts';
import type { MergeAction, Nearest } from '../types.ts';

/** Scores of EMS for one head, f32 [candidates] each. */
export interface Scores {
  /** What all queries that saw an entry gave to it, on average. */
  readonly global: Float32Array;
  /** What the last queries gave to it. */
  readonly local: Float32Array;
}

/** The two brought to one scale, each as a share of its sum, and taken together. */
export function combined({ global, local }: Scores, how: 'max' | 'sum'): Float32Array {
  const share = (x: Float32Array) => 1 / (x.reduce((a, b) => a + b, 0) || 1);
  const [a, b] = [share(global), share(local)];
  return global.map((g, i) => (how === 'max' ? Math.max(g * a, local[i]! * b) : g * a + local[i]! * b));
}

export interface RoleOptions {
  /** Entries to be merged for each centre. */
  readonly ratio: number;
  readonly pool: 'mean' | 'max';
  readonly width: number;
}

/** By pooled scores the best `count` candidates are centres, the next ones are to be merged; entry numbers, ascending. */
export function roles(scores: Float32Array, count: number, { ratio, pool, width }: RoleOptions) {
  const ranking = pooledScores(scores, pool, width);
  const centres = topK(ranking, count);
  const taken = new Set(centres);
  return { centres, toMerge: topK(ranking, count + Math.floor(ratio * count + 1e-9)).filter(i => !taken.has(i)) };
}

/** A centre and the members that go into it. */
export type Class = readonly number[];

/** Classes of more than a centre. Members whose best cosine is below `theta` are of the zero class: in none of these. */
export function classes(
  centres: Uint32Array,
  members: Uint32Array,
  { place, cosine }: Nearest,
  theta: number,
): Class[] {
  const found = new Map<number, number[]>();
  for (const [i, entry] of members.entries()) {
    if (cosine[i]! < theta) continue;
    const centre = centres[place[i]!]!;
    const list = found.get(centre) ?? [centre];
    list.push(entry);
    found.set(centre, list);
  }
  return [...found.values()];
}

/**
 * One entry for each class, at the place of its centre: values weighted by score; keys by direction and norm apart.
 * @param numbers i32 [entries]: what number an entry has when the merge runs
 * @param counts f32 [entries]: how many entries each stands for, where ln of their sum is to be its bias
 */
export function mergeClasses(
  found: readonly Class[],
  scores: Float32Array,
  numbers: Int32Array,
  counts: Float32Array | null,
): Omit<MergeAction, 'do' | 'layer' | 'head'> {
  const starts = new Uint32Array(found.length + 1);
  for (const [g, { length }] of found.entries()) starts[g + 1] = starts[g]! + length;
  const weights = found.flatMap(members => {
    const total = members.reduce((sum, i) => sum + scores[i]!, 0);
    return members.map(i => (total > 0 ? scores[i]! / total : 1 / members.length));
  });
  const sizes = found.map(members => members.reduce((n, i) => n + (counts?.[i] ?? 1), 0));
  return {
    targets: Uint32Array.from(found, ([centre]) => numbers[centre!]!),
    starts,
    members: Uint32Array.from(found.flat(), i => numbers[i]!),
    weightsK: Float32Array.from(weights),
    weightsV: Float32Array.from(weights),
    key: 'direction',
    ...(counts && { bias: Float32Array.from(sizes, Math.log) }),
  };
}
