import type { ModelConfig } from '../../model/types.ts';
import type { RotaryTable } from '../rotary.ts';

/** What turns queries by their positions. */
export interface Turning {
  readonly ropes: readonly RotaryTable[];
  readonly config: ModelConfig;
}

/**
 * Copies queries of some rows and turns them.
 * @param from f32 [rows][heads * headDim], before RoPE
 * @param position of each row
 * @returns f32 [rows][heads * headDim], after RoPE
 */
export function turnQueries(
  f32: Float32Array,
  { ropes, config }: Turning,
  layer: number,
  from: number,
  rows: number,
  position: (row: number) => number,
): Float32Array {
  const { heads, headDim, layerRope } = config;
  const width = heads * headDim;
  const queries = f32.slice(from, from + rows * width);
  const rope = ropes[layerRope[layer]!]!;
  const half = rope.rotary / 2;
  for (let row = 0; row < rows; row++) {
    const table = rope.row(position(row)) / 4;
    for (let at = row * width; at < (row + 1) * width; at += headDim)
      for (let i = at; i < at + half; i++) {
        const [cos, sin] = [f32[table + i - at]!, f32[table + half + i - at]!];
        const [x, y] = [queries[i]!, queries[i + half]!];
        queries[i] = x * cos - y * sin;
        queries[i + half] = y * cos + x * sin;
      }
  }
  return queries;
}

/** Mean over the heads of the cosine of two queries; 1 where one of them is zero. */
export function meanCosine(a: Float32Array, b: Float32Array, headDim: number): number {
  let sum = 0;
  const heads = a.length / headDim;
  for (let head = 0; head < heads; head++) {
    let aa = 0;
    let bb = 0;
    let ab = 0;
    for (let c = head * headDim; c < (head + 1) * headDim; c++) {
      aa += a[c]! * a[c]!;
      bb += b[c]! * b[c]!;
      ab += a[c]! * b[c]!;
    }
    sum += aa > 0 && bb > 0 ? ab / Math.sqrt(aa * bb) : 1;
  }
  return sum / heads;
}
