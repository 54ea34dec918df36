import {
  MERGE_GROUP,
  MERGE_HEAD_DIM,
  MERGE_OUT,
  MERGE_OUT_STRIDE,
  MERGE_PART_STRIDE,
  MERGE_PARTIAL,
  MERGE_PARTS,
  MERGE_ROWS,
} from './abi.ts';
import { divide } from './attend.ts';
import { LINE } from './scratch.ts';
import { exp2Scalar, madd } from './vector.ts';

/** One MERGE record: out = sum of 2^(max_i - max) * out_i over the same sum of sums; one part alone keeps its bits. */
export function merge(item: usize, scratch: usize): void {
  const parts = load<i32>(item, MERGE_PARTS);
  const stride = load<i32>(item, MERGE_PART_STRIDE);
  const rows = load<i32>(item, MERGE_ROWS);
  const group = load<i32>(item, MERGE_GROUP);
  const headDim = load<i32>(item, MERGE_HEAD_DIM);
  const bytes: usize = headDim << 2;
  const outStride = load<i32>(item, MERGE_OUT_STRIDE) << 2;
  let from = load<u32>(item, MERGE_PARTIAL) as usize;
  let out = load<u32>(item, MERGE_OUT) as usize;
  const line = scratch + LINE;
  for (let r = 0; r < rows; r++) {
    for (let h = 0; h < group; h++) {
      let most = -Infinity as f32;
      for (let part = 0; part < parts; part++) most = max<f32>(most, load<f32>(from + part * stride + bytes));
      let sum: f32 = 0;
      memory.fill(line, 0, bytes);
      for (let part = 0; part < parts; part++) {
        const at = from + part * stride;
        const top = load<f32>(at + bytes);
        if (top === (-Infinity as f32)) continue;
        const factor = exp2Scalar(top - most);
        sum += factor * load<f32>(at + bytes, 4);
        const scale = f32x4.splat(factor);
        for (let i: usize = 0; i < bytes; i += 16) {
          v128.store(line + i, madd(scale, v128.load(at + i), v128.load(line + i)));
        }
      }
      divide(line, out + h * bytes, headDim, sum);
      from += bytes + 8;
    }
    out += outStride;
  }
}
