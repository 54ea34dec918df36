import { describe, expect, test } from 'vitest';
import { METHODS } from './index.ts';
import { plainModel, plainPrompt, plainRandom } from './testing.ts';
import { keeps, lengths, runPlain, SHAPES } from './testing-policy.ts';
import { PlainDecoder } from './testing-step.ts';
import type { Method } from './types.ts';

/** What holds for every method that takes a budget, whichever tokens it chooses. */
const methods: [string, Method][] = METHODS.filter(
  method => 'keep' in method.options.shape && 'budget' in method.options.shape,
).map(method => [method.name, method]);

/** What a method needs beside a budget where there is no profile of the model. */
const OWN: Readonly<Record<string, object>> = { prefixkv: { search: 'prompt' } };

describe.each(methods)('%s', (name, method) => {
  const own = OWN[name];
  test('keep = 1 does nothing at all', () => {
    const { retrieve, ...rest } = method.create(method.options.parse({ keep: 1 }), plainModel());
    expect(rest).toEqual({});
    // What is read of it is apart from what is kept.
    expect(retrieve !== undefined).toBe(method.traits.selects === true);
  });

  test('a budget of all tokens drops none', () => {
    const { cache, actions } = runPlain(method, { budget: 130, ...own }, 130, { layers: 3 });
    expect(actions.flatMap(keeps)).toEqual([]);
    // Which tokens run on is apart from what is kept of them.
    if (method.name !== 'fastkv') expect(lengths(cache).flat()).toEqual(Array(6).fill(130));
  });

  test.each(SHAPES)('no tokens, one token: nothing fails (%o)', shape => {
    expect(lengths(runPlain(method, { keep: 0.5, ...own }, 0, shape).cache).flat()).toEqual(
      Array(shape.layers * shape.kvHeads).fill(0),
    );
    expect(lengths(runPlain(method, { keep: 0.5, ...own }, 1, shape).cache).flat()).toEqual(
      Array(shape.layers * shape.kvHeads).fill(1),
    );
  });

  test('the mean over views is the budget, at the end of a prompt, of a second one, and while decoding', () => {
    const { cache, policy } = runPlain(method, { budget: 80, ...own }, 400, { layers: 4 });
    const mean = () =>
      lengths(cache)
        .flat()
        .reduce((a, b) => a + b, 0) / 8;
    expect(Math.abs(mean() - 80)).toBeLessThanOrEqual(2);
    const fixed = policy.step?.(0, cache.at(0))?.evict !== undefined;
    const decoder = new PlainDecoder(cache, policy);
    for (let step = 0; step < 5; step++) decoder.step(plainPrompt(cache.model, 1, plainRandom(step)));
    expect(Math.abs(mean() - (fixed ? 80 : 85))).toBeLessThanOrEqual(2);
    cache.prompt(policy, plainPrompt(cache.model, 50, plainRandom(7)));
    // FastKV leaves later turns alone.
    expect(Math.abs(mean() - (method.name === 'fastkv' ? 135 : 80))).toBeLessThanOrEqual(2);
  });

  test('a second prompt shorter than the window', () => {
    const { cache, policy } = runPlain(method, { keep: 0.5, ...own }, 100, { layers: 2 });
    cache.prompt(policy, plainPrompt(cache.model, 3, plainRandom(7)));
    for (const length of lengths(cache).flat()) expect(length).toBeLessThanOrEqual(103);
  });

  test('the same request gives the same result', () => {
    const run = () => runPlain(method, { keep: 0.3, ...own }, 150, { layers: 3 }).actions;
    expect(run()).toEqual(run());
  });

  if ('evict' in (method.options as (typeof METHODS)[number]['options']).shape) {
    test('by chunks, each chunk is decided with what is left of those before it', () => {
      const { cache, policy } = runPlain(method, { keep: 0.25, evict: 'chunk', chunk: 64, ...own }, 0, { layers: 2 });
      expect(policy.chunk).toBe(64);
      for (let chunk = 1; chunk <= 6; chunk++) {
        cache.prompt(policy, plainPrompt(cache.model, 64, plainRandom(chunk)), chunk === 6);
        const budget = Math.max(chunk * 16, 1);
        for (const length of lengths(cache).flat()) expect(length).toBeLessThanOrEqual(2 * Math.max(budget, 32));
      }
    });
  }
});
