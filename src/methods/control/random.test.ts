import { expect, test } from 'vitest';
import { PlainCache, plainModel, plainPrompt, plainRandom } from '../testing.ts';
import { range } from '../testing-cards.ts';
import { held, lengths, runPlain, SHAPES, SIZES } from '../testing-policy.ts';
import { random } from './random.ts';

test.each(SHAPES.flatMap(shape => SIZES.map(rows => [rows, shape] as const)))(
  '%i tokens of %o: the budget, sinks and window in it',
  (rows, shape) => {
    const { cache } = runPlain(random, { keep: 0.3, window: 8, sinks: 2 }, rows, shape);
    const budget = Math.min(rows, Math.max(10, Math.floor(0.3 * rows)));
    for (const head of held(cache).flat()) {
      expect(head).toHaveLength(budget);
      expect(head.slice(0, 2)).toEqual(range(Math.min(rows, 2)));
      expect(head.slice(-8)).toEqual(range(rows).slice(-8));
    }
  },
);

test('other tokens in each head and layer, the same ones for the same seed', () => {
  const run = (seed: number) => held(runPlain(random, { budget: 60 }, 400, { seed }).cache).flat();
  const sets = run(5);
  expect(new Set(sets.map(String)).size).toBe(4);
  expect(run(5)).toEqual(sets);
  expect(run(6)).not.toEqual(sets);
});

test('every token before the window is as likely as any other', () => {
  const counts = new Float64Array(100);
  for (let seed = 0; seed < 200; seed++)
    for (const head of held(runPlain(random, { budget: 40, window: 20 }, 100, { seed, headDim: 1 }).cache).flat())
      for (const position of head) counts[position]!++;
  // 20 of 80 in 800 draws: 200, standard deviation about 12.
  for (const count of counts.subarray(0, 80)) expect(Math.abs(count - 200)).toBeLessThan(62);
  expect([...counts.subarray(80)]).toEqual(Array(20).fill(800));
  expect(lengths(runPlain(random, { keep: 1 }, 100).cache).flat()).toEqual([100, 100, 100, 100]);
});

test('chunk after chunk what is old has the same chance again: none lasts by its place', () => {
  const model = plainModel({ layers: 1, kvHeads: 2, group: 1, headDim: 1 });
  let first = 0;
  const seeds = 200;
  for (let seed = 0; seed < seeds; seed++) {
    const cache = new PlainCache(model, seed);
    const policy = random.create(random.options.parse({ budget: 48, window: 16, evict: 'chunk', chunk: 64 }), model);
    const draw = plainRandom(seed);
    for (let chunk = 0; chunk < 5; chunk++) cache.prompt(policy, plainPrompt(model, 64, draw), chunk === 4);
    for (const head of held(cache).flat()) first += head.filter(position => position < 48).length;
  }
  // Of 48 entries 32 of 48, then 32 of 96 four times: 32 / 81 on average; it was 14 while places decided.
  expect(first / (2 * seeds)).toBeGreaterThan(0.2);
  expect(first / (2 * seeds)).toBeLessThan(0.7);
});
