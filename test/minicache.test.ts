import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { ByteItems } from '../src/cache/types.ts';
import { cacheSetting } from '../src/eval/cache-setting.ts';
import { bundledCorpus } from '../src/eval/corpus.node.ts';
import { Feed } from '../src/eval/feed.ts';
import { openModelForEval } from '../src/eval/open.node.ts';
import { testPath } from './golden.ts';
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

describe('a model of two layers, its rows read back', () => {
  let tiny: typeof opened;
  beforeAll(async () => {
    tiny = await openModelForEval({ name: 'tiny', path: testPath('models/qwen3'), mode: 'exact' }, { threads: 1 });
  }, 60_000);
  afterAll(() => tiny[Symbol.asyncDispose]());

  /** Rows of a prompt by position: [layer][head][plane] f32 [tokens][headDim]; how many entries of a view are exact. */
  async function rowsOf(recipe: string, count: number) {
    const { layers, kvHeads, headDim, vocab } = { ...tiny.model.shape, vocab: tiny.model.info.vocab };
    using feed = new Feed(tiny.model, cacheSetting(recipe));
    const prompt = Array.from({ length: count }, (_, i) => 3 + ((i * 7919) % (vocab - 4)));
    await feed.prompt(prompt, 'last', () => {});
    const rows = Array.from({ length: layers }, (_, layer) =>
      Array.from({ length: kvHeads }, (_, head) => {
        const { positions, ...planes } = feed.sequence.read(layer, head);
        const inOrder = { k: new Float32Array(count * headDim), v: new Float32Array(count * headDim) };
        for (const plane of ['k', 'v'] as const) {
          for (const [i, position] of positions.entries())
            inOrder[plane].set(planes[plane].subarray(i * headDim, (i + 1) * headDim), position * headDim);
        }
        const exact = new Set<number>();
        for (const [from, to] of feed.sequence.exactRanges(layer, head))
          for (const position of positions.subarray(from, to)) exact.add(position);
        return { ...inOrder, exact };
      }),
    );
    return { rows, kvHeads, headDim };
  }

  const length = (x: ArrayLike<number>) => Math.hypot(...Array.from(x));
  /** Of u and x, in radians. */
  const angle = (u: ArrayLike<number>, x: ArrayLike<number>) => {
    const [p, q] = [Array.from(u, value => value / length(u)), Array.from(x, value => value / length(x))];
    return 2 * Math.atan2(length(p.map((value, c) => value - q[c]!)), length(p.map((value, c) => value + q[c]!)));
  };

  test.each([0, 0.3, 0.6, 1])(
    't = %d: own norms, retained rows untouched, directions no further than promised',
    async t => {
      const count = 300;
      const full = await rowsOf('full', count);
      const { rows, kvHeads, headDim } = await rowsOf(`minicache(start=0, t=${t}, retain=share, gamma=0.1)`, count);
      let joined = 0;
      for (let head = 0; head < kvHeads; head++) {
        const { exact } = rows[0]![head]!;
        expect(rows[1]![head]!.exact).toEqual(exact);
        expect(exact.size).toBeGreaterThan(0.1 * count);
        for (const plane of ['k', 'v'] as const) {
          for (let i = 0; i < count; i++) {
            const row = (of: typeof rows, layer: number) =>
              of[layer]![head]![plane].subarray(i * headDim, (i + 1) * headDim);
            const [lower, upper] = [row(full.rows, 0), row(full.rows, 1)];
            const apart = angle(lower, upper);
            for (const [layer, x] of [lower, upper].entries()) {
              const got = row(rows, layer);
              if (exact.has(i)) {
                expect(got).toEqual(x);
                continue;
              }
              joined++;
              // Directions are stored in f16.
              expect(Math.abs(length(got) / length(x) - 1)).toBeLessThan(2 ** -11);
              const share = layer === 0 ? t : 1 - t;
              expect(Math.abs(angle(got, x) - share * apart)).toBeLessThan(1e-3);
              if (share === 0) for (const [c, value] of got.entries()) expect(value).toBeCloseTo(x[c]!, 2);
            }
          }
        }
      }
      expect(joined).toBeGreaterThanOrEqual(kvHeads * 2 * 2 * 128);
    },
  );
});
