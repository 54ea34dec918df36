import { expect, test } from 'vitest';
import { PlainCache, plainModel, plainPrompt, plainRandom } from '../testing.ts';
import type { PlainView } from '../testing-signals.ts';
import { PlainDecoder } from '../testing-step.ts';
import { razorAttention } from './razor-attention.ts';

const range = (n: number) => Array.from({ length: Math.max(0, n) }, (_, i) => i);
const setUp = (given: object = {}, retrieval = [[1], []]) => {
  const model = plainModel({ layers: 2, kvHeads: 2, headDim: 8 });
  const options = razorAttention.options.parse({ minimum: 20, ...given });
  const profile = { kind: 'razor-attention', fingerprint: model.fingerprint, retrieval };
  return { model, policy: razorAttention.create(options, model, profile), cache: new PlainCache(model) };
};
const meanOf = (rows: Float64Array, head: number, from: number, to: number) =>
  range(8).map(c => range(to - from).reduce((sum, i) => sum + rows[((from + i) * 2 + head) * 8 + c]!, 0) / (to - from));

test.each([0, 1, 4, 24, 25, 26, 63, 64, 65, 300])('%i tokens: sinks, one mean for the middle, the last N / 5', n => {
  const { model, policy, cache } = setUp();
  const prompt = plainPrompt(model, n, plainRandom(n + 1));
  cache.prompt(policy, prompt);
  const window = Math.max(20, Math.floor(n / 5));
  for (const [layer, views] of cache.views.entries()) {
    for (const [head, view] of views.entries()) {
      const whole = (layer === 0 && head === 1) || n <= window + 5;
      const kept = whole ? range(n) : [0, 1, 2, 3, 4, ...range(window).map(i => n - window + i)];
      expect([...view.positions]).toEqual(kept);
      if (whole) continue;
      const { k, v } = prompt[layer]!;
      for (const [c, x] of meanOf(k, head, 4, n - window).entries()) expect(view.k[4 * 8 + c]!).toBeCloseTo(x, 5);
      for (const [c, x] of meanOf(v, head, 4, n - window).entries()) expect(view.v[4 * 8 + c]!).toBeCloseTo(x, 5);
      expect(view.columns.get('bias')![4]).toBeCloseTo(Math.log(n - window - 4), 5);
      expect(view.columns.get('bias')!.filter(x => x !== 0).length).toBe(1);
    }
  }
});

test('several prompts leave the mean of all that was dropped, as one does', () => {
  const { model, policy, cache } = setUp();
  const whole = plainPrompt(model, 200, plainRandom(8));
  const cut = (from: number, to: number) =>
    whole.map(({ q, k, v, hidden }) => {
      const part = (x: Float64Array) => x.slice((from * x.length) / 200, (to * x.length) / 200);
      return { q: part(q), k: part(k), v: part(v), hidden: part(hidden) };
    });
  for (const [from, to] of [
    [0, 90],
    [90, 91],
    [91, 200],
  ] as const)
    cache.prompt(policy, cut(from, to), to === 200);
  const once = setUp();
  once.cache.prompt(policy, whole);
  for (const [head, view] of cache.views[1]!.entries()) {
    const expected: PlainView = once.cache.views[1]![head]!;
    expect(view.positions).toEqual(expected.positions);
    expect(view.columns.get('bias')![4]).toBeCloseTo(expected.columns.get('bias')![4]!, 5);
    for (const plane of ['k', 'v'] as const)
      for (const [i, x] of view[plane].entries()) expect(x).toBeCloseTo(expected[plane][i]!, 5);
  }
});

test('equal keys: attention is that of the full cache, thanks to the bias', () => {
  const { model, policy, cache } = setUp();
  const prompt = plainPrompt(model, 150, plainRandom(4));
  const { k, v } = prompt[1]!;
  for (let i = 5; i < 120; i++) k.copyWithin(i * 16, 4 * 16, 5 * 16);
  const attend = (q: Float64Array, keys: Float64Array, values: Float64Array, bias?: Float32Array) => {
    const weights = range(keys.length / 8).map(i =>
      Math.exp(range(8).reduce((sum, c) => sum + q[c]! * keys[i * 8 + c]!, bias?.[i] ?? 0)),
    );
    const total = weights.reduce((a, b) => a + b, 0);
    return range(8).map(c => weights.reduce((sum, w, i) => sum + w * values[i * 8 + c]!, 0) / total);
  };
  const planeOf = (x: Float64Array) => Float64Array.from(range(150 * 8), i => x[Math.floor(i / 8) * 16 + (i % 8)]!);
  cache.prompt(policy, prompt);
  const view = cache.views[1]![0]!;
  const query = prompt[0]!.q.subarray(0, 8);
  const full = attend(query, planeOf(k), planeOf(v));
  const compensated = attend(query, view.k, view.v, view.columns.get('bias'));
  for (const [c, x] of compensated.entries()) expect(x).toBeCloseTo(full[c]!, 5);
  const biasless = attend(query, view.k, view.v);
  expect(Math.max(...biasless.map((x, c) => Math.abs(x - full[c]!)))).toBeGreaterThan(1e-2);
});

test('while decoding the oldest of the window goes into the mean, in heads without retrieval', () => {
  const { model, policy, cache } = setUp({ sinks: 2 }, [[0, 1], [1]]);
  const prompt = plainPrompt(model, 250, plainRandom(2));
  cache.prompt(policy, prompt);
  expect(policy.pages).toEqual({ columns: ['bias'] });
  expect(policy.step!(0, cache.at(0))).toBeNull();
  expect(policy.step!(1, cache.at(1))).toEqual({
    evict: { over: 3 + 50, choose: 'oldest', first: 3, last: 0, per: 'head', heads: [0], compensate: true },
  });
  expect(cache.views[1]![0]!.positions.length).toBe(53);
  const decoder = new PlainDecoder(cache, policy);
  for (let step = 1; step <= 20; step++) {
    decoder.step(plainPrompt(model, 1, plainRandom(100 + step)));
    const view = cache.views[1]![0]!;
    expect([...view.positions]).toEqual([0, 1, 2, ...range(50).map(i => 200 + step + i)]);
    for (const plane of ['k', 'v'] as const)
      for (const [c, x] of meanOf(prompt[1]![plane], 0, 2, 200 + step).entries())
        expect(view[plane][2 * 8 + c]!).toBeCloseTo(x, 5);
    expect(view.columns.get('bias')![2]).toBeCloseTo(Math.log(198 + step), 5);
  }
});

test('without compensation the middle is dropped, and the method needs no exact rows', () => {
  const { model, policy, cache } = setUp({ compensate: false });
  cache.prompt(policy, plainPrompt(model, 100, plainRandom(2)));
  expect([...cache.views[0]![0]!.positions]).toEqual([0, 1, 2, 3, ...range(20).map(i => 80 + i)]);
  expect(cache.views[0]![1]!.positions.length).toBe(100);
  expect(policy.step!(0, cache.at(0))!.evict).toMatchObject({ over: 24, first: 4, compensate: false });
  expect(razorAttention.traitsOf!(razorAttention.options.parse({ compensate: false })).needsExact).toBeUndefined();
  expect(razorAttention.traits.needsExact).toBe(true);
});
