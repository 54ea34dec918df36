import { PAGE_TOKENS, PART_CHANNELS, PART_SIDE, PART_WIDTH } from './abi.ts';
import { decodeHalf } from './f16.ts';
import { channelOf, rowOf } from './hadamard.ts';
import { transpose4 } from './latent.ts';

/** Rows to be encoded as planes, and parts of planes as quantize.ts wants them. K: f32 [headDim][64], V: f32 [64][headDim]. */

/** One part of the plane, divided by its side factors; lanes up to a multiple of 64 are zeros. */
export function gather(
  part: usize,
  block: usize,
  x: usize,
  headDim: i32,
  isK: bool,
  matrix: usize,
  stride: usize,
): void {
  const width = load<i32>(part, PART_WIDTH);
  const channels = load<u32>(part, PART_CHANNELS) as usize;
  const side = load<i32>(part, PART_SIDE);
  if (isK) {
    for (let i = 0; i < width; i++) {
      const to = matrix + (i as usize) * stride;
      memory.copy(to, rowOf(x, channels, i), stride);
      if (side < 0) continue;
      const factor = f32x4.splat(inverseSide(block + side, i));
      for (let at: usize = 0; at < stride; at += 16) v128.store(to + at, f32x4.mul(v128.load(to + at), factor));
    }
    return;
  }
  for (let t = 0; t < PAGE_TOKENS; t++) {
    const row = matrix + (t as usize) * stride;
    const from = x + ((t * headDim) << 2);
    memory.fill(row + (width << 2), 0, stride - (width << 2));
    for (let i = 0; i < width; i++) {
      const factor: f32 = side < 0 ? 1 : inverseSide(block + side, i);
      store<f32>(row + (i << 2), load<f32>(from + (channelOf(channels, i) << 2)) * factor);
    }
  }
}

/** A channel whose factor is 0 decodes to 0 whatever its codes are. */
function inverseSide(side: usize, i: i32): f32 {
  const factor = decodeHalf(load<u16>(side + (i << 1)) as i32);
  return factor === 0 ? 0 : 1 / factor;
}

/** NaN becomes 0, the rest lies within f16. */
function tame(x: v128): v128 {
  const number = v128.and(x, f32x4.eq(x, x));
  return f32x4.pmax(f32x4.splat(-65504), f32x4.pmin(f32x4.splat(65504), number));
}

export function loadValues(from: usize, to: usize, headDim: i32, rows: i32): void {
  const bytes: usize = headDim << 2;
  for (let t = 0; t < PAGE_TOKENS; t++, to += bytes) {
    const row = from + (min<i32>(t, rows - 1) as usize) * bytes;
    for (let i: usize = 0; i < bytes; i += 16) v128.store(to + i, tame(v128.load(row + i)));
  }
}

export function loadKeys(from: usize, to: usize, headDim: i32, rows: i32): void {
  const bytes: usize = headDim << 2;
  let t = 0;
  for (; t + 4 <= rows; t += 4) {
    const row = from + (t as usize) * bytes;
    for (let c: usize = 0; c < (headDim as usize); c += 4)
      transpose4(row + (c << 2), bytes, to + (c << 8) + (t << 2), 256);
  }
  for (; t < PAGE_TOKENS; t++) {
    const row = from + (min<i32>(t, rows - 1) as usize) * bytes;
    for (let c = 0; c < headDim; c++) store<f32>(to + ((c * PAGE_TOKENS + t) << 2), load<f32>(row + (c << 2)));
  }
  for (let i: usize = 0; i < (headDim as usize) << 8; i += 16) v128.store(to + i, tame(v128.load(to + i)));
}
