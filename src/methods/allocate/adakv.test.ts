import { describe, expect, test } from 'vitest';
import { snapkv } from '../keep/snapkv.ts';
import { plainPrompt, plainRandom } from '../testing.ts';
import { adaBudgets, differences, keepTop, range, windowScores } from '../testing-cards.ts';
import { held, lengths, runPlain, SHAPES, SIZES } from '../testing-policy.ts';
import { adakv } from './adakv.ts';

const how = (kvHeads: number) =>
  ({ w: 8, kvHeads, rows: 'mean', kind: 'max', width: 7, group: 'mean', groupFirst: true }) as const;

describe.each(SHAPES)('%o', shape => {
  test.each(SIZES)('%i tokens: head budgets and sets of the card', rows => {
    const { cache, attention } = runPlain(adakv, { keep: 0.4, window: 8 }, rows, shape);
    const budget = Math.max(8, Math.floor(0.4 * rows));
    held(cache).forEach((heads, layer) => {
      const scores = windowScores(attention[layer]!, how(shape.kvHeads));
      const budgets = adaBudgets(scores, budget, 8, 0.2);
      scores.forEach((score, head) => {
        const [expected] = keepTop([score], rows, budgets[head]!, 8);
        // Max pooling makes ties between heads: such a budget may move by one.
        expect(Math.abs(heads[head]!.length - expected!.length)).toBeLessThanOrEqual(1);
        if (heads[head]!.length === expected!.length) expect(differences(heads[head]!, expected!, score)).toEqual([]);
      });
    });
  });
});

test('the layer keeps its total within rounding, each head at least its floor', () => {
  const shape = { kvHeads: 4, layers: 3 };
  const seen = new Set<number>();
  for (const alpha of [0, 0.2, 0.5]) {
    const { cache } = runPlain(adakv, { budget: 60, alpha, window: 8 }, 300, shape);
    for (const heads of lengths(cache)) {
      expect(Math.abs(heads.reduce((a, b) => a + b, 0) - 4 * 60)).toBeLessThanOrEqual(4);
      for (const length of heads) expect(length).toBeGreaterThanOrEqual(8 + Math.floor(alpha * 52));
      for (const length of heads) seen.add(length);
    }
  }
  expect(seen.size).toBeGreaterThan(3);
});

test('alpha = 1 is SnapKV with its group taken together before pooling', () => {
  const one = { kvHeads: 3, group: 1 };
  const ada = runPlain(adakv, { budget: 60, alpha: 1 }, 300, one);
  expect(held(ada.cache)).toEqual(held(runPlain(snapkv, { budget: 60 }, 300, one).cache));
});

test.each([false, true])('what is kept holds at least the scores that SnapKV keeps (weighted %s)', weighted => {
  let [ada, snap] = [0, 0];
  for (const seed of [1, 2, 3, 4]) {
    const shape = { kvHeads: 4, group: 1, layers: 2, seed };
    const options = { budget: 60, window: 8, pool: 'mean', width: 1 } as const;
    const run = runPlain(adakv, { ...options, alpha: 0, weighted }, 300, shape);
    const scores = run.attention.map(layer => windowScores(layer, { ...how(4), kind: 'mean', width: 1 }));
    const mass = (kept: number[][][]) =>
      kept
        .flatMap((heads, l) => heads.flatMap((head, h) => head.map(i => scores[l]![h]![i] ?? 0)))
        .reduce((a, b) => a + b, 0);
    const equal = mass(held(runPlain(snapkv, options, 300, shape).cache));
    if (!weighted) expect(mass(held(run.cache))).toBeGreaterThanOrEqual(equal);
    ada += mass(held(run.cache));
    snap += equal;
  }
  expect(ada).toBeGreaterThan(snap * 0.99);
});

test('a later prompt deals with heads of different lengths', () => {
  const { cache, policy } = runPlain(adakv, { keep: 0.3 }, 300, { kvHeads: 4, layers: 1 });
  const before = lengths(cache)[0]!;
  expect(new Set(before).size).toBeGreaterThan(1);
  expect(before.reduce((a, b) => a + b, 0)).toBeLessThanOrEqual(4 * 92);
  cache.prompt(policy, plainPrompt(cache.model, 200, plainRandom(5)));
  const after = lengths(cache)[0]!;
  expect(Math.abs(after.reduce((a, b) => a + b, 0) - 4 * 150)).toBeLessThanOrEqual(4);
  for (const head of held(cache)[0]!) expect(head.slice(-32)).toEqual(range(32).map(i => 468 + i));
});
