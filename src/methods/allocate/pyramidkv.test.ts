import { describe, expect, test } from 'vitest';
import { snapkv } from '../keep/snapkv.ts';
import { differences, keepTop, pyramidCard, windowScores } from '../testing-cards.ts';
import { held, lengths, runPlain, SHAPES, SIZES } from '../testing-policy.ts';
import { pyramidkv } from './pyramidkv.ts';

describe.each([...SHAPES, { layers: 1, kvHeads: 1, group: 2 }, { layers: 7, kvHeads: 1, group: 1 }])('%o', shape => {
  test.each(SIZES)('%i tokens: budgets and sets of the card', rows => {
    const { cache, attention } = runPlain(pyramidkv, { keep: 0.3 }, rows, shape);
    const budgets = pyramidCard(rows, Math.max(8, Math.floor(0.3 * rows)), 8, 20, shape.layers);
    held(cache).forEach((heads, layer) => {
      const how = { w: 8, kvHeads: shape.kvHeads, rows: 'mean', kind: 'max', width: 7, group: 'mean' } as const;
      const scores = windowScores(attention[layer]!, how);
      keepTop(scores, rows, budgets[layer]!, 8).forEach((expected, head) => {
        expect(heads[head]).toHaveLength(Math.min(rows, budgets[layer]!));
        expect(differences(heads[head]!, expected, scores[head]!)).toEqual([]);
      });
    });
  });
});

test('budgets fall linearly with depth, and their mean is the budget but for rounding', () => {
  const layers = 6;
  const { cache } = runPlain(pyramidkv, { budget: 68 }, 500, { layers });
  const kept = lengths(cache).map(heads => heads[0]!);
  const steps = kept.slice(1).map((value, i) => kept[i]! - value);
  expect(new Set(steps).size).toBe(1);
  expect(steps[0]).toBeGreaterThan(0);
  const mean = kept.reduce((a, b) => a + b, 0) / layers;
  expect(mean).toBeGreaterThanOrEqual(68);
  expect(mean).toBeLessThan(68 + layers / 2);
});

test.each([0.05, 0.4, 0.7, 0.95])('never more than the prompt, never less than the window (keep %d)', keep => {
  for (const rows of [20, 64, 300])
    for (const length of lengths(runPlain(pyramidkv, { keep, beta: 3 }, rows, { layers: 5 }).cache).flat()) {
      expect(length).toBeLessThanOrEqual(rows);
      expect(length).toBeGreaterThanOrEqual(8);
    }
});

test('beta = 1 is SnapKV', () => {
  const flat = { budget: 50, window: 8 };
  const pyramid = runPlain(pyramidkv, { ...flat, beta: 1 }, 200, { layers: 4 });
  expect(held(pyramid.cache)).toEqual(held(runPlain(snapkv, flat, 200, { layers: 4 }).cache));
});

test('a prompt shorter than twice the budget is SnapKV', () => {
  const flat = { budget: 60, window: 8 };
  const pyramid = runPlain(pyramidkv, flat, 100, { layers: 4 });
  expect(held(pyramid.cache)).toEqual(held(runPlain(snapkv, flat, 100, { layers: 4 }).cache));
});
