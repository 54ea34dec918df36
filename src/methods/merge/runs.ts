import type { CacheLayer } from '../types.ts';

/** Entries [from, to) that become one, at the place of `pivot`. */
export interface Run {
  readonly from: number;
  readonly to: number;
  readonly pivot: number;
}

export interface RunOptions {
  readonly epsilon: number;
  readonly keep?: number | undefined;
  readonly recent: number;
  readonly heavy: number;
  /** Entries of earlier positions are left alone. */
  readonly since: number;
}

/**
 * The merging sets of KVMerger for one view, those of more than one entry: runs of neighbours that are alike and not
 * protected. With `keep` as many of the most alike pairs are joined as leave that share of entries: the sets of the threshold
 * that a search for this count would end at, ties broken by order.
 * @param cosines f32 [entries - 1], of entries i and i + 1
 * @param attention f32 [entries]: what each received from all rows
 */
export function mergingSets(
  at: CacheLayer,
  head: number,
  cosines: Float32Array,
  attention: Float32Array,
  options: RunOptions,
): Run[] {
  const n = at.entries(head);
  const free = unprotected(at, head, attention, options);
  let pairs = Array.from({ length: Math.max(0, n - 1) }, (_, i) => i).filter(i => free[i] && free[i + 1]);
  if (options.keep === undefined) {
    pairs = pairs.filter(i => cosines[i]! > options.epsilon);
  } else {
    const surplus = Math.max(0, n - Math.ceil(options.keep * n));
    pairs.sort((a, b) => cosines[b]! - cosines[a]! || a - b);
    pairs = pairs.slice(0, surplus).sort((a, b) => a - b);
  }
  const runs: Run[] = [];
  for (let p = 0; p < pairs.length; ) {
    const from = pairs[p]!;
    let to = from + 2;
    for (p++; pairs[p] === to - 1; p++) to++;
    runs.push({ from, to, pivot: mostAttended(attention, from, to) });
  }
  return runs;
}

/** 1 where an entry may be merged: exact, of this prompt, neither recent nor among the most attended of the others. */
function unprotected(at: CacheLayer, head: number, attention: Float32Array, options: RunOptions): Uint8Array {
  const positions = at.positions(head);
  const n = positions.length;
  const recent = Math.floor(options.recent * n);
  const free = new Uint8Array(n);
  for (const [from, to] of at.exact(head)) free.fill(1, from, to);
  for (let i = 0; i < n; i++) if (positions[i]! < options.since || i >= n - recent) free[i] = 0;
  Array.from({ length: n - recent }, (_, i) => i)
    .sort((a, b) => attention[b]! - attention[a]! || a - b)
    .slice(0, Math.floor(options.heavy * n))
    .forEach(i => {
      free[i] = 0;
    });
  return free;
}

/** Ties: the earliest. */
function mostAttended(attention: Float32Array, from: number, to: number): number {
  let best = from;
  for (let i = from + 1; i < to; i++) if (attention[i]! > attention[best]!) best = i;
  return best;
}
