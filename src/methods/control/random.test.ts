import { expect, test } from 'vitest';
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
