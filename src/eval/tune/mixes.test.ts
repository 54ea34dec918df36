import { afterAll, beforeAll, expect, test } from 'vitest';
import { testPath } from '../../../test/golden.ts';
import { parseRecipe } from '../../methods/recipe.ts';
import { bundledCorpus } from '../corpus.node.ts';
import { openModelForEval } from '../open.node.ts';
import { Evaluator, windowsIn } from './evaluate.ts';
import { measureMixes } from './mixes.ts';

let opened: Awaited<ReturnType<typeof openModelForEval>>;
let evaluator: Evaluator;
beforeAll(async () => {
  opened = await openModelForEval({ name: 'qwen3', path: testPath('models/qwen3'), mode: 'exact' }, { threads: 1 });
  const tokens = opened.model.tokenizer.encode((await bundledCorpus())[0]!.slice(0, 8000));
  evaluator = await Evaluator.open(opened.model, windowsIn(tokens, 528, 1), 16);
}, 60_000);
afterAll(async () => {
  evaluator?.[Symbol.dispose]();
  await opened?.[Symbol.asyncDispose]();
});

test('encoders that hold too much are mixed with what drops tokens, towards the limit; tables and keepers are not', async () => {
  const alone = [];
  for (const recipe of ['zipcache(buffer=64)', 'kivi(bits=4, residual=64)', 'kvtuner(pairs=k4v4)', 'snapkv(keep=0.5)'])
    alone.push(await evaluator.measure(recipe));
  const memory = 0.7 * alone[0]!.held;
  const measured = await measureMixes(evaluator, { memory }, alone, 0, 6);
  expect(measured.length).toBeGreaterThan(2);
  expect(measured.length).toBeLessThanOrEqual(6);
  for (const { recipe } of measured) {
    const [keeper, encoder] = parseRecipe(recipe).map(({ method }) => method);
    expect(['snapkv', 'adakv']).toContain(keeper);
    expect(['zipcache', 'kivi']).toContain(encoder);
  }
  expect(Math.min(...measured.map(({ held }) => Math.abs(held - memory)))).toBeLessThan(0.15 * memory);
});

test('an encoder that fits by itself is left alone', async () => {
  const one = await evaluator.measure('zipcache(buffer=64)');
  expect(await measureMixes(evaluator, { memory: 1.1 * one.held }, [one], 0, 6)).toEqual([]);
});
