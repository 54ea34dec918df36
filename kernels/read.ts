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
import { decodeHalf } from './f16.ts';
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
  if (k) readKeys(cell, layout, headDim, first, count, k, scratch);
  if (v) readValues(cell, layout, headDim, first, count, v, scratch);
}

function readKeys(cell: usize, layout: usize, headDim: i32, first: i32, count: i32, to: usize, scratch: usize): void {
  const encoded = load<i32>(layout, LAYOUT_FORMAT_K) >= FORMAT_SCALAR;
  const plane = scratch + PLANE_K;
  if (encoded) decodePlaneK(cell, layout, plane, first, first + count, scratch);
  for (let t = first; t < first + count; t++, to += headDim << 2) {
    for (let c = 0; c < headDim; c++) {
      const x = encoded ? load<f32>(plane + ((c * PAGE_TOKENS + t) << 2)) : keyAt(cell, layout, t, c);
      store<f32>(to + (c << 2), x);
    }
  }
}

function readValues(cell: usize, layout: usize, headDim: i32, first: i32, count: i32, to: usize, scratch: usize): void {
  if (load<i32>(layout, LAYOUT_FORMAT_V) >= FORMAT_SCALAR) {
    const plane = scratch + PLANE_V;
    decodePlaneV(cell, layout, plane, first, first + count, scratch);
    memory.copy(to, plane + ((first * headDim) << 2), (count * headDim) << 2);
    return;
  }
  for (let t = first; t < first + count; t++, to += headDim << 2) {
    for (let c = 0; c < headDim; c++) store<f32>(to + (c << 2), valueAt(cell, layout, headDim, t, c));
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
