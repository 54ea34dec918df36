import type { PlainView } from './testing-signals.ts';
import type { ColumnAction, KeepAction, MapAction, MapFunction, MergeAction } from './types.ts';

/** What actions do to plain views, in float64. Entry numbers that make no sense are errors. */

export function storeColumn(views: readonly PlainView[], { name, values }: ColumnAction): void {
  views.forEach((view, head) => {
    const column = values[head]!;
    if (column.length !== view.positions.length) throw new Error(`Column ${name} has ${column.length} values.`);
    view.columns.set(name, column.slice());
  });
}

export function keepEntries(views: readonly PlainView[], { entries }: KeepAction, d: number): void {
  views.forEach((view, head) => {
    const kept = entries[head]!;
    kept.forEach((entry, i) => {
      const previous = i > 0 ? kept[i - 1]! : -1;
      if (entry <= previous || entry >= view.positions.length) throw new Error(`Entry ${entry} after ${previous}.`);
    });
    pickEntries(view, kept, d);
  });
}

/** Sums are of the rows as they were before. */
export function mergeEntries(view: PlainView, action: MergeAction, d: number): void {
  const [k, v] = [view.k.slice(), view.v.slice()];
  const bias = view.columns.get('bias') ?? new Float32Array(view.positions.length);
  const gone = new Set<number>();
  action.targets.forEach((target, g) => {
    const [from, to] = [action.starts[g]!, action.starts[g + 1]!];
    const members = [...action.members.subarray(from, to)];
    const weights = [...action.weightsK.subarray(from, to)];
    k.set(
      action.key === 'direction' ? direction(view.k, members, weights, d) : mix(view.k, members, weights, d),
      target * d,
    );
    v.set(mix(view.v, members, [...action.weightsV.subarray(from, to)], d), target * d);
    bias[target] = action.bias?.[g] ?? bias[target]!;
    for (const member of members) if (member !== target) gone.add(member);
  });
  view.k = k;
  view.v = v;
  if (action.bias) view.columns.set('bias', bias);
  const stay = view.positions.map((_, i) => i).filter(i => !gone.has(i));
  pickEntries(view, Uint32Array.from(stay), d);
}

/** All rows are read before any is written. */
export function mapEntries(views: readonly (readonly PlainView[])[], action: MapAction, d: number): void {
  const view = views[action.layer]![action.head]!;
  const rows = Array.from(action.targets, (target, t) => {
    if (target >= view.positions.length) throw new Error(`There is no entry ${target}.`);
    const x = action.sources.map(({ layer = action.layer, head = action.head, entries }) => {
      const { k, v } = views[layer]![head]!;
      const at = entries[t]! * d;
      return { k: k.subarray(at, at + d), v: v.subarray(at, at + d) };
    });
    return mappedRow(x, action.by, t, d);
  });
  for (const [t, target] of action.targets.entries()) {
    view.k.set(rows[t]!.k, target * d);
    view.v.set(rows[t]!.v, target * d);
  }
}

type PlainRow = Pick<PlainView, 'k' | 'v'>;

function mappedRow(x: readonly PlainRow[], by: MapFunction, t: number, d: number): PlainRow {
  if (by.kind === 'rotate') return { k: plainTurn(x[0]!.k, by.by[t]!), v: x[0]!.v.slice() };
  if (by.kind === 'net') {
    const affine = (weights: Float32Array, bias: Float32Array, input: readonly number[]) =>
      Array.from(bias, (b, o) => input.reduce((sum, value, i) => sum + weights[o * input.length + i]! * value, b));
    const inner = affine(
      by.weights1,
      by.bias1,
      x.flatMap(({ k, v }) => [...k, ...v]),
    );
    const y = affine(
      by.weights2,
      by.bias2,
      inner.map(value => value / (1 + Math.exp(-value))),
    );
    return { k: Float64Array.from(y.slice(0, d)), v: Float64Array.from(y.slice(d)) };
  }
  const members = x.map((_, s) => s);
  const weights = (of: Float32Array) => [...of.subarray(t * x.length, (t + 1) * x.length)];
  const plane = (of: 'k' | 'v') => Float64Array.from(x.flatMap(row => [...row[of]]));
  const key = by.key === 'direction' ? direction : mix;
  return { k: key(plane('k'), members, weights(by.weightsK), d), v: mix(plane('v'), members, weights(by.weightsV), d) };
}

/** A key turned by positions, with frequencies 10000^(-2 i / d): plain models have no table of their own. */
export function plainTurn(key: Float64Array, positions: number): Float64Array {
  const half = key.length / 2;
  return key.map((x, c) => {
    const angle = positions * 10000 ** (-(c % half) / half);
    return x * Math.cos(angle) + (c < half ? -key[c + half]! : key[c - half]!) * Math.sin(angle);
  });
}

function mix(x: Float64Array, members: readonly number[], weights: readonly number[], d: number): Float64Array {
  return new Float64Array(d).map((_, c) => members.reduce((sum, m, i) => sum + weights[i]! * x[m * d + c]!, 0));
}

/** The normalised weighted sum of unit vectors, as long as the members on their weighted mean. */
function direction(x: Float64Array, members: readonly number[], weights: readonly number[], d: number): Float64Array {
  const norms = members.map(m => Math.hypot(...x.subarray(m * d, (m + 1) * d)));
  const units = weights.map((w, i) => (norms[i]! > 0 ? w / norms[i]! : 0));
  const sum = mix(x, members, units, d);
  const total = weights.reduce((a, b) => a + b, 0);
  const length = norms.reduce((mean, norm, i) => mean + (weights[i]! * norm) / total, 0);
  const now = Math.hypot(...sum);
  return sum.map(value => (now > 0 ? (value * length) / now : 0));
}

/** Leaves the given entries of a view, with everything that belongs to them. */
export function pickEntries(view: PlainView, entries: Uint32Array, d: number): void {
  const gather = (x: Float64Array) => {
    const out = new Float64Array(entries.length * d);
    entries.forEach((entry, i) => {
      out.set(x.subarray(entry * d, (entry + 1) * d), i * d);
    });
    return out;
  };
  view.k = gather(view.k);
  view.v = gather(view.v);
  view.positions = Int32Array.from(entries, entry => view.positions[entry]!);
  for (const [name, values] of view.columns)
    view.columns.set(
      name,
      Float32Array.from(entries, entry => values[entry]!),
    );
}
