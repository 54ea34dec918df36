import { afterAll, beforeAll, expect, test } from 'vitest';
import { cacheSetting } from '../src/eval/cache-setting.ts';
import { Feed } from '../src/eval/feed.ts';
import { openModelForEval } from '../src/eval/open.node.ts';
import { testPath } from './golden.ts';

let opened: Awaited<ReturnType<typeof openModelForEval>>;
beforeAll(async () => {
  opened = await openModelForEval({ name: 'tiny', path: testPath('models/qwen3') }, { threads: 2 });
}, 60_000);
afterAll(() => opened[Symbol.asyncDispose]());

const tokens = Array.from({ length: 300 }, (_, i) => 3 + ((i * 7919) % 300));

/** Bytes by layer of a prompt of `prompt` tokens and the others one by one. */
async function bytesByLayer(recipe: string, prompt: number): Promise<number[]> {
  using feed = new Feed(opened.model, cacheSetting(recipe));
  await feed.prompt(tokens.slice(0, prompt), 'last', () => {});
  for (const token of tokens.slice(prompt)) await feed.push([token], 'last', () => {});
  return [...opened.model.cache.stats().bySlot];
}

test.each(['kivi(residual=64)', 'zipcache(buffer=64)'])(
  '%s: pages that decoding fills are encoded in every layer',
  async recipe => {
    const decoded = await bytesByLayer(recipe, 40);
    expect(decoded.length).toBeGreaterThan(1);
    expect(new Set(decoded).size).toBe(1);
    expect(decoded[0]).toBeLessThan(0.7 * (await bytesByLayer('full', 40))[0]!);
  },
  60_000,
);
