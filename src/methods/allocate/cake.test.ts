import { describe, expect, test } from 'vitest';
import { snapkv } from '../keep/snapkv.ts';
import { PlainCache, plainModel, plainPrompt, plainRandom } from '../testing.ts';
import {
  best,
  cakeBudgets,
  cakePreference,
  differences,
  pool as plainPool,
  range,
  windowScores,
} from '../testing-cards.ts';
import { held, keeps, lengths, runPlain, SHAPES, SIZES } from '../testing-policy.ts';
import { PlainDecoder } from '../testing-step.ts';
import { cake } from './cake.ts';
import { settle } from './cascade.ts';

describe('settle', () => {
  test('the sum is exact, layers are within their room and have at least one entry', () => {
    const random = plainRandom(3);
    for (let round = 0; round < 300; round++) {
      const layers = 1 + Math.floor(random() * 12);
      const weights = range(layers).map(() => 12 * (random() - 0.5));
      const room = range(layers).map(() => 1 + Math.floor(random() * 100));
      const total = Math.floor(random() * 60 * layers);
      const out = settle(weights, total, room);
      expect(out.reduce((a, b) => a + b, 0)).toBe(
        Math.min(
          total,
          room.reduce((a, b) => a + b, 0),
        ),
      );
      out.forEach((value, i) => {
        expect(value).toBeLessThanOrEqual(room[i]!);
        expect(value).toBeGreaterThanOrEqual(total >= layers ? 1 : 0);
      });
    }
  });

  test('shares are in proportion; what a full layer leaves goes evenly to the others', () => {
    expect(settle([Math.log(1), Math.log(3)], 100, [1000, 1000])).toEqual([25, 75]);
    expect(settle([Math.log(1), Math.log(1), Math.log(2)], 100, [90, 90, 20])).toEqual([40, 40, 20]);
    expect(settle([-2000, 0], 100, [1000, 1000])).toEqual([1, 99]);
    // 35 that do not fit are dealt out before the one that rounding has left, as by the public code.
    const weights = [0, 0, 0, 0, 127.33, 136.66].map(Math.log);
    expect(settle(weights, 264, Array(6).fill(114))).toEqual([10, 9, 9, 8, 114, 114]);
  });
});

describe.each([...SHAPES, { layers: 6, kvHeads: 1, group: 2 }])('%o', shape => {
  test.each(SIZES)('%i tokens: the cascade is one trim by the stored indicators with the final budgets', rows => {
    const options = { keep: 0.4, window: 8, entropy: 1.6, shift: 0.4 };
    const { cache, attention } = runPlain(cake, options, rows, shape);
    const budget = Math.max(8, Math.floor(0.4 * rows));
    if (rows <= budget) return expect(lengths(cache).flat()).toEqual(Array(shape.layers * shape.kvHeads).fill(rows));
    const preferences = attention.map(layer => cakePreference(layer, 8, 1.6, 0.4));
    const budgets = cakeBudgets(preferences, (budget - 8) * shape.layers, rows - 8);
    held(cache).forEach((heads, layer) => {
      const how = { w: 8, kvHeads: shape.kvHeads, kind: 'mean', width: 5, group: 'mean' } as const;
      const means = windowScores(attention[layer]!, { ...how, rows: 'mean' });
      const variances = windowScores(attention[layer]!, { ...how, rows: 'variance' });
      for (const [head, kept] of heads.entries()) {
        const indicator = means[head]!.map((value, i) => value + 200 * variances[head]![i]!);
        expect(kept).toHaveLength(budgets[layer]! + 8);
        const expected = [...best(indicator, budgets[layer]!), ...range(8).map(i => rows - 8 + i)];
        expect(differences(kept, expected, indicator)).toEqual([]);
      }
    });
  });
});

test.each([
  ['max', 'mean'],
  ['mean', 'max'],
  ['max', 'max'],
  ['mean', 'sum'],
] as const)('pool=%s, group=%s: of mean and variance together', (pool, group) => {
  const rows = 130;
  const shape = { layers: 2, kvHeads: 2, group: 3 };
  const { cache, attention } = runPlain(cake, { budget: 40, window: 8, gamma: 20, pool, group }, rows, shape);
  held(cache).forEach((heads, layer) => {
    for (const [head, kept] of heads.entries()) {
      const members = attention[layer]!.slice(3 * head, 3 * head + 3).map(matrix => {
        const columns = range(rows - 8).map(i => matrix.slice(-8).map(row => row[i]!));
        const sums = columns.map(column => {
          const mean = column.reduce((a, b) => a + b, 0) / 8;
          return mean + (20 * column.reduce((a, b) => a + (b - mean) ** 2, 0)) / 7;
        });
        return plainPool(sums, pool, 5);
      });
      const indicator = range(rows - 8).map(i => {
        const values = members.map(member => member[i]!);
        if (group === 'max') return Math.max(...values);
        return values.reduce((a, b) => a + b, 0) / (group === 'sum' ? 1 : 3);
      });
      const expected = [...best(indicator, kept.length - 8), ...range(8).map(i => rows - 8 + i)];
      expect(differences(kept, expected, indicator)).toEqual([]);
    }
  });
});

test('the budgets add up, and layers really differ', () => {
  const layers = 8;
  const { cache } = runPlain(cake, { budget: 60, entropy: 0.4, shift: 0.4 }, 300, { layers });
  const kept = lengths(cache).map(heads => heads[0]!);
  expect(kept.reduce((a, b) => a + b, 0)).toBe(60 * layers);
  expect(new Set(kept).size).toBeGreaterThan(3);
  for (const heads of lengths(cache)) expect(new Set(heads).size).toBe(1);
});

test('entries held during the prompt never exceed the total plus windows plus the layer being run', () => {
  const layers = 6;
  const model = plainModel({ layers });
  const cache = new PlainCache(model);
  const policy = cake.create(cake.options.parse({ budget: 50 }), model);
  let most = 0;
  cache.prompt(
    {
      sense: policy.sense!,
      decide: at => {
        most = Math.max(most, ...[0, 1].map(head => range(at.layer + 1).reduce((n, l) => n + at.entries(head, l), 0)));
        return policy.decide!(at);
      },
    },
    plainPrompt(model, 400, plainRandom(2)),
  );
  expect(most).toBeLessThanOrEqual((50 - 32) * layers + 32 * layers + 400);
  expect(most).toBeGreaterThan(400);
});

test('gamma = 0 and equal preferences are SnapKV with mean pooling of 5', () => {
  const model = plainModel({ layers: 3 });
  // The same tensors in all layers: the same preferences.
  const [tensors] = plainPrompt(model, 200, plainRandom(17));
  const layers = [tensors!, tensors!, tensors!];
  const under = (policy: Parameters<PlainCache['prompt']>[0]) => {
    const cache = new PlainCache(model);
    cache.prompt(policy, layers);
    return held(cache);
  };
  const flat = { budget: 50, pool: 'mean', width: 5 } as const;
  const one = under(cake.create(cake.options.parse({ budget: 50, gamma: 0 }), model));
  expect(one).toEqual(under(snapkv.create(snapkv.options.parse(flat), model)));
});

test('extreme temperatures neither overflow nor starve a layer', () => {
  const { cache } = runPlain(cake, { budget: 40, entropy: 0.01, shift: 0.01 }, 200, { layers: 5 });
  const kept = lengths(cache).map(heads => heads[0]!);
  expect(kept.reduce((a, b) => a + b, 0)).toBe(200);
  for (const length of kept) expect(length).toBeGreaterThan(32);
});

test('finished layers are trimmed again, never grown', () => {
  const { actions } = runPlain(cake, { budget: 50 }, 300, { layers: 6 });
  const last = new Map<number, number>();
  let again = 0;
  for (const action of actions.flat()) {
    expect(action.do).toBe('keep');
    const [keep] = keeps([action]);
    const before = last.get(keep!.layer);
    if (before !== undefined) again++;
    expect(keep!.entries[0]!.length).toBeLessThan(before ?? 301);
    last.set(keep!.layer, keep!.entries[0]!.length);
  }
  expect(again).toBeGreaterThan(5);
});

test('while decoding each layer holds its budget, by the newest query, and the window stays', () => {
  const { cache, policy } = runPlain(cake, { budget: 30, window: 8 }, 100, { layers: 3, kvHeads: 1 });
  const decoder = new PlainDecoder(cache, policy);
  const budgets = lengths(cache);
  for (let step = 0; step < 20; step++) {
    const rows = plainPrompt(cache.model, 1, plainRandom(step));
    const before = held(cache).map(heads => heads[0]!);
    decoder.step(rows);
    expect(lengths(cache)).toEqual(budgets);
    held(cache).forEach(([head], layer) => {
      expect(head!.slice(-8)).toEqual(range(8).map(i => 93 + step + i));
      expect(before[layer]!.filter(position => !head!.includes(position))).toHaveLength(1);
    });
  }
});

test('a short prompt leaves equal shares to decoding', () => {
  const { cache, policy, actions } = runPlain(cake, { budget: 60 }, 40, { layers: 3 });
  expect(actions.flat()).toEqual([]);
  const decoder = new PlainDecoder(cache, policy);
  for (let step = 0; step < 30; step++) decoder.step(plainPrompt(cache.model, 1, plainRandom(step)));
  expect(lengths(cache).flat()).toEqual(Array(6).fill(60));
});

test('a second prompt shares out anew, by all tokens seen', () => {
  const { cache, policy } = runPlain(cake, { keep: 0.3 }, 300, { layers: 4 });
  cache.prompt(policy, plainPrompt(cache.model, 100, plainRandom(40)));
  const kept = lengths(cache).map(heads => heads[0]!);
  expect(kept.reduce((a, b) => a + b, 0)).toBeLessThanOrEqual(4 * 120);
  expect(kept.reduce((a, b) => a + b, 0)).toBeGreaterThan(4 * 100);
  for (const head of held(cache).flat()) expect(head.slice(-32)).toEqual(range(32).map(i => 368 + i));
});
