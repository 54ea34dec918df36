import fc from 'fast-check';
import { expect, test } from 'vitest';
import { argmax, logSumExp, Sampler, SamplerScratch, topLogprobs } from './sampler.ts';
import type { SamplingOptions } from './types.ts';

const VOCAB = 50;
const scratch = new SamplerScratch(VOCAB);
const logits = fc
  .array(fc.double({ min: -20, max: 20, noNaN: true }), { minLength: VOCAB, maxLength: VOCAB })
  .map(values => Float32Array.from(values));

function draw(values: Float32Array, options: SamplingOptions, count: number, prompt: number[] = []): number[] {
  const sampler = new Sampler(options, options.seed ?? 1, prompt, scratch);
  return Array.from({ length: count }, () => sampler.sample(values.slice()));
}

/** Shares of all tokens by the definitions, one step at a time, in float64. */
function shares(values: Float32Array, { temperature = 1, topK = 0, topP = 1, minP = 0 }: SamplingOptions): number[] {
  const best = Math.max(...values);
  const weight = [...values].map(v => Math.exp((v - best) / temperature));
  let order = weight.map((_, id) => id).sort((a, b) => weight[b]! - weight[a]! || a - b);
  if (topK > 0) order = order.slice(0, topK);
  const total = order.reduce((sum, id) => sum + weight[id]!, 0);
  let mass = 0;
  order = order.filter(id => {
    const keep = mass < topP * total;
    mass += weight[id]!;
    return keep;
  });
  order = order.filter(id => weight[id]! >= minP);
  const kept = order.reduce((sum, id) => sum + weight[id]!, 0);
  return weight.map((w, id) => (order.includes(id) ? w / kept : 0));
}

test('temperature 0 takes the first best token', () => {
  fc.assert(
    fc.property(logits, values => {
      expect(draw(values, { temperature: 0 }, 1)[0]).toBe(argmax(values));
    }),
  );
});

test('the same seed gives the same draws, another seed others', () => {
  const values = new Float32Array(VOCAB);
  expect(draw(values, { seed: 7 }, 40)).toEqual(draw(values, { seed: 7 }, 40));
  expect(draw(values, { seed: 7 }, 40)).not.toEqual(draw(values, { seed: 8 }, 40));
});

test.each([
  { temperature: 0.7 },
  { temperature: 1.3, topK: 5 },
  { topP: 0.8 },
  { minP: 0.1 },
  { temperature: 1.5, topK: 20, topP: 0.9, minP: 0.02 },
])('draws follow the shares of %o', options => {
  const values = Float32Array.from({ length: VOCAB }, (_, i) => Math.sin(i * 12.9898) * 3);
  const expected = shares(values, options);
  const count = 20_000;
  const seen = new Float64Array(VOCAB);
  for (const id of draw(values, { ...options, seed: 3 }, count)) seen[id]! += 1 / count;
  for (let id = 0; id < VOCAB; id++) {
    if (expected[id] === 0) expect(seen[id]).toBe(0);
    expect(Math.abs(seen[id]! - expected[id]!)).toBeLessThan(5 * Math.sqrt(0.25 / count) + 1e-9);
  }
});

test('bias and penalties', () => {
  const values = new Float32Array(VOCAB);
  values[3] = 2;
  values[4] = 1.5;
  values[5] = -1;
  expect(draw(values, { temperature: 0, logitBias: { 9: 100 } }, 1)).toEqual([9]);
  expect(draw(values, { temperature: 0, logitBias: { 3: -100 } }, 1)).toEqual([4]);
  expect(draw(values, { temperature: 0, presencePenalty: 1 }, 3)).toEqual([3, 4, 3]);
  expect(draw(values, { temperature: 0, frequencyPenalty: 0.4 }, 5)).toEqual([3, 3, 4, 3, 4]);
  expect(draw(values, { temperature: 0, repetitionPenalty: 2 }, 1, [3])).toEqual([4]);
});

test('top log-probabilities are sorted, complete and normalised', () => {
  fc.assert(
    fc.property(logits, fc.integer({ min: 0, max: VOCAB }), (values, count) => {
      const top = topLogprobs(values, count);
      const expected = [...values].map((v, id) => ({ id, v })).sort((a, b) => b.v - a.v || a.id - b.id);
      expect(top.map(t => t.token)).toEqual(expected.slice(0, count).map(e => e.id));
      for (const { token, logprob } of top) expect(logprob).toBeCloseTo(values[token]! - logSumExp(values), 10);
    }),
  );
});
