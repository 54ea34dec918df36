import { blendRows, type Rows } from './blend.ts';
import type { MapItem, RowNet } from './types.ts';

/**
 * The row that each target of a map gets: f32 [targets, headDim].
 * @param rows f32 [targets][sources][headDim]
 */
export function mapRows(rows: Rows, { targets, sources, by }: MapItem, headDim: number, rotary: number): Rows {
  switch (by.kind) {
    case 'blend': {
      const starts = Uint32Array.from({ length: targets.length + 1 }, (_, i) => i * sources.length);
      return blendRows(rows, { ...by, starts }, headDim);
    }
    case 'rotate':
      return { k: turned(rows.k, by.turns, headDim, rotary), v: rows.v };
    default:
      return netRows(rows, by, targets.length, sources.length, headDim);
  }
}

/** Channels i and i + rotary / 2 turn together; those from `rotary` on stay. */
function turned(rows: Float32Array, turns: Float32Array, headDim: number, rotary: number): Float32Array {
  const half = rotary / 2;
  const out = rows.slice();
  for (let row = 0; row < rows.length / headDim; row++) {
    for (let i = 0; i < half; i++) {
      const a = row * headDim + i;
      const [cos, sin] = [turns[row * rotary + i]!, turns[row * rotary + half + i]!];
      out[a] = rows[a]! * cos - rows[a + half]! * sin;
      out[a + half] = rows[a + half]! * cos + rows[a]! * sin;
    }
  }
  return out;
}

/** In float64; the input of a target is k, v of its first source, k, v of the next, and so on. */
function netRows(rows: Rows, net: RowNet, targets: number, sources: number, headDim: number): Rows {
  const k = new Float32Array(targets * headDim);
  const v = new Float32Array(targets * headDim);
  const input = new Float64Array(sources * 2 * headDim);
  const hidden = new Float64Array(net.bias1.length);
  const output = new Float64Array(2 * headDim);
  for (let t = 0; t < targets; t++) {
    for (let s = 0; s < sources; s++) {
      const from = (t * sources + s) * headDim;
      input.set(rows.k.subarray(from, from + headDim), 2 * s * headDim);
      input.set(rows.v.subarray(from, from + headDim), (2 * s + 1) * headDim);
    }
    affine(net.weights1, net.bias1, input, hidden);
    for (const [i, x] of hidden.entries()) hidden[i] = x / (1 + Math.exp(-x));
    affine(net.weights2, net.bias2, hidden, output);
    k.set(output.subarray(0, headDim), t * headDim);
    v.set(output.subarray(headDim), t * headDim);
  }
  return { k, v };
}

/** out = W x + b, W [out][x] */
function affine(weights: Float32Array, bias: Float32Array, x: Float64Array, out: Float64Array): void {
  for (let row = 0; row < out.length; row++) {
    let sum = bias[row]!;
    for (let i = 0; i < x.length; i++) sum += weights[row * x.length + i]! * x[i]!;
    out[row] = sum;
  }
}
