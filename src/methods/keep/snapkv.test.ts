import { describe, expect, test } from 'vitest';
import { differences, keepTop, windowScores } from '../testing-cards.ts';
import { held, keeps, lengths, runPlain, SHAPES, SIZES } from '../testing-policy.ts';
import { snapkv } from './snapkv.ts';

describe.each(SHAPES)('%o', shape => {
  test.each(SIZES)('%i tokens: the sets of the card', rows => {
    const options = { keep: 0.4, window: 8, pool: 'max', width: 7 } as const;
    const { cache, attention } = runPlain(snapkv, options, rows, shape);
    const { kvHeads } = shape;
    const budget = Math.max(8, Math.floor(0.4 * rows));
    held(cache).forEach((heads, layer) => {
      const how = { w: 8, kvHeads, rows: 'mean', kind: 'max', width: 7, group: 'mean' } as const;
      const scores = windowScores(attention[layer]!, how);
      keepTop(scores, rows, budget, 8).forEach((expected, head) => {
        expect(heads[head]).toHaveLength(Math.min(rows, budget));
        expect(differences(heads[head]!, expected, scores[head]!)).toEqual([]);
      });
    });
  });
});

test('mean pooling as kvpress has it', () => {
  const { cache, attention } = runPlain(snapkv, { budget: 100, window: 64, pool: 'mean', width: 5 }, 300);
  const how = { w: 64, kvHeads: 2, rows: 'mean', kind: 'mean', width: 5, group: 'mean' } as const;
  const scores = windowScores(attention[1]!, how);
  keepTop(scores, 300, 100, 64).forEach((expected, head) => {
    expect(differences(held(cache)[1]![head]!, expected, scores[head]!)).toEqual([]);
  });
});

test('a cache within the budget is left alone', () => {
  expect(runPlain(snapkv, { budget: 100 }, 100).actions.flat()).toEqual([]);
  expect(runPlain(snapkv, {}, 65).actions.flat()).toEqual([]);
});

test('exactly the budget stays, the window in it, ascending', () => {
  const { cache, actions } = runPlain(snapkv, { budget: 50, window: 16 }, 200);
  expect(lengths(cache).flat()).toEqual([50, 50, 50, 50]);
  for (const { entries } of actions.flatMap(keeps))
    for (const kept of entries) expect([...kept].slice(-16)).toEqual(Array.from({ length: 16 }, (_, i) => 184 + i));
});

test('a budget below the window keeps the window', () => {
  const { cache } = runPlain(snapkv, { budget: 5 }, 100);
  expect(held(cache)[0]![0]).toEqual(Array.from({ length: 32 }, (_, i) => 68 + i));
});
