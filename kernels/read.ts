import {
  FORMAT_F16,
  FORMAT_F32,
  FORMAT_SCALAR,
  LAYOUT_BYTES,
  LAYOUT_FORMAT_K,
  LAYOUT_FORMAT_V,
  LAYOUT_HEAD_DIM,
  LAYOUT_K,
  LAYOUT_K_SCALE,
  LAYOUT_V,
  LAYOUT_V_SCALE,
  PAGE_TOKENS,
  READ_CELL,
  READ_COUNT,
  READ_FIRST,
  READ_K,
  READ_LAYOUT,
  READ_LAYOUTS,
  READ_V,
} from './abi.ts';
import { decodePlaneK, decodePlaneV } from './decode.ts';
import { decodeHalves, decodeLine } from './f16.ts';
import { decodeKeys } from './int8.ts';
import { forgetBases, transpose4 } from './latent.ts';
import { PLANE_K, PLANE_V } from './scratch.ts';

/** One READ record. Keys come back as stored: after RoPE, or before it where the layout keeps them so. */
export function read(item: usize, scratch: usize): void {
  const layout = (load<u32>(item, READ_LAYOUTS) as usize) + (load<i32>(item, READ_LAYOUT) as usize) * LAYOUT_BYTES;
  const headDim = load<i32>(layout, LAYOUT_HEAD_DIM);
  const cell = load<u32>(item, READ_CELL) as usize;
  const first = load<i32>(item, READ_FIRST);
  const count = load<i32>(item, READ_COUNT);
  const k = load<u32>(item, READ_K) as usize;
  const v = load<u32>(item, READ_V) as usize;
  forgetBases();
  if (k) readKeys(cell, layout, headDim, first, count, k, scratch);
  if (v) readValues(cell, layout, headDim, first, count, v, scratch);
}

function readKeys(cell: usize, layout: usize, headDim: i32, first: i32, count: i32, to: usize, scratch: usize): void {
  const format = load<i32>(layout, LAYOUT_FORMAT_K);
  const last = first + count;
  let k = cell + load<i32>(layout, LAYOUT_K);
  if (format !== FORMAT_F32) {
    const plane = scratch + PLANE_K;
    if (format >= FORMAT_SCALAR) decodePlaneK(cell, layout, plane, first, last, scratch);
    else if (format === FORMAT_F16) decodeHalves(k, plane, headDim * PAGE_TOKENS);
    else decodeKeys(k, cell + load<i32>(layout, LAYOUT_K_SCALE), plane, headDim, first, last);
    k = plane;
  }
  const bytes: usize = headDim << 2;
  let t = first;
  for (; t + 4 <= last && (headDim & 3) === 0; t += 4, to += bytes << 2) {
    for (let c = 0; c < headDim; c += 4) transpose4(k + (c << 8) + (t << 2), 256, to + (c << 2), bytes);
  }
  for (; t < last; t++, to += bytes) {
    for (let c = 0; c < headDim; c++) store<f32>(to + (c << 2), load<f32>(k + (c << 8) + (t << 2)));
  }
}

function readValues(cell: usize, layout: usize, headDim: i32, first: i32, count: i32, to: usize, scratch: usize): void {
  const format = load<i32>(layout, LAYOUT_FORMAT_V);
  const v = cell + load<i32>(layout, LAYOUT_V);
  const from = first * headDim;
  const length = count * headDim;
  if (format >= FORMAT_SCALAR) {
    const plane = scratch + PLANE_V;
    decodePlaneV(cell, layout, plane, first, first + count, scratch);
    memory.copy(to, plane + (from << 2), length << 2);
  } else if (format === FORMAT_F32) {
    memory.copy(to, v + (from << 2), length << 2);
  } else if (format === FORMAT_F16) {
    decodeLine(v + (from << 1), to, length);
  } else {
    const scales = cell + load<i32>(layout, LAYOUT_V_SCALE);
    for (let t = first; t < first + count; t++) {
      const scale = load<f32>(scales + (t << 2));
      const row = v + (t >> 1) * (headDim << 1) + (t & 1);
      for (let c = 0; c < headDim; c++, to += 4) store<f32>(to, (load<i8>(row + (c << 1)) as f32) * scale);
    }
  }
}
