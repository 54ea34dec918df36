import { floatToHalf, halfToFloat } from '../model/float16.ts';
import type { KvCache } from './cache.ts';
import { isExact, type LatentFormat, type PlaneFormat } from './format.ts';
import { Ref } from './ref-list.ts';
import type { CacheSequence } from './sequence.ts';
import { type Entry, type Model, numbers, positionOf, tolerance } from './testing-model.ts';
import { type EncodeItem, FORMAT_NAMES, type JoinedPlane, type SharedBlock } from './types.ts';

const ref = new Ref();

/** Plans of encode and join drawn from a seed, carried out on a sequence and on its model. */

/** Largest error of one number that a format may bring to values between -top and top. */
function allowedError(format: PlaneFormat, row: ArrayLike<number>, top: number): number {
  if (isExact(format)) return tolerance(format, row);
  if (format.kind !== 'scalar') return Number.POSITIVE_INFINITY;
  // Half a step of the widest range there can be, and f16 parameters.
  const steps = format.parts.map(({ bits, transform, range }) => {
    const stretch = transform ? Math.sqrt(row.length) : 1;
    if (bits === 16) return stretch * top * 2 ** -10;
    return (stretch * top * (range === 'sign' ? 4 : 2.2)) / (2 ** bits - 1) + top * 2 ** -8;
  });
  return Math.max(...steps) * (format.lowRank ? 4 : 1);
}

/** What the view's entries are from now on: as decoded, with the errors that their planes may gain. */
function recode(entry: Entry, allowed: { k: number; v: number }): Entry {
  const codes = entry.codes!;
  return { ...entry, k: Float64Array.from(codes.k), v: Float64Array.from(codes.v), codes: null, allowed };
}

/** One format for K or V drawn at random; undefined: the plane stays. */
export type DrawFormat = (random: () => number) => { format: PlaneFormat; shared?: SharedBlock } | undefined;

export const drawExact: DrawFormat = random => {
  const n = Math.floor(Math.abs(random()) * 4);
  return n === 3 ? undefined : { format: FORMAT_NAMES[n]! };
};

/**
 * Encodes parts of the exact ranges of some views. Returns how many entries were encoded; -1 where the plan was refused since
 * its ranges are no whole pages.
 */
export function encodeSome(sequence: CacheSequence, model: Model, seed: number, draw: DrawFormat): number {
  const { kvHeads } = sequence.cache.shape;
  const random = numbers(seed);
  const plan: EncodeItem[] = [];
  let top = 0;
  for (const entry of model.flat()) for (const x of entry.codes?.k ?? []) top = Math.max(top, Math.abs(x));
  for (const entry of model.flat()) for (const x of entry.codes?.v ?? []) top = Math.max(top, Math.abs(x));
  for (let view = 0; view < model.length; view++) {
    if (random() > 0.2) continue;
    const slot = Math.floor(view / kvHeads);
    const head = view % kvHeads;
    for (const [first, end] of sequence.exactRanges(slot, head)) {
      const k = draw(random);
      const v = draw(random);
      if (!k && !v) continue;
      const cut = k && v && random() > 0;
      const from = cut ? first + Math.floor(Math.abs(random()) * (end - first)) : first;
      const to = cut ? from + Math.floor(Math.abs(random()) * (end - from + 1)) : end;
      const single = cut && random() > 0;
      const entries = () => Uint32Array.from({ length: to - from }, (_, i) => from + i).filter(() => random() > 0);
      plan.push({
        ...{ slot, head },
        ...(single ? { entries: entries() } : { from, to }),
        ...(k && { k: k.format }),
        ...(v && { v: v.format }),
        ...(k?.shared && { sharedK: k.shared }),
        ...(v?.shared && { sharedV: v.shared }),
      });
    }
  }
  const partly = plan.some(({ k, v }) => !k || !v);
  let prepared: ReturnType<CacheSequence['prepareEncode']>;
  try {
    prepared = sequence.prepareEncode(plan);
  } catch (error) {
    if (partly && (error as { code?: string }).code === 'invalid_request') return -1;
    throw error;
  }
  if (random() > 0.8) {
    prepared.discard();
    return 0;
  }
  const starts = model.map((_, view) => recordStarts(sequence, view));
  prepared.apply();
  let count = 0;
  for (const item of plan) {
    const { slot, head, k, v } = item;
    const entries = model[slot * kvHeads + head]!;
    for (const i of named(item)) {
      const { codes } = entries[i]!;
      entries[i] = recode(entries[i]!, {
        k: k ? allowedError(k, codes!.k, top) : 0,
        v: v ? allowedError(v, codes!.v, top) : 0,
      });
      count++;
    }
  }
  for (let view = 0; view < model.length; view++) {
    const classes = plan.flatMap((item, n) =>
      'entries' in item && item.slot * kvHeads + item.head === view && item.entries.length > 0 ? [{ item, n }] : [],
    );
    if (classes.length === 0) continue;
    const taken = classes.flatMap(({ item }) => [...item.entries]);
    const first = Math.min(...taken);
    const at = starts[view]!.filter(start => start <= first).at(-1)!;
    const gone = new Set(taken);
    const before = model[view]!;
    const rest = (part: readonly Entry[], first: number) => part.filter((_, i) => !gone.has(first + i));
    model[view] = [
      ...rest(before.slice(0, at), 0),
      ...taken.map(entry => before[entry]!),
      ...rest(before.slice(at), at),
    ];
  }
  return count;
}

/** First entry of each record of a view. */
function recordStarts(sequence: CacheSequence, view: number): number[] {
  const c = sequence.content;
  let entry = 0;
  return Array.from({ length: c.refs[view]! }, (_, i) => {
    const start = entry;
    entry += ref.load(c.storage.memory, c.ref(view, i)).live;
    return start;
  });
}

/** Entries that an item names. */
function named(item: EncodeItem): number[] {
  if ('entries' in item) return [...item.entries];
  return Array.from({ length: item.to - item.from }, (_, i) => item.from + i);
}

/** Joins entries that several views hold at the same positions; returns how many. */
export function joinSome(cache: KvCache, sequence: CacheSequence, model: Model, seed: number): number {
  const { slots, kvHeads, headDim } = cache.shape;
  const random = numbers(seed);
  const all = Array.from({ length: slots * kvHeads }, (_, view) => view).sort(() => random());
  const views = all.slice(0, 1 + Math.floor(Math.abs(random()) * 4));
  const entries = common(model, views);
  const kept = entries[0]!.map(() => random() > -0.5);
  const lists = entries.map(list => Uint32Array.from(list.filter((_, i) => kept[i])));
  const count = lists[0]!.length;
  const plane = (name: 'k' | 'v'): { joined: JoinedPlane; rowsOf: (i: number, j: number) => Float64Array } => {
    const basis = random() > 0;
    const rank = basis ? 8 * (1 + Math.floor(Math.abs(random()) * 2)) : headDim;
    const norms = random() > 0;
    const format: LatentFormat = { kind: 'latent', rank, bits: 16, basis, norms };
    const draw = (length: number) => Float32Array.from({ length }, random);
    const rows = draw(count * rank);
    const joined: JoinedPlane = {
      ...{ format, rows },
      ...(norms && { norms: views.map(() => draw(count)) }),
      ...(basis && {
        bases: views.map(view => ({
          key: `${sequence.content.version}/${seed}/${name}/${view}`,
          values: draw(rank * headDim),
        })),
      }),
    };
    const half = (x: number) => halfToFloat(floatToHalf(x));
    const rowsOf = (i: number, j: number) => {
      const norm = joined.norms?.[i]?.[j] ?? 1;
      return Float64Array.from({ length: headDim }, (_, c) => {
        if (!basis) return norm * half(rows[j * rank + c]!);
        let sum = 0;
        for (let r = 0; r < rank; r++)
          sum += half(rows[j * rank + r]!) * half(joined.bases![i]!.values[r * headDim + c]!);
        return norm * sum;
      });
    };
    return { joined, rowsOf };
  };
  const k = plane('k');
  const v = plane('v');
  const places = views.map(view => ({ slot: Math.floor(view / kvHeads), head: view % kvHeads }));
  const prepared = sequence.prepareJoin([{ views: places, entries: lists, k: k.joined, v: v.joined }]);
  if (random() > 0.8) {
    prepared.discard();
    return 0;
  }
  prepared.apply();
  for (const [i, view] of views.entries()) {
    const before = model[view]!;
    const taken = new Set(lists[i]!);
    const joined = [...lists[i]!].map((entry, j): Entry => {
      const allowed = { k: 1e-5, v: 1e-5 };
      return { ...before[entry]!, k: k.rowsOf(i, j), v: v.rowsOf(i, j), codes: null, allowed };
    });
    model[view] = [...joined, ...before.filter((_, n) => !taken.has(n))];
  }
  return count * views.length;
}

/** Entry numbers, ascending in every one of the views, of the tokens that all of them hold at one position and shift. */
function common(model: Model, views: readonly number[]): number[][] {
  const keyOf = (entry: Entry) => `${entry.stored} ${positionOf(entry)}`;
  const maps = views.map(view => new Map(model[view]!.map((entry, i) => [keyOf(entry), i])));
  const lists: number[][] = views.map(() => []);
  for (const key of maps[0]!.keys()) {
    const at = maps.map(map => map.get(key) ?? -1);
    if (at.every((entry, i) => entry > (lists[i]!.at(-1) ?? -1)))
      for (const [i, entry] of at.entries()) lists[i]!.push(entry);
  }
  return lists;
}
