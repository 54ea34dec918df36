import { PLANE_A, PLANE_B, PLANE_OUTLIER_INDEX, PLANE_OUTLIER_VALUE, PLANE_OUTLIERS, PLANE_RANK } from './abi.ts';
import { decodeHalf, decodeHalves } from './f16.ts';
import { FOLD_LINE, O, OFFSET_LINE, Q, ROW, S, SCALE_LINE } from './scratch.ts';
import { madd, sumOf } from './vector.ts';

/** What a scalar plane adds to its codes, met by few queries without decoding: a low-rank pair A B and outliers. */

/** S += (q . B) . A, tokens lo..hi (multiples of 8). */
export function addPairScores(
  plane: usize,
  base: usize,
  headDim: i32,
  queries: i32,
  lo: i32,
  hi: i32,
  scratch: usize,
): void {
  const rank = load<i32>(plane, PLANE_RANK);
  const column = scratch + OFFSET_LINE;
  for (let r = 0; r < rank; r++) {
    decodeHalves(base + load<i32>(plane, PLANE_B) + ((r * headDim) << 1), scratch + SCALE_LINE, headDim);
    loadColumn(base + load<i32>(plane, PLANE_A), rank, r, lo, hi, column, scratch);
    for (let i = 0; i < queries; i++) {
      const factor = dotOf(scratch + Q + (i as usize) * ROW, scratch + SCALE_LINE, headDim);
      addLine(column, scratch + S + (i as usize) * ROW + (lo << 2), factor, hi - lo);
    }
  }
}

/** O += (p . A) . B over tokens lo..hi (multiples of 8). */
export function addPairValues(
  plane: usize,
  base: usize,
  headDim: i32,
  queries: i32,
  lo: i32,
  hi: i32,
  scratch: usize,
): void {
  const rank = load<i32>(plane, PLANE_RANK);
  const column = scratch + OFFSET_LINE;
  for (let r = 0; r < rank; r++) {
    decodeHalves(base + load<i32>(plane, PLANE_B) + ((r * headDim) << 1), scratch + SCALE_LINE, headDim);
    loadColumn(base + load<i32>(plane, PLANE_A), rank, r, lo, hi, column, scratch);
    for (let i = 0; i < queries; i++) {
      const factor = dotOf(scratch + S + (i as usize) * ROW + (lo << 2), column, hi - lo);
      addLine(scratch + SCALE_LINE, scratch + O + (i as usize) * ROW, factor, headDim);
    }
  }
}

/** Column r of f16 A [64][rank], rows lo..hi, to f32. */
function loadColumn(a: usize, rank: i32, r: i32, lo: i32, hi: i32, to: usize, scratch: usize): void {
  const halves = scratch + FOLD_LINE;
  let from = a + ((lo * rank + r) << 1);
  for (let i: usize = 0, end: usize = (hi - lo) << 1; i < end; i += 2, from += rank << 1)
    store<u16>(halves + i, load<u16>(from));
  decodeHalves(halves, to, hi - lo);
}

export function dotOf(x: usize, y: usize, count: i32): f32 {
  let sum = f32x4.splat(0);
  for (let i: usize = 0, end: usize = count << 2; i < end; i += 16) sum = madd(v128.load(x + i), v128.load(y + i), sum);
  return sumOf(sum);
}

export function addLine(line: usize, to: usize, factor: f32, count: i32): void {
  const x = f32x4.splat(factor);
  for (let i: usize = 0, end: usize = count << 2; i < end; i += 16)
    v128.store(to + i, madd(x, v128.load(line + i), v128.load(to + i)));
}

/** S[token] += q[channel] * value for each outlier, whether or not its token is asked for. */
export function addOutlierScores(plane: usize, base: usize, headDim: i32, queries: i32, scratch: usize): void {
  const slots = load<i32>(plane, PLANE_OUTLIERS);
  const index = base + load<i32>(plane, PLANE_OUTLIER_INDEX);
  const value = base + load<i32>(plane, PLANE_OUTLIER_VALUE);
  for (let i: usize = 0; i < (slots as usize) << 1; i += 2) {
    const element = load<u16>(index + i) as i32;
    const token = element / headDim;
    const x = decodeHalf(load<u16>(value + i) as i32);
    let q = scratch + Q + ((element - token * headDim) << 2);
    let s = scratch + S + (token << 2);
    for (let j = 0; j < queries; j++, q += ROW, s += ROW) store<f32>(s, load<f32>(s) + load<f32>(q) * x);
  }
}

/** O[channel] += p[token] * value for each outlier of tokens lo..hi. */
export function addOutlierValues(
  plane: usize,
  base: usize,
  headDim: i32,
  queries: i32,
  lo: i32,
  hi: i32,
  scratch: usize,
): void {
  const slots = load<i32>(plane, PLANE_OUTLIERS);
  const index = base + load<i32>(plane, PLANE_OUTLIER_INDEX);
  const value = base + load<i32>(plane, PLANE_OUTLIER_VALUE);
  for (let i: usize = 0; i < (slots as usize) << 1; i += 2) {
    const element = load<u16>(index + i) as i32;
    const token = element / headDim;
    if (token < lo || token >= hi) continue;
    const x = decodeHalf(load<u16>(value + i) as i32);
    let p = scratch + S + (token << 2);
    let o = scratch + O + ((element - token * headDim) << 2);
    for (let j = 0; j < queries; j++, p += ROW, o += ROW) store<f32>(o, load<f32>(o) + load<f32>(p) * x);
  }
}
