import { describe, expect, test } from 'vitest';
import { plainPrompt, plainRandom } from '../testing.ts';
import { differences, h2oCard } from '../testing-cards.ts';
import { held, keeps, lengths, runPlain, SHAPES, SIZES } from '../testing-policy.ts';
import { PlainDecoder } from '../testing-step.ts';
import { h2o } from './h2o.ts';

describe.each(SHAPES)('%o', shape => {
  test.each(SIZES.flatMap(rows => [[rows, false] as const, [rows, true] as const]))(
    '%i tokens, average %s: the sets of the card',
    (rows, average) => {
      const { cache, attention } = runPlain(h2o, { keep: 0.4, average }, rows, shape);
      const budget = Math.max(1, Math.floor(0.4 * rows));
      const recent = Math.floor(budget / 2);
      held(cache).forEach((heads, layer) => {
        const { kept, scores } = h2oCard(attention[layer]!, shape.kvHeads, budget - recent, recent, average);
        for (const [head, expected] of kept.entries()) {
          expect(heads[head]).toHaveLength(expected.length);
          expect(differences(heads[head]!, expected, scores[head]!)).toEqual([]);
        }
      });
    },
  );
});

test('scores add up to the number of queries, before anything is dropped', () => {
  const { cache, policy } = runPlain(h2o, { budget: 1000 }, 40, { layers: 1 });
  const total = () =>
    cache
      .at(0)
      .column('score', 0)
      .reduce((a, b) => a + b, 0);
  expect(total()).toBeCloseTo(40, 3);
  const decoder = new PlainDecoder(cache, policy);
  for (let step = 1; step <= 5; step++) {
    decoder.step(plainPrompt(cache.model, 1, plainRandom(step)));
    expect(total()).toBeCloseTo(40 + step, 3);
  }
  cache.prompt(policy, plainPrompt(cache.model, 7, plainRandom(9)));
  expect(total()).toBeCloseTo(52, 3);
});

test('kept entries keep their sums; while decoding the lowest sum goes, the recent ones never', () => {
  const { cache, policy, actions } = runPlain(h2o, { budget: 20 }, 70, { layers: 1 });
  const column = actions[0]!.find(action => action.do === 'column')!;
  const [keep] = keeps(actions[0]!);
  expect([...cache.at(0).column('score', 1)]).toEqual(Array.from(keep!.entries[1]!, i => column.values[1]![i]));
  const decoder = new PlainDecoder(cache, policy);
  for (let step = 0; step < 40; step++) {
    const before = held(cache)[0]![0]!;
    const sums = cache.at(0).column('score', 0);
    decoder.step(plainPrompt(cache.model, 1, plainRandom(step)));
    const after = held(cache)[0]![0]!;
    expect(lengths(cache)).toEqual([[20, 20]]);
    expect(after.slice(-10)).toEqual(Array.from({ length: 10 }, (_, i) => 61 + step + i));
    const gone = before.find(position => !after.includes(position))!;
    // Sums only grow: what went had one no larger than those that stayed have now.
    const now = cache.at(0).column('score', 0);
    expect(sums[before.indexOf(gone)]).toBeLessThanOrEqual(Math.min(...now.subarray(0, 10)) + 1);
  }
});

test('dividing by the number of queries favours early tokens less', () => {
  const mean = (average: boolean) => {
    const { cache } = runPlain(h2o, { keep: 0.3, recent: 0, average }, 130);
    const positions = held(cache).flat(2);
    return positions.reduce((a, b) => a + b, 0) / positions.length;
  };
  expect(mean(true)).toBeGreaterThan(mean(false) + 5);
});
