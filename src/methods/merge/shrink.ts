import { withLast } from '../shared/keep.ts';
import type { Action, FilledLayer, MergeAction, PerHead } from '../types.ts';
import { type Class, classes, combined, mergeClasses, type RoleOptions, roles } from './classes.ts';

/** Goes before the names of EMS's columns: a method of the stage before has sums of its own. */
export const PREFIX = 'ems-';

/** What an entry's scores are made of, [kvHeads][entries] each: they move with it, and add up where entries are merged. */
export interface Columns {
  readonly score: PerHead;
  readonly queries: PerHead;
  readonly local: PerHead;
}

export function columnsOf(at: FilledLayer): Columns {
  const each = (name: string) =>
    Array.from({ length: at.model.kvHeads }, (_, head) => at.column(`${PREFIX}${name}`, head));
  return { score: each('score'), queries: each('queries'), local: each('local') };
}

export interface ShrinkOptions extends RoleOptions {
  readonly window: number;
  readonly theta: number;
  readonly combine: 'max' | 'sum';
  /** A merged entry gets ln n on its score. */
  readonly mass: boolean;
}

/** Brings the heads that hold more than `budget` down to it, by dropping and merging, and stores the columns. */
export function shrink(at: FilledLayer, columns: Columns, budget: number, options: ShrinkOptions): Action[] {
  const { window, theta, combine } = options;
  const { score, queries, local } = columns;
  const heads = score.map((sums, head) => {
    const candidates = Math.max(0, sums.length - window);
    const global = sums.map((sum, i) => sum / queries[head]![i]!).subarray(0, candidates);
    const scores = combined({ global, local: local[head]!.subarray(0, candidates) }, combine);
    const exceeds = sums.length > budget;
    const { centres, toMerge } = roles(scores, exceeds ? budget - window : 0, options);
    // What has been encoded can stay or go, but not change.
    const exact = new Set(at.exact(head).flatMap(([from, to]) => range(from, to)));
    const into = centres.filter(i => exact.has(i));
    const merging = theta > 1 || into.length === 0 ? new Uint32Array() : toMerge.filter(i => exact.has(i));
    return { scores, exceeds, centres, into, merging };
  });
  const nearest = at.signal({
    signal: 'nearest',
    of: 'k',
    centres: heads.map(({ into }) => into),
    members: heads.map(({ merging }) => merging),
  });
  const found = heads.map(({ into, merging }, head) => classes(into, merging, nearest[head]!, theta));
  for (const [head, list] of found.entries()) for (const members of list) carry(members, head, columns);
  const storing = Object.entries(columns).map(
    ([name, values]): Action => ({ do: 'column', layer: at.layer, name: `${PREFIX}${name}`, values }),
  );
  if (!heads.some(({ exceeds }) => exceeds)) return storing;
  const entries = heads.map(({ exceeds, centres }, head) => {
    const held = at.entries(head);
    if (!exceeds) return Uint32Array.from(range(0, held));
    return withLast(Uint32Array.from(new Set([...centres, ...found[head]!.flat()])).sort(), window, held);
  });
  const merges = found.flatMap((list, head): MergeAction[] => {
    if (list.length === 0) return [];
    const numbers = new Int32Array(at.entries(head)).fill(-1);
    for (const [number, entry] of entries[head]!.entries()) numbers[entry] = number;
    const counts = options.mass ? at.column('bias', head).map(Math.exp) : null;
    return [{ do: 'merge', layer: at.layer, head, ...mergeClasses(list, heads[head]!.scores, numbers, counts) }];
  });
  return [...storing, { do: 'keep', layer: at.layer, entries }, ...merges];
}

/** The centre of a class takes over what its members have scored: averages, and so weights, add up. */
function carry([centre, ...others]: Class, head: number, { score, queries, local }: Columns): void {
  const [s, q, l] = [score[head]!, queries[head]!, local[head]!];
  for (const i of others) {
    s[centre!]! += (s[i]! / q[i]!) * q[centre!]!;
    l[centre!]! += l[i]!;
  }
}

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);
