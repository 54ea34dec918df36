import { describe, expect, test } from 'vitest';
import { boundsOf } from '../../cache/unit-index.ts';
import { plainRandom } from '../../methods/testing.ts';
import { activationQuery, byHead, meanQuery, queryStatistics } from './probe-query.ts';
import { meanCosine } from './queries.ts';
import { groupRuns } from './runs.ts';
import { boundOf, boundScore, cosineScores, unitScores } from './score.ts';

const random = plainRandom(8);
const draw = (n: number) => Float32Array.from({ length: n }, () => 2 * random() - 1);
const dot = (q: Float32Array, k: Float32Array) => q.reduce((sum, x, c) => sum + x * k[c]!, 0);

describe.each([1, 8])('a group of %i query heads', group => {
  test.each([1, 63, 64, 65])('no key of %i lies outside of the bounds', rows => {
    const d = 16;
    const keys = draw(rows * d);
    const bounds = boundsOf(keys, d, 0, rows);
    const queries = draw(group * d);
    let most = Number.NEGATIVE_INFINITY;
    for (let g = 0; g < group; g++)
      for (let row = 0; row < rows; row++) {
        const q = queries.subarray(g * d, (g + 1) * d);
        const score = dot(q, keys.subarray(row * d, (row + 1) * d));
        most = Math.max(most, score);
        expect(boundOf(queries, g * d, bounds, 0, d, 'upper')).toBeGreaterThanOrEqual(score - 1e-6);
        expect(boundOf(queries, g * d, bounds, 0, d, 'lower')).toBeLessThanOrEqual(score + 1e-6);
      }
    expect(boundScore(queries, bounds, 0, d)).toBeGreaterThanOrEqual(most - 1e-6);
    if (rows === 1) expect(boundScore(queries, bounds, 0, d)).toBeCloseTo(most, 5);
    // The linear form promises nothing, but never lies above.
    expect(boundScore(queries, bounds, 0, d, 1)).toBeLessThanOrEqual(boundScore(queries, bounds, 0, d) + 1e-6);
  });

  test('mean keys: softmax over units of each head, then their mean', () => {
    const d = 4;
    const index = draw(5 * d);
    const queries = draw(group * d);
    const scores = unitScores({ by: 'mean' }, queries, { count: 5, index }, d);
    const wanted = new Float64Array(5);
    for (let g = 0; g < group; g++) {
      const line = Array.from({ length: 5 }, (_, u) =>
        Math.exp(dot(queries.subarray(g * d, (g + 1) * d), index.subarray(u * d, (u + 1) * d)) / 2),
      );
      const total = line.reduce((a, b) => a + b, 0);
      line.forEach((x, u) => {
        wanted[u]! += x / total / group;
      });
    }
    for (const [u, score] of scores.entries()) expect(score).toBeCloseTo(wanted[u]!, 6);
  });

  test('cosines are about all heads side by side', () => {
    const d = 4;
    const views = [draw(3 * d), draw(3 * d)].map(index => ({ count: 3, index }));
    const queries = draw(2 * group * d);
    const scores = cosineScores(queries, views, d);
    for (let unit = 0; unit < 3; unit++) {
      const key = Float32Array.from(
        views.flatMap(({ index }) =>
          Array.from({ length: group }, () => [...index.subarray(unit * d, (unit + 1) * d)]).flat(),
        ),
      );
      const wanted = dot(queries, key) / Math.sqrt(dot(queries, queries) * dot(key, key));
      expect(scores[unit]!).toBeCloseTo(wanted, 5);
    }
    expect([...cosineScores(new Float32Array(2 * group * d), views, d)]).toEqual([0, 0, 0]);
  });
});

test('groups of runs have the bounds of all their keys', () => {
  const d = 8;
  const keys = draw(7 * 4 * d);
  const runs = Float32Array.from(
    Array.from({ length: 7 }, (_, run) => [...boundsOf(keys, d, run * 4, run * 4 + 4)]).flat(),
  );
  const { count, index } = groupRuns({ edits: 0, count: 7, bounds: runs }, 2, d);
  expect(count).toBe(4);
  for (let group = 0; group < 4; group++)
    expect(index.subarray(group * 2 * d, (group + 1) * 2 * d)).toEqual(
      boundsOf(keys, d, group * 8, Math.min(28, group * 8 + 8)),
    );
});

test.each([1, 5])('%i rows that choose together: the mean of their scores, or the greatest bound', rows => {
  const [d, heads, group] = [4, 2, 3];
  const width = heads * group * d;
  const queries = draw(rows * width);
  const byHeads = byHead(queries, width, heads);
  for (let head = 0; head < heads; head++) {
    const size = rows * group * d;
    const mine = byHeads.subarray(head * size, (head + 1) * size);
    const each = Array.from({ length: rows }, (_, row) => {
      const from = row * width + head * group * d;
      return queries.subarray(from, from + group * d);
    });
    const units = { count: 6, index: draw(6 * d) };
    const means = each.map(row => unitScores({ by: 'mean' }, row, units, d));
    const bounds = { count: 6, index: draw(6 * 2 * d) };
    const most = each.map(row => unitScores({ by: 'bounds' }, row, bounds, d));
    for (let unit = 0; unit < 6; unit++) {
      const mean = means.reduce((sum, row) => sum + row[unit]!, 0) / rows;
      expect(unitScores({ by: 'mean' }, mine, units, d)[unit]!).toBeCloseTo(mean, 9);
      expect(unitScores({ by: 'bounds' }, mine, bounds, d)[unit]!).toBe(Math.max(...most.map(row => row[unit]!)));
    }
  }
});

describe('one query for a window', () => {
  test('statistics are those of all rows so far; a row that stands out weighs more', () => {
    const width = 6;
    const statistics = queryStatistics(width);
    const windows = [draw(4 * width), draw(4 * width), draw(4 * width)];
    for (const rows of windows) activationQuery(rows, width, statistics, { horizon: 1000, warmup: 99 });
    const all = windows.flatMap(rows => [...rows]);
    for (let c = 0; c < width; c++) {
      const column = all.filter((_, i) => i % width === c);
      const mean = column.reduce((a, b) => a + b, 0) / 12;
      const variance = column.reduce((a, b) => a + (b - mean) ** 2, 0) / 12;
      expect(statistics.mean[c]!).toBeCloseTo(mean, 9);
      expect(statistics.variance[c]!).toBeCloseTo(variance, 9);
    }
    const rows = draw(4 * width);
    rows.fill(30, 0, width);
    const probe = activationQuery(rows, width, statistics, { horizon: 1000, warmup: 2 });
    expect(probe[0]!).toBeGreaterThan(2 * meanQuery(rows, width)[0]!);
  });

  test('alike while warming up, and for one row', () => {
    const rows = draw(12);
    const probe = activationQuery(rows, 4, queryStatistics(4), { horizon: 10, warmup: 1 });
    expect(probe).toEqual(meanQuery(rows, 4));
    const one = draw(4);
    expect(activationQuery(one, 4, queryStatistics(4), { horizon: 10, warmup: 0 })).toEqual(one);
  });
});

test('cosines of queries by head, their mean; 1 where there is nothing to compare', () => {
  expect(meanCosine(Float32Array.of(1, 0, 0, 1), Float32Array.of(1, 0, 0, -1), 2)).toBeCloseTo(0, 12);
  expect(meanCosine(Float32Array.of(0, 0), Float32Array.of(1, 1), 2)).toBe(1);
});
