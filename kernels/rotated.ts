import {
  PAGE_TOKENS,
  PART_ALONG,
  PART_BITS,
  PART_CHANNELS,
  PART_CODES,
  PART_CODES_HIGH,
  PART_GROUP,
  PART_LUT,
  PART_OFFSET,
  PART_SCALE,
  PART_SHARED,
  PART_WIDTH,
} from './abi.ts';
import { codesAt, pairBytes } from './codes.ts';
import { decodeHalf, decodeHalves } from './f16.ts';
import { channelOf, hadamardLine } from './hadamard.ts';
import { FOLD_LINE, OFFSET_LINE, PLANE_V, SCALE_LINE } from './scratch.ts';

/**
 * Keys whose codes belong to transformed channels, with one scale and one offset a token: codes are transformed as integers, 8
 * tokens a vector, and only then scaled. Offsets come to one number a channel and token.
 */

/** i16 [headDim][64], where a plane of values would be decoded. */
const SUMS: usize = PLANE_V;
const SUM_ROW: usize = PAGE_TOKENS * 2;

/** Can a part of K be read this way? Sums of all its codes must fit 16 bits. */
export function sumsCodes(part: usize): bool {
  const width = load<i32>(part, PART_WIDTH);
  if (load<i32>(part, PART_ALONG) !== 1 || load<i32>(part, PART_GROUP) !== width) return false;
  if (load<i32>(part, PART_BITS) > 4 || load<i32>(part, PART_OFFSET) < 0) return false;
  return !load<u32>(part, PART_LUT) && !load<i32>(part, PART_SHARED) && (width & 1) === 0;
}

/**
 * Adds what the part says of tokens lo..hi (multiples of 8) to f32 [headDim][64]: channel c of it, sign(c >> log2 headDim) times
 * the decoded number, goes to channel c % headDim, and these are transformed. `signs`: f16, 0: one head. `first`: what lies
 * there is overwritten.
 */
export function addTransformed(
  part: usize,
  base: usize,
  signs: usize,
  heads: i32,
  headDim: i32,
  to: usize,
  lo: i32,
  hi: i32,
  first: bool,
  scratch: usize,
): void {
  const sums = scratch + SUMS;
  const counts = scratch + FOLD_LINE;
  memory.fill(counts, 0, headDim << 2);
  addCodes(part, base, signs, headDim, sums, counts, lo, hi);
  transformSums(sums, headDim, lo, hi);
  hadamardLine(counts, headDim);
  const scales = scratch + SCALE_LINE;
  const offsets = scratch + OFFSET_LINE;
  decodeHalves(base + load<i32>(part, PART_SCALE) + (lo << 1), scales, hi - lo);
  decodeHalves(base + load<i32>(part, PART_OFFSET) + (lo << 1), offsets, hi - lo);
  const factor: f32 = 1 / sqrt<f32>((heads * headDim) as f32);
  const offsetFactor: f32 = 1 / sqrt<f32>(heads as f32);
  const bytes: usize = (hi - lo) << 2;
  for (let i: usize = 0; i < bytes; i += 16)
    v128.store(scales + i, f32x4.mul(v128.load(scales + i), f32x4.splat(factor)));
  for (let c = 0; c < headDim; c++) {
    let sum = sums + (c as usize) * SUM_ROW + (lo << 1);
    const row = to + (c << 8) + (lo << 2);
    for (let i: usize = 0; i < bytes; i += 32, sum += 16) {
      const codes = v128.load(sum);
      let x = f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(codes)), v128.load(scales + i));
      let y = f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_s(codes)), v128.load(scales + i, 16));
      if (!first) {
        x = f32x4.add(x, v128.load(row + i));
        y = f32x4.add(y, v128.load(row + i, 16));
      }
      v128.store(row + i, x);
      v128.store(row + i, y, 16);
    }
    const count = load<f32>(counts + (c << 2)) * offsetFactor;
    if (count === 0) continue;
    for (let i: usize = 0; i < bytes; i += 16)
      v128.store(row + i, f32x4.add(v128.load(row + i), f32x4.mul(v128.load(offsets + i), f32x4.splat(count))));
  }
}

/** Codes with their signs, added up by channel; how many, with their signs, as f32. */
function addCodes(
  part: usize,
  base: usize,
  signs: usize,
  headDim: i32,
  sums: usize,
  counts: usize,
  lo: i32,
  hi: i32,
): void {
  const bits = load<i32>(part, PART_BITS);
  const low = bits === 3 ? 2 : bits;
  const width = load<i32>(part, PART_WIDTH);
  const channels = load<u32>(part, PART_CHANNELS) as usize;
  const pair: usize = pairBytes(PAGE_TOKENS, low);
  const highPair: usize = pairBytes(PAGE_TOKENS, 1);
  const shift = ctz<i32>(headDim);
  // Where no two channels of the part meet, codes are written in the place of what lies there.
  const alone = !channels && width === headDim;
  if (!alone)
    for (let c = 0; c < headDim; c++) memory.fill(sums + (c as usize) * SUM_ROW + (lo << 1), 0, (hi - lo) << 1);
  let codes = base + load<i32>(part, PART_CODES);
  let high: usize = bits === 3 ? base + load<i32>(part, PART_CODES_HIGH) : 0;
  const ones = i16x8.splat(0xff);
  for (let i = 0; i < width; i += 2, codes += pair) {
    const c = channelOf(channels, i);
    const d = channelOf(channels, i + 1);
    const s: i16 = signOf(signs, c >> shift);
    const t: i16 = signOf(signs, d >> shift);
    count(counts, c & (headDim - 1), s);
    count(counts, d & (headDim - 1), t);
    const x = sums + ((c & (headDim - 1)) as usize) * SUM_ROW;
    const y = sums + ((d & (headDim - 1)) as usize) * SUM_ROW;
    for (let chunk = lo >> 3; chunk < hi >> 3; chunk++) {
      const packed = codesAt(codes, high, low, chunk);
      let even = v128.and(packed, ones);
      let odd = i16x8.shr_u(packed, 8);
      const at: usize = chunk << 4;
      if (s < 0) even = i16x8.neg(even);
      if (t < 0) odd = i16x8.neg(odd);
      if (!alone) {
        even = i16x8.add(even, v128.load(x + at));
        // The two channels may be the same one of different heads.
        v128.store(x + at, even);
        odd = i16x8.add(odd, v128.load(y + at));
      } else v128.store(x + at, even);
      v128.store(y + at, odd);
    }
    if (high) high += highPair;
  }
}

function signOf(signs: usize, head: i32): i16 {
  return signs && decodeHalf(load<u16>(signs + (head << 1)) as i32) < 0 ? -1 : 1;
}

function count(counts: usize, channel: i32, sign: i16): void {
  store<f32>(counts + (channel << 2), load<f32>(counts + (channel << 2)) + (sign as f32));
}

/** The Walsh-Hadamard transform of i16 [n][64] across rows, without its factor; two of its steps at a time. */
function transformSums(sums: usize, n: i32, lo: i32, hi: i32): void {
  const from: usize = lo << 1;
  const to: usize = hi << 1;
  let half = 1;
  for (; half << 1 < n; half <<= 2) {
    const step = (half as usize) * SUM_ROW;
    for (let block = 0; block < n; block += half << 2) {
      for (let i = block; i < block + half; i++) {
        const row = sums + (i as usize) * SUM_ROW;
        for (let at = row + from; at < row + to; at += 16) {
          const a = v128.load(at);
          const b = v128.load(at + step);
          const c = v128.load(at + 2 * step);
          const d = v128.load(at + 3 * step);
          const ab = i16x8.add(a, b);
          const ba = i16x8.sub(a, b);
          const cd = i16x8.add(c, d);
          const dc = i16x8.sub(c, d);
          v128.store(at, i16x8.add(ab, cd));
          v128.store(at + step, i16x8.add(ba, dc));
          v128.store(at + 2 * step, i16x8.sub(ab, cd));
          v128.store(at + 3 * step, i16x8.sub(ba, dc));
        }
      }
    }
  }
  if (half >= n) return;
  const step = (half as usize) * SUM_ROW;
  for (let i = 0; i < half; i++) {
    const row = sums + (i as usize) * SUM_ROW;
    for (let at = row + from; at < row + to; at += 16) {
      const a = v128.load(at);
      const b = v128.load(at + step);
      v128.store(at, i16x8.add(a, b));
      v128.store(at + step, i16x8.sub(a, b));
    }
  }
}
