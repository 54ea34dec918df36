import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { calibratePrefix } from '../src/engine/calibrate/prefixkv.ts';
import { scoreTokens } from '../src/engine/score.ts';
import { bundledCorpus } from '../src/eval/corpus.node.ts';
import { openModelForEval } from '../src/eval/open.node.ts';
import { parsePrefixProfile } from '../src/methods/profiles.ts';
import { BUNDLED } from './models.ts';

let opened: Awaited<ReturnType<typeof openModelForEval>>;
let books: readonly string[];
beforeAll(async () => {
  opened = await openModelForEval({ name: 'kvasir-mini', path: BUNDLED }, { threads: 2 });
  books = await bundledCorpus();
}, 60_000);
afterAll(() => opened[Symbol.asyncDispose]());

const cosine = (x: readonly number[], y: readonly number[]) => {
  const dot = (p: readonly number[], q: readonly number[]) => p.reduce((sum, value, i) => sum + value * q[i]!, 0);
  return dot(x, y) / Math.sqrt(dot(x, x) * dot(y, y));
};

test('profiles of two unrelated prompts, and the bundled one, are nearly the same', async () => {
  const profiles = [
    await calibratePrefix(opened.model, books[0]!.slice(20_000, 23_000)),
    await calibratePrefix(opened.model, books.at(-1)!.slice(60_000, 63_000)),
    parsePrefixProfile(
      JSON.parse(await readFile(BUNDLED.replace('.gguf', '.prefixkv.json'), 'utf8')),
      opened.model.shape,
    ),
  ];
  for (const by of ['sum', 'average'] as const)
    for (const [i, share] of profiles[0]!.shares.entries()) {
      const [a, b, c] = profiles.map(({ layers }) => layers.map(layer => layer[by][i]!));
      for (const mean of [a, b, c].map(x => x!.reduce((p, q) => p + q, 0) / x!.length))
        expect(Math.abs(mean - share)).toBeLessThan(0.01);
      expect(cosine(a!, b!)).toBeGreaterThan(0.95);
      expect(cosine(a!, c!)).toBeGreaterThan(0.95);
    }
}, 60_000);

test('the bundled profile serves, and the correction of visibility is better on text than sums', async () => {
  const { model } = opened;
  const tokens = model.tokenizer.encode(books[0]!.slice(60_000, 63_000)).slice(0, 560);
  const loss = async (kv: string) => {
    const request = { model: '', prompt: tokens.slice(0, 512), continuation: tokens.slice(512), kv };
    const { logprobs } = await scoreTokens(model, request, run => run());
    return -logprobs.reduce((a, b) => a + b, 0) / logprobs.length;
  };
  expect(await loss('prefixkv(keep=0.2, average=true)')).toBeLessThan(await loss('prefixkv(keep=0.2)'));
}, 60_000);
