import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { boundsOf } from '../src/cache/unit-index.ts';
import { chooseLevels } from '../src/engine/retrieve/choose.ts';
import { evenness, layerPart } from '../src/engine/retrieve/entropy.ts';
import { activationQuery, meanQuery, queryStatistics } from '../src/engine/retrieve/probe-query.ts';
import { boundOf, cosineScores, unitScores } from '../src/engine/retrieve/score.ts';
import { mpcache } from '../src/methods/keep/mpcache.ts';
import { plainModel } from '../src/methods/testing.ts';
import { drawnRows } from './helpers/golden-codes.ts';
import { goldenTensors } from './helpers/golden-tensors.ts';

/** See golden/methods/README.md. */
interface Choice {
  readonly method: 'mpcache';
  readonly seed: number;
  readonly rows: number;
  readonly heads: number;
  readonly runs: readonly (readonly number[])[];
}
interface Windows {
  readonly method: 'actqkv';
  readonly seed: number;
  readonly windows: number;
  readonly window: number;
  readonly width: number;
  readonly blocks: number;
  readonly upper: number;
  readonly weight: number;
  readonly scores: readonly (readonly number[])[];
  readonly evenness: readonly number[];
}
interface Parts {
  readonly method: 'actqkv';
  readonly seed: number;
  readonly layers: number;
  readonly history: number;
  readonly mean: number;
  readonly least: number;
  readonly most: number;
  readonly parts: readonly number[];
}
interface Bounds {
  readonly method: 'leoam';
  readonly seed: number;
  readonly chunk: number;
  readonly lower: readonly number[];
  readonly upper: readonly number[];
}
type Case = Choice | Windows | Parts | Bounds;

const file = new URL('golden/methods/reads.json', import.meta.url);
const cases: readonly Case[] = JSON.parse(readFileSync(file, 'utf8'));
const choices = cases.filter(item => item.method === 'mpcache');
const windows = cases.filter((item): item is Windows => 'windows' in item);
const parts = cases.filter((item): item is Parts => 'parts' in item);
const bounds = cases.filter(item => item.method === 'leoam');
const headDim = 16;
const range = (n: number) => Array.from({ length: n }, (_, i) => i);

test('there are cases of each method', () => {
  expect([choices, windows, parts, bounds].map(of => of.length)).toEqual([3, 2, 1, 2]);
});

describe.each(choices)('mpcache, $rows tokens', ({ seed, rows, heads, runs }) => {
  const { q, k } = goldenTensors(seed, rows, heads, heads, headDim);
  const rowOf = (x: Float64Array, row: number, head: number) =>
    x.subarray((row * heads + head) * headDim, (row * heads + head + 1) * headDim);

  test.each(range(heads))('head %i reads the runs that the authors read', head => {
    const { retrieve } = mpcache.create(mpcache.options.parse({ linear: 0.6, adopt: false }), plainModel());
    const { score, choose, units, always } = retrieve!(0)!;
    if (choose.by !== 'levels' || score.by !== 'bounds' || units === 'parked') throw new Error('no runs');
    const { size } = units;
    const query = Float32Array.from(rowOf(q, rows - 1, head));
    const keys = Float32Array.from(range(rows).flatMap(row => [...rowOf(k, row, head)]));
    const scoresOf = (together: number) => {
      const of = size * together;
      const each = range(Math.ceil(rows / of)).map(n => boundsOf(keys, headDim, n * of, Math.min(rows, (n + 1) * of)));
      const index = Float32Array.from(each.flatMap(x => [...x]));
      return unitScores(score, query, { count: each.length, index }, headDim);
    };
    expect([...chooseLevels(rows / size, choose.levels, scoresOf, always!)]).toEqual(runs[head]);
  });
});

describe.each(windows)('actqkv, $windows windows of $window tokens, weight $weight', golden => {
  const { seed, windows: count, window, width, blocks, upper, weight } = golden;
  const x = drawnRows(seed, width, count * window + blocks + 1);
  const keys = { count: blocks, index: x.subarray(count * window * width, -width) };
  const asked = cosineScores(x.subarray(-width), [keys], width);
  const scoresOf = (query: Float32Array) => cosineScores(query, [keys], width).map((s, i) => s + weight * asked[i]!);
  const apart = (scores: Float64Array, at: number) =>
    Math.max(...golden.scores[at]!.map((score, i) => Math.abs(scores[i]! - score)));

  test('has the probe queries, scores and evenness of the authors', () => {
    const statistics = queryStatistics(width);
    for (const at of range(count)) {
      const rows = x.subarray(at * window * width, (at + 1) * window * width);
      // They count windows from 0.
      const scores = scoresOf(activationQuery(rows, width, statistics, { horizon: upper + 1, warmup: upper + 1 }));
      // Theirs is the variance of a sample: a common factor, but for windows that the horizon begins to forget.
      const weighs = at > upper;
      expect(apart(scores, at)).toBeLessThan(weighs ? 2e-4 : 2e-6 * (1 + weight));
      expect(Math.abs(evenness(scores) - golden.evenness[at]!)).toBeLessThan(weighs ? 1e-5 : 1e-6);
      if (weighs) expect(apart(scoresOf(meanQuery(rows, width)), at)).toBeGreaterThan(2e-3);
    }
  });
});

test.each(parts)('actqkv: layers get as many blocks as with the authors', golden => {
  const { seed, layers, history, mean, parts: theirs, ...limits } = golden;
  const values = drawnRows(seed, history, layers).map(value => Math.min(1, Math.abs(value) / 4));
  const histories = range(layers).map(layer => [...values.subarray(layer * history, (layer + 1) * history)]);
  const rule = { by: 'entropy', mean, history, least: limits.least, most: limits.most } as const;
  let left = layers * mean;
  const ours = range(layers).map(layer => {
    const part = layerPart(rule, histories.slice(layer), left, 1000);
    left -= part;
    return part;
  });
  expect(ours).toEqual(theirs);
  expect(new Set(ours).size).toBeGreaterThan(2);
});

test.each(bounds)('leoam, chunks of $chunk: the bounds of the authors', ({ seed, chunk, lower, upper }) => {
  const x = drawnRows(seed, headDim, 4 * chunk + 1);
  const query = x.subarray(-headDim);
  for (const n of range(4)) {
    const of = boundsOf(x, headDim, n * chunk, (n + 1) * chunk);
    expect(Math.abs(boundOf(query, 0, of, 0, headDim, 'lower') - lower[n]!)).toBeLessThan(1e-5);
    expect(Math.abs(boundOf(query, 0, of, 0, headDim) - upper[n]!)).toBeLessThan(1e-5);
  }
});
