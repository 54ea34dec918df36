import { afterAll, beforeAll, expect, test } from 'vitest';
import type { ByteItems } from '../src/cache/types.ts';
import { cacheSetting } from '../src/eval/cache-setting.ts';
import { bundledCorpus } from '../src/eval/corpus.node.ts';
import { Feed } from '../src/eval/feed.ts';
import { openModelForEval } from '../src/eval/open.node.ts';
import { BUNDLED } from './models.ts';

let opened: Awaited<ReturnType<typeof openModelForEval>>;
let tokens: readonly number[];
beforeAll(async () => {
  opened = await openModelForEval({ name: 'kvasir-mini', path: BUNDLED }, { threads: 2 });
  tokens = opened.model.tokenizer.encode((await bundledCorpus())[0]!.slice(30_000, 36_000));
}, 60_000);
afterAll(() => opened[Symbol.asyncDispose]());

/** Bytes after a prompt of 500 tokens, and after each of 100 more. */
async function bytesOf(recipe: string): Promise<ByteItems[]> {
  using feed = new Feed(opened.model, cacheSetting(`${recipe} @ f16`));
  await feed.prompt(tokens.slice(0, 500), 'last', () => {});
  const bytes = [feed.stats().bytes];
  for (const token of tokens.slice(500, 600)) {
    await feed.push([token], 'last', () => {});
    bytes.push(feed.stats().bytes);
  }
  return bytes;
}

test.each([
  [16, 0],
  [8, 4],
  [4, 4],
] as const)(
  '%i bits: the bytes of shared directions, four norms a token, and compact exact pages',
  async (bits, scale) => {
    const { layers, kvHeads, headDim } = opened.model.shape;
    const pairs = Math.floor(layers / 2) * kvHeads;
    const [first, ...after] = await bytesOf(`minicache(start=0, retain=share, bits=${bits})`);
    // 5 to 10 % lie apart, in keys or in values: of 500 tokens 7 pages of 64 are joined, the other 52 fill a page in each layer.
    const plane = 64 * ((headDim * bits) / 8 + scale);
    const joint = 2 * plane + 2 * (2 * 64 * 4 + 16);
    expect(first!.joint).toBe(pairs * 7 * Math.ceil(joint / 64) * 64);
    const page = 64 * headDim * 2 * 2;
    expect(first!.exact).toBe(2 * pairs * page);
    // While decoding, what lies apart (at most 50 of the prompt) and less than two pages that wait.
    for (const { exact } of after) expect(exact).toBeLessThanOrEqual(2 * pairs * 3 * page);
    // 64 more are joined in all pairs when the second page after the prompt is full.
    expect(after.at(-1)!.joint).toBe((8 / 7) * first!.joint);
  },
  60_000,
);
