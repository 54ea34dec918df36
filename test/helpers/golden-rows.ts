import { plainRandom } from '../../src/methods/testing.ts';

/** The seeded numbers of golden/methods/draw.py. */

/** `rows`: f32 [count][width], cubes of uniform numbers, each channel around and as wide as the seed says. */
export function goldenRows(seed: number, count: number, width: number): Float32Array {
  const random = plainRandom(seed);
  const middle = Array.from({ length: width }, () => 2 * random() - 1);
  const size = Array.from({ length: width }, () => 0.5 + 2 * random());
  return Float32Array.from(
    { length: count * width },
    (_, i) => middle[i % width]! + size[i % width]! * (2 * random() - 1) ** 3,
  );
}

/** `tensors`: q f64 [count][heads][headDim] in (-4, 4), k [count][kvHeads][headDim] in (-1, 1), each number an f32. */
export function goldenTensors(seed: number, count: number, heads: number, kvHeads: number, headDim: number) {
  const random = plainRandom(seed);
  const draw = (length: number, scale: number) =>
    Float64Array.from({ length: count * length * headDim }, () => Math.fround(scale * (2 * random() - 1)));
  const q = draw(heads, 4);
  return { q, k: draw(kvHeads, 1) };
}
