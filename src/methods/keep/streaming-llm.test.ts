import { expect, test } from 'vitest';
import { plainPrompt, plainRandom } from '../testing.ts';
import { range } from '../testing-cards.ts';
import { held, lengths, runPlain, SHAPES, SIZES } from '../testing-policy.ts';
import { PlainDecoder } from '../testing-step.ts';
import { streamingLlm } from './streaming-llm.ts';

test.each(SHAPES.flatMap(shape => SIZES.map(rows => [rows, shape] as const)))(
  '%i tokens of %o: sinks and the last ones',
  (rows, shape) => {
    const { cache } = runPlain(streamingLlm, { budget: 20, positions: 'kept' }, rows, shape);
    const expected = rows <= 20 ? range(rows) : [0, 1, 2, 3, ...range(16).map(i => rows - 16 + i)];
    for (const head of held(cache).flat()) expect(head).toEqual(expected);
  },
);

test('the true positions stay through decoding', () => {
  const { cache, policy } = runPlain(streamingLlm, { budget: 10, positions: 'kept', sinks: 2 }, 30);
  expect(policy.pages).toEqual({ keysUnrotated: false });
  const decoder = new PlainDecoder(cache, policy);
  for (let step = 0; step < 15; step++) {
    decoder.step(plainPrompt(cache.model, 1, plainRandom(step)));
    for (const head of held(cache).flat()) expect(head).toEqual([0, 1, ...range(8).map(i => 23 + step + i)]);
  }
});

test('renumbered, tokens count by their place in the cache', () => {
  const { cache, policy } = runPlain(streamingLlm, { budget: 10 }, 30);
  expect(policy.pages).toEqual({ keysUnrotated: true });
  const first = cache.views[0]![0]!.k.slice(0, 4 * cache.model.headDim);
  const decoder = new PlainDecoder(cache, policy);
  for (let step = 0; step < 15; step++) {
    const rows = plainPrompt(cache.model, 1, plainRandom(step));
    decoder.step(rows);
    for (const head of held(cache).flat()) expect(head).toEqual(range(10));
    const { k } = cache.views[1]![1]!;
    const { headDim } = cache.model;
    expect([...k.subarray(-headDim)]).toEqual([...rows[1]!.k.subarray(headDim, 2 * headDim)]);
  }
  expect(cache.views[0]![0]!.k.slice(0, first.length)).toEqual(first);
  expect(cache.next).toEqual([10, 10]);
});

test('a prompt within the budget grows to it and no further', () => {
  const { cache, policy, actions } = runPlain(streamingLlm, { budget: 12 }, 5);
  expect(actions.flat()).toEqual([]);
  const decoder = new PlainDecoder(cache, policy);
  for (let step = 0; step < 20; step++) {
    decoder.step(plainPrompt(cache.model, 1, plainRandom(step)));
    expect(lengths(cache)[0]![0]).toBe(Math.min(12, 6 + step));
  }
});

test('only renumbering asks for keys before RoPE', () => {
  const traits = (positions: 'kept' | 'renumbered') =>
    streamingLlm.traitsOf!(streamingLlm.options.parse({ positions }));
  expect(traits('kept')).not.toHaveProperty('keysUnrotated');
  expect(traits('renumbered')).toMatchObject({ keysUnrotated: true, renumbers: true });
});
