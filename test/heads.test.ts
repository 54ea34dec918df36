import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { KvCache } from '../src/cache/cache.ts';
import { PlainKernels, PlainMemory } from '../src/cache/testing.ts';
import { appendRows, type Model } from '../src/cache/testing-model.ts';
import { directions } from '../src/engine/program/join-directions.ts';
import { probeScores, razorProfile } from '../src/methods/calibrate/razor.ts';
import { razorAttention } from '../src/methods/keep/razor-attention.ts';
import { angularDistance, distantEntries } from '../src/methods/merge/distant.ts';
import { PlainCache, plainModel } from '../src/methods/testing.ts';
import { attentionOf } from '../src/methods/testing-cards.ts';
import { drawnRows } from './helpers/golden-codes.ts';
import { goldenTensors } from './helpers/golden-tensors.ts';

/** See golden/methods/README.md. */
interface Heads {
  readonly method: 'razor-attention';
  readonly seed: number;
  readonly period: number;
  readonly rows: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly shares: Record<Kind, number>;
  /** [layers][heads] */
  readonly sums: Record<Kind, readonly (readonly number[])[]>;
  /** By layer: KV heads. */
  readonly chosen: Record<Kind, readonly (readonly number[])[]>;
}
type Kind = 'echo' | 'induction';
interface Held {
  readonly method: 'razor-cache';
  readonly seed: number;
  readonly rows: number;
  readonly kvHeads: number;
  readonly sinks: number;
  readonly capacity: number;
  readonly compensate: boolean;
  readonly values: readonly number[];
  /** [kvHeads][headDim] */
  readonly middle?: readonly (readonly number[])[];
}
interface Pair {
  readonly method: 'minicache';
  readonly seed: number;
  readonly rows: number;
  readonly width: number;
  readonly t: number;
  readonly gamma: number;
  readonly distance: readonly number[];
  readonly apart: readonly number[];
  readonly upper: readonly number[];
  readonly lower: readonly number[];
}

const file = new URL('golden/methods/heads.json', import.meta.url);
const cases: readonly (Heads | Held | Pair)[] = JSON.parse(readFileSync(file, 'utf8'));
const heads = cases.filter(item => item.method === 'razor-attention');
const held = cases.filter(item => item.method === 'razor-cache');
const pairs = cases.filter(item => item.method === 'minicache');
const headDim = 16;
const range = (n: number) => Array.from({ length: n }, (_, i) => i);

test('there are cases of each method', () => {
  expect([heads, held, pairs].map(of => of.length)).toEqual([1, 3, 3]);
});

test.each(heads)('razor-attention: scores and choice of $heads heads on $kvHeads in $layers layers', golden => {
  const { seed, period, rows, layers, kvHeads, shares } = golden;
  const model = plainModel({ layers, kvHeads, group: golden.heads / kvHeads, headDim });
  const scores = { echo: [] as number[][], induction: [] as number[][] };
  for (const layer of range(layers)) {
    const { q, k } = goldenTensors(seed + layer, rows, golden.heads, kvHeads, headDim);
    const attention = attentionOf(model, { q, k, v: k, hidden: new Float64Array(rows) });
    const sums = attention.map(matrix => {
      // Row 0 of our probe is a start token, which theirs has not.
      const each = matrix.slice(period).map((row, i) => probeScores([0, ...row], period + i + 1, period));
      const sum = (kind: Kind) => each.reduce((all, value) => all + value[kind], 0);
      return { echo: sum('echo'), induction: sum('induction') };
    });
    for (const kind of ['echo', 'induction'] as const) {
      scores[kind].push(sums.map(value => value[kind]));
      for (const [head, expected] of golden.sums[kind][layer]!.entries())
        expect(Math.abs(sums[head]![kind] - expected)).toBeLessThan(1e-5 * expected);
    }
  }
  const { echo, induction } = shares;
  expect(razorProfile(scores, model, { echo, induction: 0 }).retrieval).toEqual(golden.chosen.echo);
  expect(razorProfile(scores, model, { echo: 0, induction }).retrieval).toEqual(golden.chosen.induction);
});

test.each(held)('razor-attention: $rows tokens in $capacity entries, a mean for the rest: $compensate', golden => {
  const { seed, rows, kvHeads, sinks, capacity, compensate, values, middle } = golden;
  const model = plainModel({ layers: 1, kvHeads, group: 1, headDim });
  const { q, k } = goldenTensors(seed, rows, kvHeads, kvHeads, headDim);
  const v = k.map((_, i) => Math.floor(i / (kvHeads * headDim)));
  const minimum = capacity - sinks - Number(compensate);
  const options = razorAttention.options.parse({ sinks, minimum, compensate, divisor: 1000 });
  const profile = { kind: 'razor-attention', fingerprint: model.fingerprint, retrieval: [[]] };
  const cache = new PlainCache(model);
  cache.prompt(razorAttention.create(options, model, profile), [{ q, k, v, hidden: new Float64Array(rows) }]);
  for (const [head, view] of cache.views[0]!.entries()) {
    expect(view.positions).toHaveLength(values.length);
    for (const [i, value] of values.entries()) expect(view.v[i * headDim]).toBeCloseTo(value, 4);
    for (const [c, value] of (middle?.[head] ?? []).entries())
      expect(view.k[sinks * headDim + c]).toBeCloseTo(value, 5);
  }
});

test.each(pairs)('minicache: shared directions, distances and tokens kept apart, t $t, gamma $gamma', golden => {
  const { seed, rows, width, t, gamma } = golden;
  const lower = drawnRows(seed, width, rows);
  const upper = drawnRows(seed + 100, width, rows).map((x, i) => Math.fround(0.5 * lower[i]! + x));
  const memory = new PlainMemory(1 << 20);
  const shape = { slots: 2, kvHeads: 1, headDim: width, rotary: width };
  const cache = new KvCache({ memory, kernels: new PlainKernels(memory), shape, limit: 1 << 19 });
  const sequence = cache.create({ owner: 'golden', pages: { formatK: 'f32', formatV: 'f32' } });
  // Keys are turned when they are appended, values are not: the rows go there.
  const none = new Float32Array(rows * width);
  const values = [none, lower, none, upper].flatMap(x => [...x])[Symbol.iterator]();
  const model: Model = [[], []];
  appendRows(cache, sequence, model, rows, () => values.next().value!);
  const entries = Uint32Array.from(range(rows));
  const views = [0, 1].map(layer => ({ layer, head: 0 }));
  const plane = { kind: 'directions', t, bits: 16 } as const;
  const shared = directions(
    sequence,
    { do: 'join', views, entries: [entries, entries], k: plane, v: plane },
    plane,
    'v',
  );
  for (const [n, expected] of [golden.lower, golden.upper].entries())
    for (const [i, value] of expected.entries()) {
      const norm = shared.norms![n]![Math.floor(i / width)]!;
      expect(Math.abs(norm * shared.rows[i]! - value)).toBeLessThan(1e-5 * norm);
    }
  const cosines = Float32Array.from(entries, i => {
    const [a, b] = [lower, upper].map(x => x.subarray(i * width, (i + 1) * width));
    return a!.reduce((sum, x, c) => sum + x * b![c]!, 0) / Math.hypot(...a!) / Math.hypot(...b!);
  });
  for (const [i, distance] of golden.distance.entries())
    expect(Math.abs(angularDistance(cosines[i]!) - distance)).toBeLessThan(1e-6);
  expect(distantEntries(entries, cosines, gamma, true).sort((a, b) => a - b)).toEqual(golden.apart);
  cache.dispose();
});
