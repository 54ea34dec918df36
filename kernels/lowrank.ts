import { PAGE_TOKENS, PLANE_A, PLANE_B, PLANE_RANK, PLANE_ROUNDS } from './abi.ts';
import { addScaled } from './decode.ts';
import { decodeHalf, encodeHalf } from './f16.ts';
import { madd, sumOf } from './vector.ts';

/** f32 vectors of A [rank][64] and of B [rank][MAX_HEAD_DIM]. */
const A_BYTES: usize = 256;
const B_BYTES: usize = 1024;
const B: usize = 64 * A_BYTES;
export const LOW_RANK_BYTES: usize = B + 64 * B_BYTES;

/**
 * Fits A B to a residual E (K: f32 [headDim][64], V: [64][headDim]) by power iteration, A orthonormal, and stores both as f16.
 * From a fixed start: the same page gives the same pair.
 */
export function fitLowRank(plane: usize, base: usize, e: usize, headDim: i32, isK: bool, work: usize): void {
  const rank = load<i32>(plane, PLANE_RANK);
  const rounds = load<i32>(plane, PLANE_ROUNDS);
  let seed: u32 = 0x9e3779b9;
  for (let r = 0; r < rank; r++) {
    for (let c = 0; c < headDim; c++) {
      seed = seed * 1664525 + 1013904223;
      store<f32>(work + B + (r as usize) * B_BYTES + (c << 2), ((seed >> 8) as f32) / 16777216);
    }
  }
  for (let round = 0; round < rounds; round++) {
    for (let r = 0; r < rank; r++) {
      const a = work + (r as usize) * A_BYTES;
      const b = work + B + (r as usize) * B_BYTES;
      if (isK) sumRows(e, headDim, 64, b, a);
      else dotRows(e, 64, headDim, b, a);
    }
    orthonormalize(work, rank);
    for (let r = 0; r < rank; r++) {
      const a = work + (r as usize) * A_BYTES;
      const b = work + B + (r as usize) * B_BYTES;
      if (isK) dotRows(e, headDim, 64, a, b);
      else sumRows(e, 64, headDim, a, b);
    }
  }
  const toA = base + load<i32>(plane, PLANE_A);
  const toB = base + load<i32>(plane, PLANE_B);
  for (let r = 0; r < rank; r++) {
    for (let t = 0; t < PAGE_TOKENS; t++)
      storeHalf(toA + ((t * rank + r) << 1), work + (r as usize) * A_BYTES + (t << 2));
    for (let c = 0; c < headDim; c++)
      storeHalf(toB + ((r * headDim + c) << 1), work + B + (r as usize) * B_BYTES + (c << 2));
  }
}

/** (A B) [token][channel], as stored. */
export function lowRankAt(plane: usize, base: usize, headDim: i32, token: i32, channel: i32): f32 {
  const rank = load<i32>(plane, PLANE_RANK);
  const a = base + load<i32>(plane, PLANE_A) + ((token * rank) << 1);
  const b = base + load<i32>(plane, PLANE_B) + (channel << 1);
  let sum: f32 = 0;
  for (let r = 0; r < rank; r++) {
    sum += decodeHalf(load<u16>(a + (r << 1)) as i32) * decodeHalf(load<u16>(b + ((r * headDim) << 1)) as i32);
  }
  return sum;
}

function storeHalf(to: usize, from: usize): void {
  store<u16>(to, encodeHalf(load<f32>(from)) as u16);
}

/** to[lane] = sum over rows of x[row] * m[row][lane]. */
function sumRows(m: usize, rows: i32, lanes: i32, x: usize, to: usize): void {
  const bytes: usize = lanes << 2;
  memory.fill(to, 0, bytes);
  for (let r = 0; r < rows; r++) addScaled(m + (r as usize) * bytes, to, load<f32>(x + (r << 2)), 0, bytes);
}

/** to[row] = m[row] . x */
function dotRows(m: usize, rows: i32, lanes: i32, x: usize, to: usize): void {
  const bytes: usize = lanes << 2;
  for (let r = 0; r < rows; r++) store<f32>(to + (r << 2), dot(m + (r as usize) * bytes, x, bytes));
}

function dot(x: usize, y: usize, bytes: usize): f32 {
  let sum = f32x4.splat(0);
  let other = f32x4.splat(0);
  for (let i: usize = 0; i < bytes; i += 32) {
    sum = madd(v128.load(x + i), v128.load(y + i), sum);
    other = madd(v128.load(x + i, 16), v128.load(y + i, 16), other);
  }
  return sumOf(f32x4.add(sum, other));
}

/** Gram-Schmidt, twice; a vector that the ones before it explain but for rounding becomes zero. */
function orthonormalize(a: usize, rank: i32): void {
  for (let r = 0; r < rank; r++) {
    const x = a + (r as usize) * A_BYTES;
    const before = dot(x, x, A_BYTES);
    for (let pass = 0; pass < 2; pass++) {
      for (let s = 0; s < r; s++) {
        const y = a + (s as usize) * A_BYTES;
        addScaled(y, x, -dot(x, y, A_BYTES), 0, A_BYTES);
      }
    }
    const after = dot(x, x, A_BYTES);
    // 1e-10: lengths compare as 1e-5.
    const factor: f32 = after > before * 1e-10 && after > 1e-30 ? 1 / sqrt<f32>(after) : 0;
    for (let i: usize = 0; i < A_BYTES; i += 4) store<f32>(x + i, load<f32>(x + i) * factor);
  }
}
