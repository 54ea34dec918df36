import { exp2, maxOf, sumOf } from './vector.ts';

/** Steps of the online softmax over one row of scores s[lo .. hi), lo and hi multiples of 8, in units of log2. */

/** Integer scores to f32: times unit, times each token's scale. */
export function scaleScores(s: usize, lo: i32, hi: i32, unit: f32, scales: usize): void {
  const factor = f32x4.splat(unit);
  for (let i: usize = lo << 2, end: usize = hi << 2; i < end; i += 16) {
    const scale = f32x4.mul(factor, v128.load(scales + i));
    v128.store(s + i, f32x4.mul(f32x4.convert_i32x4_s(v128.load(s + i)), scale));
  }
}

/** Adds natural log-weights. */
export function addBias(s: usize, lo: i32, hi: i32, bias: usize): void {
  const log2e = f32x4.splat(Math.LOG2E as f32);
  for (let i: usize = lo << 2, end: usize = hi << 2; i < end; i += 16) {
    v128.store(s + i, f32x4.add(v128.load(s + i), f32x4.mul(log2e, v128.load(bias + i))));
  }
}

/** -infinity where the mask's bit is clear; whatever lay there, NaN included, is gone. */
export function maskScores(s: usize, lo: i32, hi: i32, mask: u64): void {
  const lanes = i32x4(1, 2, 4, 8);
  const never = f32x4.splat(-Infinity as f32);
  for (let t = lo; t < hi; t += 4) {
    const bits = i32x4.splat((mask >> (t as u64)) as i32);
    const on = i32x4.ne(v128.and(bits, lanes), i32x4.splat(0));
    const at = s + (t << 2);
    v128.store(at, v128.bitselect(v128.load(at), never, on));
  }
}

export function greatest(s: usize, lo: i32, hi: i32): f32 {
  let most = f32x4.splat(-Infinity as f32);
  for (let i: usize = lo << 2, end: usize = hi << 2; i < end; i += 16) most = f32x4.pmax(most, v128.load(s + i));
  return maxOf(most);
}

/** Replaces scores by 2^(score - max) and returns their sum. */
export function exponents(s: usize, lo: i32, hi: i32, max: f32): f32 {
  const top = f32x4.splat(max);
  let sum = f32x4.splat(0);
  for (let i: usize = lo << 2, end: usize = hi << 2; i < end; i += 16) {
    const weight = exp2(f32x4.sub(v128.load(s + i), top));
    v128.store(s + i, weight);
    sum = f32x4.add(sum, weight);
  }
  return sumOf(sum);
}

/** Weights times each token's scale of V; a weight of 0 stays 0 whatever the scale holds. */
export function scaleWeights(s: usize, lo: i32, hi: i32, scales: usize): void {
  for (let i: usize = lo << 2, end: usize = hi << 2; i < end; i += 16) {
    const weight = v128.load(s + i);
    const on = f32x4.gt(weight, f32x4.splat(0));
    v128.store(s + i, v128.and(f32x4.mul(weight, v128.load(scales + i)), on));
  }
}

/** row[0 .. count) *= factor */
export function rescale(row: usize, count: i32, factor: f32): void {
  const scale = f32x4.splat(factor);
  for (let i: usize = 0, end: usize = count << 2; i < end; i += 16)
    v128.store(row + i, f32x4.mul(v128.load(row + i), scale));
}
