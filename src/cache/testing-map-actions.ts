import { KvasirError } from '../errors.ts';
import type { CacheSequence } from './sequence.ts';
import { type Entry, type Model, numbers, tolerance, turn, turnTable } from './testing-model.ts';
import { FORMAT_NAMES, type MapItem, type RowMap } from './types.ts';

/** Maps of rows drawn from a seed, carried out on a sequence and on its model. */

export const MAP_KINDS = ['blend', 'direction', 'rotate', 'net'] as const;

export interface DrawnMap {
  readonly item: MapItem;
  /** Positions that each target's key is turned by, where it is. */
  readonly turns: readonly number[];
}

/** Some of the entries in `ranges` of a view from entries of any views that have some. */
export function drawMap(
  kind: (typeof MAP_KINDS)[number],
  at: { readonly slot: number; readonly head: number },
  ranges: readonly (readonly [from: number, to: number])[],
  shape: CacheSequence['cache']['shape'],
  lengths: readonly number[],
  random: () => number,
): DrawnMap {
  const { kvHeads, headDim, rotary } = shape;
  const below = (n: number) => Math.floor(((random() + 1) / 2) * n);
  const all = ranges.flatMap(([from, to]) => Array.from({ length: to - from }, (_, i) => from + i));
  const targets = Uint32Array.from(all.filter(() => random() > -0.2)).reverse();
  const views = lengths.flatMap((count, view) => (count > 0 ? [view] : []));
  const sources = Array.from({ length: kind === 'rotate' || views.length === 0 ? 1 : 1 + below(3) }, () => {
    const view = views.length > 0 ? views[below(views.length)]! : at.slot * kvHeads + at.head;
    const entries = targets.map(() => below(lengths[view]!));
    return { slot: Math.floor(view / kvHeads), head: view % kvHeads, entries };
  });
  const floats = (count: number, scale = 1) => Float32Array.from({ length: count }, () => scale * random());
  const turns = Array.from(targets, () => Math.round(300 * random()));
  const n = targets.length * sources.length;
  const by = (): RowMap => {
    if (kind === 'rotate') return { kind, turns: turnTable(turns, rotary) };
    if (kind === 'direction')
      return { kind: 'blend', key: 'direction', weightsK: floats(n).map(w => 0.2 + Math.abs(w)), weightsV: floats(n) };
    if (kind === 'blend') return { kind, weightsK: floats(n), weightsV: floats(n) };
    const inputs = sources.length * 2 * headDim;
    return {
      kind,
      weights1: floats(3 * inputs),
      bias1: floats(3),
      weights2: floats(6 * headDim),
      bias2: floats(2 * headDim),
    };
  };
  return { item: { ...at, targets, sources, by: by() }, turns: kind === 'rotate' ? turns : [] };
}

/** A map carried out on plain entries, in float64, from what the cache had stored of them: the view's new entries. */
export function mapEntries(model: Model, { item, turns }: DrawnMap, kvHeads: number, rotary: number): Entry[] {
  const out = [...model[item.slot * kvHeads + item.head]!];
  for (const [t, target] of item.targets.entries()) {
    const rows = item.sources.map(({ slot, head, entries }) => model[slot * kvHeads + head]![entries[t]!]!.codes!);
    const { allowed: _, ...entry } = out[target]!;
    out[target] = { ...entry, ...mapped(rows, item.by, t, turns[t]!, rotary), codes: null };
  }
  return out;
}

function mapped(
  rows: readonly { readonly k: Float32Array; readonly v: Float32Array }[],
  by: RowMap,
  target: number,
  turns: number,
  rotary: number,
): { k: Float64Array; v: Float64Array } {
  if (by.kind === 'rotate') return { k: turn(rows[0]!.k, turns, rotary), v: Float64Array.from(rows[0]!.v) };
  const width = rows[0]!.k.length;
  if (by.kind === 'net') {
    const x = rows.flatMap(({ k, v }) => [...k, ...v]);
    const layer = (weights: Float32Array, bias: Float32Array, input: readonly number[]) =>
      Array.from(bias, (b, o) => input.reduce((sum, value, i) => sum + weights[o * input.length + i]! * value, b));
    const hidden = layer(by.weights1, by.bias1, x).map(value => value / (1 + Math.exp(-value)));
    const y = layer(by.weights2, by.bias2, hidden);
    return { k: Float64Array.from(y.slice(0, width)), v: Float64Array.from(y.slice(width)) };
  }
  const weigh = (weights: Float32Array, plane: readonly ArrayLike<number>[]) =>
    Float64Array.from({ length: width }, (_, c) =>
      plane.reduce((sum, row, s) => sum + weights[target * rows.length + s]! * row[c]!, 0),
    );
  const v = weigh(
    by.weightsV,
    rows.map(row => row.v),
  );
  const keys = rows.map(row => row.k);
  if (by.key !== 'direction') return { k: weigh(by.weightsK, keys), v };
  const norms = keys.map(key => Math.hypot(...key));
  const k = weigh(
    by.weightsK,
    keys.map((key, s) => Float64Array.from(key, x => x / (norms[s] || 1))),
  );
  const weights = keys.map((_, s) => by.weightsK[target * rows.length + s]!);
  const mean = weights.reduce((a, w, s) => a + w * norms[s]!, 0) / weights.reduce((a, w) => a + w, 0);
  const size = Math.hypot(...k) || 1;
  return { k: k.map(x => (x * mean) / size), v };
}

/** Errors of the largest rows come with the sums, too. */
function loosest(row: ArrayLike<number>): number {
  return 2 * Math.max(...FORMAT_NAMES.map(format => tolerance(format, row)));
}

/** Maps entries in the exact ranges of some views; returns how many, -1 where the plan was refused for shifts that differ. */
export function mapSome(sequence: CacheSequence, model: Model, seed: number): number {
  const { shape } = sequence.cache;
  const random = numbers(seed);
  const plan: DrawnMap[] = [];
  for (let view = 0; view < model.length; view++) {
    if (random() > 0) continue;
    const [slot, head] = [Math.floor(view / shape.kvHeads), view % shape.kvHeads];
    const kind = MAP_KINDS[Math.floor(Math.abs(random()) * 4)]!;
    const lengths = model.map(entries => entries.length);
    plan.push(drawMap(kind, { slot, head }, sequence.exactRanges(slot, head), shape, lengths, random));
  }
  const shifted = sequence.shifts().length > 1;
  let prepared: ReturnType<CacheSequence['prepareMap']>;
  try {
    prepared = sequence.prepareMap(plan.map(({ item }) => item));
  } catch (error) {
    if (shifted && error instanceof KvasirError && error.code === 'invalid_request') return -1;
    throw error;
  }
  if (random() > 0.8) {
    prepared.discard();
    return 0;
  }
  prepared.apply();
  // Sources are read before any target is written.
  const mappedViews = plan.map(drawn => mapEntries(model, drawn, shape.kvHeads, shape.rotary));
  for (const [n, { item }] of plan.entries()) {
    model[item.slot * shape.kvHeads + item.head] = mappedViews[n]!.map(entry =>
      entry.codes ? entry : { ...entry, allowed: { k: loosest(entry.k), v: loosest(entry.v) } },
    );
  }
  return plan.reduce((sum, { item }) => sum + item.targets.length, 0);
}
