import {
  APPEND_CELL,
  APPEND_FIRST,
  APPEND_K,
  APPEND_LAYOUT,
  APPEND_LAYOUTS,
  APPEND_ROWS,
  APPEND_STRIDE,
  APPEND_TURN,
  APPEND_V,
  FORMAT_F16,
  FORMAT_F32,
  LAYOUT_BIAS,
  LAYOUT_BYTES,
  LAYOUT_FORMAT_K,
  LAYOUT_FORMAT_V,
  LAYOUT_HEAD_DIM,
  LAYOUT_K,
  LAYOUT_K_SCALE,
  LAYOUT_KEYS_UNROTATED,
  LAYOUT_ROTARY,
  LAYOUT_V,
  LAYOUT_V_SCALE,
  PAGE_TOKENS,
} from './abi.ts';
import { encodeHalf } from './f16.ts';
import { LINE } from './scratch.ts';
import { turn } from './turn.ts';
import { maxOf } from './vector.ts';

/** One APPEND record: turns keys, encodes keys and values, clears the rows' bias. */
export function append(item: usize, scratch: usize): void {
  const layout = (load<u32>(item, APPEND_LAYOUTS) as usize) + (load<i32>(item, APPEND_LAYOUT) as usize) * LAYOUT_BYTES;
  const headDim = load<i32>(layout, LAYOUT_HEAD_DIM);
  const rotary = load<i32>(layout, LAYOUT_ROTARY);
  const rotated = !load<i32>(layout, LAYOUT_KEYS_UNROTATED);
  const bias = load<i32>(layout, LAYOUT_BIAS);
  const cell = load<u32>(item, APPEND_CELL) as usize;
  const first = load<i32>(item, APPEND_FIRST);
  const rows = load<i32>(item, APPEND_ROWS);
  const stride = load<i32>(item, APPEND_STRIDE) << 2;
  const k = load<u32>(item, APPEND_K) as usize;
  const v = load<u32>(item, APPEND_V) as usize;
  const table = load<u32>(item, APPEND_TURN) as usize;
  const line = scratch + LINE;
  for (let r = 0; r < rows; r++) {
    const token = first + r;
    let key = k + r * stride;
    if (rotated) {
      turn(key, line, headDim, rotary, table + ((r * rotary) << 2), 1);
      key = line;
    }
    writeKey(cell, layout, headDim, token, key);
    writeValue(cell, layout, headDim, token, v + r * stride);
    if (bias) store<f32>(cell + bias + (token << 2), 0);
  }
}

/** Encodes one key into an exact plane (f32, f16, int8). */
export function writeKey(cell: usize, layout: usize, headDim: i32, token: i32, from: usize): void {
  const format = load<i32>(layout, LAYOUT_FORMAT_K);
  const k = cell + load<i32>(layout, LAYOUT_K);
  if (format === FORMAT_F32) {
    const to = k + (token << 2);
    for (let c = 0; c < headDim; c++) store<f32>(to + c * (PAGE_TOKENS * 4), load<f32>(from + (c << 2)));
  } else if (format === FORMAT_F16) {
    const to = k + (token << 1);
    for (let c = 0; c < headDim; c++)
      store<u16>(to + c * (PAGE_TOKENS * 2), encodeHalf(load<f32>(from + (c << 2))) as u16);
  } else {
    const top = largest(from, headDim);
    const inverse: f32 = top > 0 ? 127 / top : 0;
    store<f32>(cell + load<i32>(layout, LAYOUT_K_SCALE) + (token << 2), top / 127);
    const to = k + (token << 1);
    for (let c = 0; c < headDim; c += 2) {
      const x = code(load<f32>(from + (c << 2)), inverse);
      const y = code(load<f32>(from + (c << 2), 4), inverse);
      store<u16>(to + c * PAGE_TOKENS, ((x & 255) | (y << 8)) as u16);
    }
  }
}

export function writeValue(cell: usize, layout: usize, headDim: i32, token: i32, from: usize): void {
  const format = load<i32>(layout, LAYOUT_FORMAT_V);
  const v = cell + load<i32>(layout, LAYOUT_V);
  if (format === FORMAT_F32) {
    memory.copy(v + ((token * headDim) << 2), from, headDim << 2);
  } else if (format === FORMAT_F16) {
    const to = v + ((token * headDim) << 1);
    for (let c = 0; c < headDim; c++) store<u16>(to + (c << 1), encodeHalf(load<f32>(from + (c << 2))) as u16);
  } else {
    const top = largest(from, headDim);
    const inverse: f32 = top > 0 ? 127 / top : 0;
    store<f32>(cell + load<i32>(layout, LAYOUT_V_SCALE) + (token << 2), top / 127);
    const to = v + (((token >> 1) * headDim) << 1) + (token & 1);
    for (let c = 0; c < headDim; c++) store<u8>(to + (c << 1), code(load<f32>(from + (c << 2)), inverse) as u8);
  }
}

function code(x: f32, inverse: f32): i32 {
  return nearest<f32>(max<f32>(-127, min<f32>(127, x * inverse))) as i32;
}

/** Greatest magnitude of a row, finite; NaN does not count. */
function largest(from: usize, count: i32): f32 {
  let most = f32x4.splat(0);
  for (let i: usize = 0, end: usize = count << 2; i < end; i += 16) {
    most = f32x4.pmax(most, f32x4.abs(v128.load(from + i)));
  }
  // A little less than f32's greatest, so that 127 * (top / 127) cannot round to infinity.
  return min<f32>(maxOf(most), 3.4e38);
}
