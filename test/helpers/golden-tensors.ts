import { plainRandom } from '../../src/methods/testing.ts';

/** `tensors` of golden/methods/draw.py: q f64 [count][heads][headDim] in (-4, 4), k [count][kvHeads][headDim] in (-1, 1). */
export function goldenTensors(seed: number, count: number, heads: number, kvHeads: number, headDim: number) {
  const random = plainRandom(seed);
  const draw = (length: number, scale: number) =>
    Float64Array.from({ length: count * length * headDim }, () => Math.fround(scale * (2 * random() - 1)));
  const q = draw(heads, 4);
  return { q, k: draw(kvHeads, 1) };
}
