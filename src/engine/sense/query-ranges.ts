import type { ModelConfig } from '../../model/types.ts';
import type { RotaryTable } from '../rotary.ts';
import { Ranges } from './meters.ts';
import type { QueryRows } from './types.ts';

/**
 * Least and greatest value of each channel over rows of queries after RoPE and over the query heads of a group: f32
 * [2 * headDim] a KV head, minima first.
 */
export function queryRanges(
  f32: Float32Array,
  { address, rows, positions }: QueryRows,
  { heads, kvHeads, headDim }: ModelConfig,
  rope: RotaryTable,
): Float32Array[] {
  const half = rope.rotary / 2;
  const group = heads / kvHeads;
  const ranges = Array.from({ length: kvHeads }, () => new Ranges(headDim));
  const line = new Float32Array(headDim);
  for (let row = 0; row < rows; row++) {
    const table = rope.row(positions[row]!) / 4;
    for (let head = 0; head < heads; head++) {
      const at = address / 4 + (row * heads + head) * headDim;
      line.set(f32.subarray(at, at + headDim));
      for (let i = 0; i < half; i++) {
        const [cos, sin] = [f32[table + i]!, f32[table + half + i]!];
        line[i] = f32[at + i]! * cos - f32[at + half + i]! * sin;
        line[half + i] = f32[at + half + i]! * cos + f32[at + i]! * sin;
      }
      ranges[Math.floor(head / group)]!.take(line, 0, 1);
    }
  }
  return ranges.map(({ value }) => value);
}
