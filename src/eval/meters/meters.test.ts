import { afterAll, beforeAll, expect, test } from 'vitest';
import type { LoadedModel } from '../../engine/loaded-model.ts';
import { scoreTokens } from '../../engine/score.ts';
import { cacheSetting, FULL } from '../cache-setting.ts';
import { TINY } from '../eval.testing.ts';
import { openModelForEval } from '../open.node.ts';
import type { Sample } from '../tools.ts';
import { Divergence, divergence } from './divergence.ts';
import { forced, greedy } from './exact.ts';
import { judge } from './judge.ts';
import { perplexity, windowsOf } from './perplexity.ts';

let opened: Awaited<ReturnType<typeof openModelForEval>>;
let model: LoadedModel;
beforeAll(async () => {
  opened = await openModelForEval({ name: 'tiny', path: TINY, mode: 'exact', tile: 32 }, { threads: 1, cacheDir: '' });
  model = opened.model;
});
afterAll(() => opened[Symbol.asyncDispose]());

const ids = (count: number, seed = 1) => Array.from({ length: count }, (_, i) => 4 + ((i * 37 + seed * 101) % 300));
const score = (prompt: readonly number[], continuation: readonly number[]) =>
  scoreTokens(model, { model: 'tiny', prompt, continuation }, run => run());

test('divergence of two distributions worked out by hand', () => {
  const sum = new Divergence();
  // p = (1/2, 1/4, 1/4), q = (1/4, 1/2, 1/4): KL = 1/2 ln 2 - 1/4 ln 2 = ln 2 / 4; the first choices differ.
  sum.add(Float32Array.from([Math.log(2), 0, 0]), Float32Array.from([0, Math.log(2), 0]));
  expect(sum.result().kl).toBeCloseTo(Math.LN2 / 4, 6);
  // A constant on all logits changes the logits, not the distribution.
  sum.add(Float32Array.from([3, 1, 0]), Float32Array.from([5, 3, 2]));
  const result = sum.result();
  expect(result).toMatchObject({ count: 2, agreement: 0.5 });
  expect(result.kl).toBeCloseTo(Math.LN2 / 8, 6);
  expect(result.logitError).toBeCloseTo(2, 6);
});

test('windows overlap by one token, so that every token but the first is predicted once', () => {
  expect(windowsOf([0, 1, 2, 3, 4, 5, 6], 3)).toEqual([[0, 1, 2, 3], [3, 4, 5, 6]]); // biome-ignore format: one line
  expect(windowsOf([0, 1, 2, 3, 4], 3)).toEqual([[0, 1, 2, 3], [3, 4]]); // biome-ignore format: one line
  expect(windowsOf([0, 1, 2, 3], 3)).toEqual([[0, 1, 2, 3]]);
  expect(windowsOf([0, 1, 2, 3, 4, 5, 6], 2, 1)).toEqual([[0, 1, 2]]);
  expect(windowsOf([0], 3)).toEqual([]);
  expect(() => windowsOf([0, 1], 0)).toThrowError(expect.objectContaining({ field: 'window' }));
});

test("perplexity is that of the engine's own scores, by windows", async () => {
  const tokens = ids(150);
  let nll = 0;
  for (const window of [tokens.slice(0, 71), tokens.slice(70, 141), tokens.slice(140)])
    for (const logprob of (await score([], window)).logprobs) nll -= logprob;
  const result = await perplexity(model, FULL, windowsOf(tokens, 70));
  expect(result.tokens).toBe(149);
  expect(result.nll).toBeCloseTo(nll, 4);
  expect(result.perplexity).toBeCloseTo(Math.exp(nll / 149), 3);
  const bytes = tokens.slice(1).reduce((sum, id) => sum + model.tokenizer.bytes(id).length, 0);
  expect(result.bitsPerByte).toBeCloseTo(nll / Math.LN2 / bytes, 6);
  const layered = await perplexity(model, cacheSetting('f32', 'layer'), windowsOf(tokens, 70));
  expect(layered.nll).toBeCloseTo(nll, 3);
});

/** A conversation of given tokens. */
const sampleOf = (...turns: [prompt: readonly number[], answer: readonly number[]][]): Sample => ({
  instance: {
    system: null,
    needles: [],
    ends: false,
    turns: turns.map(([, answer]) => {
      const text = model.tokenizer.decode(answer);
      return { question: '', lead: '', answer: text, parts: [text] };
    }),
  },
  encoded: { turns: turns.map(([prompt, answer]) => ({ prompt, answer })), needles: [], tokens: 0 },
});

/** What the model would write, found by scoring one token after the other from an empty cache. */
async function continuation(prompt: readonly number[], count: number): Promise<number[]> {
  const written: number[] = [];
  while (written.length < count) written.push((await score([...prompt, ...written], [5])).best[0]!);
  return written;
}

test.each(['token', 'layer'] as const)(
  'forced: right exactly where greedy decoding writes the answer (%s order)',
  async order => {
    const setting = cacheSetting('f32', order);
    const first = ids(70);
    const answer = await continuation(first, 4);
    const then = ids(40, 2);
    const second = await continuation([...first, ...answer, ...then], 3);
    const wrong = [...answer.slice(0, 3), answer[3]! === 9 ? 10 : 9];
    const outcome = (sample: Sample) => forced(model, setting, sample).then(result => result.right);
    expect(await outcome(sampleOf([first, answer]))).toEqual([true]);
    expect(await outcome(sampleOf([first, answer], [then, second]))).toEqual([true, true]);
    expect(await outcome(sampleOf([first, wrong]))).toEqual([false]);
    expect(await outcome(sampleOf([first, [wrong[3]!, ...answer.slice(1)]]))).toEqual([false]);
    // A later turn sees the answer that was given to it, right or wrong.
    const after = await continuation([...first, ...wrong, ...then], 3);
    expect(await outcome(sampleOf([first, wrong], [then, after]))).toEqual([false, true]);
  },
);

test('greedy: writes what forced decoding takes for right, and leaves the cache as the right answers make it', async () => {
  const first = ids(70);
  const answer = await continuation(first, 4);
  const then = ids(40, 2);
  const second = await continuation([...first, ...answer, ...then], 3);
  const sample = sampleOf([first, answer], [then, second]);
  const result = await greedy(model, FULL, sample);
  expect(result.right).toEqual([true, true]);
  const { held } = await forced(model, FULL, sample);
  expect(result.held).toBe(held);
  expect(model.cache.stats()).toMatchObject({ pages: 0, sequences: 0 });
});

test('bytes held are those of the format', async () => {
  const sample = sampleOf([ids(128), [5]]);
  const [f32, int8] = [await forced(model, FULL, sample), await forced(model, cacheSetting('int8'), sample)];
  const pages = (format: 'f32' | 'int8') => 128 * model.info.kvBytesPerToken[format];
  expect(f32.held).toBeGreaterThanOrEqual(pages('f32'));
  expect(f32.held - int8.held).toBe(pages('f32') - pages('int8'));
  expect(f32.peak).toBeGreaterThanOrEqual(f32.held);
});

test('divergence: none from itself, little in f16, more in int8, and the places are those of the scores', async () => {
  const [prompt, rest] = [ids(50), ids(60, 3)];
  const of = async (name: string) => (await divergence(model, cacheSetting(name), prompt, rest)).result();
  expect(await of('f32')).toEqual({ count: 60, agreement: 1, kl: expect.closeTo(0, 12), logitError: 0 });
  const [f16, int8] = [await of('f16'), await of('int8')];
  expect(f16.logitError).toBeGreaterThan(0);
  expect(f16.kl).toBeLessThan(int8.kl);
  expect(int8.kl).toBeLessThan(0.01);
  const truth = await score(prompt, rest);
  const other = await scoreTokens(model, { model: 'tiny', prompt, continuation: rest, cache: 'int8' }, run => run());
  const same = truth.best.filter((best, i) => best === other.best[i]).length;
  expect(int8.agreement).toBeCloseTo(same / 60, 10);
  expect((await divergence(model, FULL, [], rest)).result().count).toBe(59);
});

test('a stop between tiles frees the cache', async () => {
  const stop = async () => {
    if (model.cache.stats().pages > 0) throw new Error('stopped');
  };
  await expect(forced(model, FULL, sampleOf([ids(200), [5]]), stop)).rejects.toThrowError('stopped');
  expect(model.cache.stats()).toMatchObject({ pages: 0, sequences: 0 });
});

test('a free answer is right where it holds every value, a whole one where it is the same', () => {
  const turn = { question: '', lead: '', answer: 'Red Fox, 12', parts: ['Red Fox', '12'] };
  expect(judge(turn, ' Red Fox, 12\n', true)).toBe(true);
  expect(judge(turn, 'Red Fox, 12.', true)).toBe(false);
  expect(judge(turn, 'I found 12 and the  red fox.', false)).toBe(true);
  expect(judge(turn, 'I found the red fox.', false)).toBe(false);
});
