import { describe, expect, test } from 'vitest';
import type { PlainRows } from '../testing.ts';
import { PlainCache, plainModel, plainPrompt, plainRandom } from '../testing.ts';
import { attentionOf, differences, range } from '../testing-cards.ts';
import { held, SHAPES, SIZES } from '../testing-policy.ts';
import type { Segment } from '../types.ts';
import { redundant, saliency } from './frames.ts';
import { guiKv } from './gui-kv.ts';
import { snapkv } from './snapkv.ts';

type Shape = Parameters<typeof plainModel>[0];
const image = (from: number, to: number): Segment => ({ kind: 'image', from, to });

/** One prompt of given or random tensors, with its segments. */
function run(
  method: typeof guiKv | typeof snapkv,
  options: object,
  rows: number,
  shape: Shape,
  segments: readonly Segment[],
  change?: (tensors: PlainRows[]) => void,
) {
  const model = plainModel(shape);
  const cache = new PlainCache(model, rows);
  cache.segments = segments;
  const tensors = plainPrompt(model, rows, plainRandom(rows + 5));
  change?.(tensors);
  cache.prompt(method.create(method.options.parse(options) as never, model), tensors);
  return { cache, model, tensors };
}

const sum = (x: readonly number[]) => x.reduce((a, b) => a + b, 0);

/** The share of x outside the span of some rows, by classical projection on a basis built row by row. */
function residual(span: readonly (readonly number[])[], x: readonly number[]): number {
  const q: number[][] = [];
  const rest = (row: readonly number[]) => {
    let out = [...row];
    for (const _ of range(2))
      for (const u of q) {
        const along = sum(out.map((y, c) => y * u[c]!));
        out = out.map((y, c) => y - along * u[c]!);
      }
    return out;
  };
  for (const row of span) {
    const left = rest(row);
    const length = Math.hypot(...left);
    if (length > 1e-6 * Math.hypot(...row)) q.push(left.map(y => y / length));
  }
  return Math.hypot(...rest(x));
}

/** Steps 1 to 4 of the card for one head: scores before the window, zeroed ones below 0. */
function card(
  { cache, model, tensors }: ReturnType<typeof run>,
  layer: number,
  head: number,
  kept: number,
  o: { window: number; alpha: number; temperature: number; rank: number },
): number[] {
  const { group, headDim, kvHeads } = model;
  const attention = attentionOf(model, tensors[layer]!).slice(head * group, (head + 1) * group);
  const n = attention[0]!.length;
  const before = Math.max(0, n - o.window);
  const heads = attention.map(matrix => {
    const raw = range(before).map(i => sum(matrix.slice(-o.window).map(row => row[i]!)));
    return range(before).map(i => {
      const around = [-2, -1, 0, 1, 2].map(d => raw[i + d] ?? 0);
      return sum(around) / 5;
    });
  });
  const scores = range(before).map(i => sum(heads.map(values => values[i]!)) / group);
  const images = cache.segments.filter(({ kind }) => kind === 'image');
  const latest = images.at(-1);
  if (!latest) return scores;
  const width = tensors[layer]!.hidden.length / n;
  const norms = range(n).map(i => Math.hypot(...tensors[layer]!.hidden.slice(i * width, (i + 1) * width)));
  const tokens = range(latest.to - latest.from).map(i => latest.from + i);
  const mean = sum(tokens.map(i => norms[i]!)) / tokens.length;
  const std = Math.sqrt(sum(tokens.map(i => (norms[i]! - mean) ** 2)) / Math.max(1, tokens.length - 1));
  const e = tokens.map(i => Math.exp((norms[i]! - mean) / (std + 1e-8) / o.temperature));
  tokens.forEach((i, at) => {
    if (i < before) scores[i]! += (o.alpha * e[at]!) / sum(e);
  });
  const key = (i: number) => [
    ...tensors[layer]!.k.slice((i * kvHeads + head) * headDim, (i * kvHeads + head + 1) * headDim),
  ];
  const span = tokens.slice(0, Math.min(o.rank, headDim)).map(key);
  const earlier = images
    .slice(0, -1)
    .flatMap(({ from, to }) => range(to - from).map(i => from + i))
    .filter(i => i < before);
  const rests = earlier.map(i => residual(span, key(i)));
  const zeroed = [...earlier.keys()]
    .sort((a, b) => rests[a]! - rests[b]!)
    .slice(0, Math.floor((1 - kept / n) * earlier.length));
  for (const i of zeroed) scores[earlier[i]!] = -1 / scores[earlier[i]!]!;
  return scores;
}

describe.each(SHAPES)('%o', shape => {
  const o = { window: 8, alpha: 2, temperature: 3.5, rank: 5 };
  test.each(SIZES)('%i tokens, three images: what the card keeps', rows => {
    const third = Math.floor(rows / 4);
    const segments = third > 1 ? range(3).map(i => image(i * third + 1, (i + 1) * third)) : [];
    const result = run(guiKv, { keep: 0.4, rank: 5 }, rows, { ...shape, headDim: 16 }, segments);
    const kept = Math.max(8, Math.floor(0.4 * rows));
    held(result.cache).forEach((heads, layer) => {
      heads.forEach((positions, head) => {
        const scores = card(result, layer, head, kept, o);
        const count = Math.max(0, Math.min(kept, rows) - Math.min(8, rows));
        const best = [...scores.keys()].sort((a, b) => scores[b]! - scores[a]! || a - b).slice(0, count);
        const chosen = positions.filter(i => i < scores.length);
        expect(chosen).toHaveLength(best.length);
        expect(differences(chosen, best, scores)).toEqual([]);
        expect(positions.slice(-Math.min(8, rows))).toEqual(
          range(Math.min(8, rows)).map(i => rows - Math.min(8, rows) + i),
        );
      });
    });
  });
});

test.each([
  ['alpha=0 and one image', { alpha: 0 }, [image(20, 90)]],
  ['no image', {}, [{ kind: 'document', from: 20, to: 90 } as const]],
])('%s: SnapKV with the same window and pooling', (_, options, segments) => {
  const shape = { layers: 2, kvHeads: 2, group: 2 };
  const ours = run(guiKv, { keep: 0.3, ...options }, 150, shape, segments);
  const same = run(snapkv, { keep: 0.3, window: 8, pool: 'mean', width: 5 }, 150, shape, []);
  expect(held(ours.cache)).toEqual(held(same.cache));
});

test('of two equal images the tokens that span the later one go first from the earlier one', () => {
  const n = 60;
  const twice = (tensors: PlainRows[]) => {
    for (const { k } of tensors) {
      const row = k.length / 150;
      k.copyWithin((10 + n) * row, 10 * row, (10 + n) * row);
    }
  };
  const segments = [image(10, 10 + n), image(10 + n, 10 + 2 * n)];
  const shape = { layers: 1, kvHeads: 2, group: 1, headDim: 64 };
  const { cache } = run(guiKv, { keep: 0.5, alpha: 0 }, 150, shape, segments, twice);
  // 30 of 60 are marked: all of the 32 that span the later image, but for two; there is room for 75 of 150 without them.
  for (const positions of held(cache)[0]!) {
    const left = positions.filter(i => i >= 10 && i < 10 + 32);
    expect(left.length).toBeLessThanOrEqual(2);
  }
});

describe('saliency', () => {
  const random = plainRandom(3);
  const norms = Float32Array.from({ length: 100 }, () => 1 + random());
  const at = { seen: 100, rows: 100 };
  test('sums to 1 over the image, and does not depend on how long hidden states are', () => {
    const gains = saliency(norms, at, image(30, 80), 3.5);
    expect([...gains.keys()]).toEqual(range(50).map(i => 30 + i));
    expect(sum([...gains.values()])).toBeCloseTo(1, 9);
    const scaled = saliency(
      norms.map(x => 7 * x),
      at,
      image(30, 80),
      3.5,
    );
    for (const [position, gain] of gains) expect(scaled.get(position)).toBeCloseTo(gain, 6);
  });
  test('grows with the norm; even where all are alike', () => {
    const gains = saliency(norms, at, image(30, 80), 3.5);
    const byNorm = range(50).map(i => 30 + i).sort((a, b) => norms[a]! - norms[b]!); // biome-ignore format: short
    const values = byNorm.map(i => gains.get(i)!);
    expect(values).toEqual([...values].sort((a, b) => a - b));
    for (const gain of saliency(norms.fill(2), at, image(0, 4), 3.5).values()) expect(gain).toBeCloseTo(0.25, 9);
  });
  test('only of tokens that ran with this prompt', () => {
    expect([...saliency(norms, { seen: 150, rows: 100 }, image(40, 60), 1).keys()]).toEqual(range(10).map(i => 50 + i));
    expect(saliency(norms, { seen: 150, rows: 100 }, image(10, 50), 1).size).toBe(0);
  });
});

test.each([1, 3, 7, 8, 9])('a budget of %i: the window is reduced to fit', budget => {
  const { cache } = run(guiKv, { budget }, 100, { layers: 2, kvHeads: 2, group: 2 }, [image(5, 40)]);
  for (const kept of held(cache).flat()) {
    expect(kept).toHaveLength(budget);
    const last = Math.min(8, budget);
    expect(kept.slice(-last)).toEqual(range(100).slice(-last));
  }
});

test('saliency by hand: norms 1, 2, 4 have mean 7 / 3 and, of two degrees of freedom, deviation 1.527525', () => {
  const gains = [...saliency(Float32Array.of(1, 2, 4), { seen: 3, rows: 3 }, image(0, 3), 1).values()];
  expect(Math.log(gains[2]! / gains[0]!)).toBeCloseTo(3 / 1.5275252, 6);
  expect([...saliency(Float32Array.of(5), { seen: 1, rows: 1 }, image(0, 1), 1).values()]).toEqual([1]);
});

test('redundant: the smallest residuals, their number rounded down', () => {
  expect([...redundant(Float32Array.of(3, 1, 2, 0), 0.5)]).toEqual([1, 3]);
  expect([...redundant(Float32Array.of(3, 1, 2), 0.5)]).toEqual([1]);
  expect([...redundant(new Float32Array(0), 0.5)]).toEqual([]);
});

test('keep=1 is the full cache, without a signal', () => {
  expect(guiKv.create(guiKv.options.parse({ keep: 1 }), plainModel({ layers: 1, kvHeads: 1, group: 1 }))).toEqual({});
});
