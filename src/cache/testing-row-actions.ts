import { KvasirError } from '../errors.ts';
import type { CacheSequence } from './sequence.ts';
import { type Entry, type Model, numbers, tolerance } from './testing-model.ts';
import { FORMAT_NAMES, type MergeItem } from './types.ts';

/** Drops and merges drawn from a seed, carried out on a sequence and on its model. */

/** Drops some stretches of some views; returns how many entries. */
export function dropSome(sequence: CacheSequence, model: Model, seed: number): number {
  const { kvHeads } = sequence.cache.shape;
  const random = numbers(seed);
  const below = (n: number) => Math.floor(((random() + 1) / 2) * n);
  let dropped = 0;
  for (let n = below(40); n >= 0; n--) {
    const view = below(model.length);
    const entries = model[view]!;
    if (entries.length === 0) continue;
    const from = below(entries.length);
    const count = random() > 0.8 ? 1 + below(entries.length - from) : 1;
    if (count === 1) sequence.drop(Math.floor(view / kvHeads), view % kvHeads, from);
    else sequence.dropOldest(Math.floor(view / kvHeads), view % kvHeads, from, count);
    entries.splice(from, count);
    dropped += count;
  }
  return dropped;
}

/** Neighbours of a view in groups of up to five, in any order; some entries in none. */
export function drawMerge(
  slot: number,
  head: number,
  ranges: readonly (readonly [from: number, to: number])[],
  random: () => number,
  options: { key: 'sum' | 'direction'; bias: boolean },
): MergeItem {
  const below = (n: number) => Math.floor(((random() + 1) / 2) * n);
  const targets: number[] = [];
  const starts = [0];
  const members: number[] = [];
  for (const [from, to] of ranges) {
    for (let entry = from; entry < to; ) {
      const size = Math.min(to - entry, 1 + below(5));
      if (random() > -0.3) {
        const group = Array.from({ length: size }, (_, i) => entry + i).reverse();
        members.push(...group);
        targets.push(group[below(size)]!);
        starts.push(members.length);
      }
      entry += size;
    }
  }
  return {
    slot,
    head,
    targets: Uint32Array.from(targets),
    starts: Uint32Array.from(starts),
    members: Uint32Array.from(members),
    weightsK: Float32Array.from(members, () => 0.3 + Math.abs(random())),
    weightsV: Float32Array.from(members, () => random()),
    key: options.key,
    ...(options.bias && { bias: Float32Array.from(targets, () => random()) }),
  };
}

/** A merge carried out on plain entries, in float64, from what the cache had stored of them. */
export function mergeEntries(entries: readonly Entry[], item: MergeItem): Entry[] {
  const dropped = new Set<number>(item.members);
  const changed = new Map<number, Entry>();
  for (const [g, target] of item.targets.entries()) {
    const numbers = Array.from({ length: item.starts[g + 1]! - item.starts[g]! }, (_, i) => item.starts[g]! + i);
    const rows = numbers.map(m => entries[item.members[m]!]!.codes!);
    const headDim = rows[0]!.k.length;
    const k = new Float64Array(headDim);
    const v = new Float64Array(headDim);
    const norms = rows.map(({ k }) => Math.hypot(...k));
    for (const [i, m] of numbers.entries()) {
      const unit = item.key === 'direction' ? norms[i] || 1 : 1;
      for (let c = 0; c < headDim; c++) {
        k[c]! += (item.weightsK[m]! * rows[i]!.k[c]!) / unit;
        v[c]! += item.weightsV[m]! * rows[i]!.v[c]!;
      }
    }
    if (item.key === 'direction') {
      const weights = numbers.map(m => item.weightsK[m]!);
      const mean = weights.reduce((a, w, i) => a + w * norms[i]!, 0) / weights.reduce((a, w) => a + w, 0);
      const size = Math.hypot(...k) || 1;
      for (let c = 0; c < headDim; c++) k[c]! *= mean / size;
    }
    const { allowed: _, ...entry } = entries[target]!;
    const { columns } = entry;
    const merged = { ...entry, k, v, codes: null };
    changed.set(target, 'bias' in columns ? { ...merged, columns: { ...columns, bias: item.bias?.[g] ?? 0 } } : merged);
    dropped.delete(target);
  }
  return entries.map((entry, i) => changed.get(i) ?? entry).filter((_, i) => !dropped.has(i));
}

function loosest(row: ArrayLike<number>): number {
  return Math.max(...FORMAT_NAMES.map(format => tolerance(format, row)));
}

/**
 * Merges neighbours in the exact ranges of some views; returns how many entries took part, -1 where the plan was refused since
 * a group's members are at different shifts.
 */
export function mergeSome(sequence: CacheSequence, model: Model, seed: number): number {
  const { kvHeads } = sequence.cache.shape;
  const random = numbers(seed);
  const plan: MergeItem[] = [];
  for (let view = 0; view < model.length; view++) {
    if (random() > 0) continue;
    const slot = Math.floor(view / kvHeads);
    const head = view % kvHeads;
    const bias = model[view]!.some(({ columns }) => 'bias' in columns) && random() > 0;
    const key = random() > 0 ? 'sum' : 'direction';
    plan.push(drawMerge(slot, head, sequence.exactRanges(slot, head), random, { key, bias }));
  }
  const shifted = sequence.shifts().length > 1;
  let prepared: ReturnType<CacheSequence['prepareMerge']>;
  try {
    prepared = sequence.prepareMerge(plan);
  } catch (error) {
    if (shifted && error instanceof KvasirError && error.code === 'invalid_request') return -1;
    throw error;
  }
  if (random() > 0.8) {
    prepared.discard();
    return 0;
  }
  prepared.apply();
  for (const item of plan) {
    const view = item.slot * kvHeads + item.head;
    // Exact pages need not be of the sequence's own format.
    model[view] = mergeEntries(model[view]!, item).map(entry =>
      entry.codes ? entry : { ...entry, allowed: { k: loosest(entry.k), v: loosest(entry.v) } },
    );
  }
  return plan.reduce((sum, { members }) => sum + members.length, 0);
}
