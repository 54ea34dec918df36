import {
  FORMAT_F16,
  FORMAT_F32,
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
import { decodeHalf } from './f16.ts';

/** One READ record. Keys come back as stored: after RoPE, or before it where the layout keeps them so. */
export function read(item: usize): void {
  const layout = (load<u32>(item, READ_LAYOUTS) as usize) + (load<i32>(item, READ_LAYOUT) as usize) * LAYOUT_BYTES;
  const headDim = load<i32>(layout, LAYOUT_HEAD_DIM);
  const cell = load<u32>(item, READ_CELL) as usize;
  const first = load<i32>(item, READ_FIRST);
  const count = load<i32>(item, READ_COUNT);
  let k = load<u32>(item, READ_K) as usize;
  let v = load<u32>(item, READ_V) as usize;
  for (let t = first; t < first + count; t++) {
    if (k) {
      for (let c = 0; c < headDim; c++) store<f32>(k + (c << 2), keyAt(cell, layout, t, c));
      k += headDim << 2;
    }
    if (v) {
      for (let c = 0; c < headDim; c++) store<f32>(v + (c << 2), valueAt(cell, layout, headDim, t, c));
      v += headDim << 2;
    }
  }
}

function keyAt(cell: usize, layout: usize, token: i32, channel: i32): f32 {
  const format = load<i32>(layout, LAYOUT_FORMAT_K);
  const k = cell + load<i32>(layout, LAYOUT_K);
  const index = channel * PAGE_TOKENS + token;
  if (format === FORMAT_F32) return load<f32>(k + (index << 2));
  if (format === FORMAT_F16) return decodeHalf(load<u16>(k + (index << 1)) as i32);
  const code = load<i8>(k + (channel >> 1) * (PAGE_TOKENS * 2) + (token << 1) + (channel & 1)) as f32;
  return code * load<f32>(cell + load<i32>(layout, LAYOUT_K_SCALE) + (token << 2));
}

function valueAt(cell: usize, layout: usize, headDim: i32, token: i32, channel: i32): f32 {
  const format = load<i32>(layout, LAYOUT_FORMAT_V);
  const v = cell + load<i32>(layout, LAYOUT_V);
  const index = token * headDim + channel;
  if (format === FORMAT_F32) return load<f32>(v + (index << 2));
  if (format === FORMAT_F16) return decodeHalf(load<u16>(v + (index << 1)) as i32);
  const code = load<i8>(v + (token >> 1) * (headDim << 1) + (channel << 1) + (token & 1)) as f32;
  return code * load<f32>(cell + load<i32>(layout, LAYOUT_V_SCALE) + (token << 2));
}
