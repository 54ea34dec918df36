import { ROW } from './scratch.ts';
import { maxOf } from './vector.ts';

/**
 * Integer products of int8 planes: each step multiplies pairs of 16-bit numbers and adds the two products, so a plane
 * holds pairs side by side. Sums are exact in i32 (32767 * 127 * 256 < 2^31), hence independent of any tiling.
 */

/** S[i][0 .. 8 * panels) = sum over channel pairs of Q16[i] * K, i32; K is [headDim / 2][64][2], already offset to its first token. */
export function scores(q: usize, headDim: i32, k: usize, s: usize, panels: i32, rows: i32): void {
  const whole = rows & ~3;
  for (let j = 0; j < panels; j++) {
    const b = k + (j << 4);
    const c = s + (j << 5);
    let row: usize = 0;
    const end = (whole as usize) * ROW;
    for (; row < end; row += 4 * ROW) scores4(q + row, headDim, b, c + row);
  }
  let row = (whole as usize) * ROW;
  const rest = rows - whole;
  if (rest === 3) {
    for (let j = 0; j < panels; j++) scores3(q + row, headDim, k + (j << 4), s + row + (j << 5));
  } else {
    for (let i = 0; i < rest; i++) {
      for (let j = 0; j < panels; j++) scores1(q + row, headDim, k + (j << 4), s + row + (j << 5));
      row += ROW;
    }
  }
}

/** O[i] += P_UNIT[i] * sum over token pairs first .. last (both counted in pairs) of P16[i] * V; V is [32][headDim][2]. */
export function values(
  p: usize,
  first: i32,
  last: i32,
  v: usize,
  headDim: i32,
  o: usize,
  units: usize,
  rows: i32,
): void {
  const whole = rows & ~3;
  const ldb: usize = headDim << 1;
  const a = p + (first << 2);
  const base = v + (first as usize) * ldb;
  const depth = (last - first) << 2;
  const panels = headDim >> 3;
  for (let j = 0; j < panels; j++) {
    const b = base + (j << 4);
    const c = o + (j << 5);
    for (let i = 0; i < whole; i += 4) {
      const row = (i as usize) * ROW;
      values4(a + row, depth, b, ldb, c + row, units + (i << 2));
    }
  }
  const rest = rows - whole;
  const row = (whole as usize) * ROW;
  if (rest === 3) {
    for (let j = 0; j < panels; j++)
      values3(a + row, depth, base + (j << 4), ldb, o + row + (j << 5), units + (whole << 2));
  } else {
    for (let i = whole; i < rows; i++) {
      const at = (i as usize) * ROW;
      for (let j = 0; j < panels; j++)
        values1(a + at, depth, base + (j << 4), ldb, o + at + (j << 5), units + (i << 2));
    }
  }
}

function step(x: v128, y: v128, sum: v128): v128 {
  return i32x4.add(sum, i32x4.dot_i16x8_s(x, y));
}

/** C += unit * sum, the same way in every tile. */
function flush(c: usize, sum0: v128, sum1: v128, unit: usize): void {
  const scale = v128.load_splat<f32>(unit);
  v128.store(c, f32x4.add(v128.load(c), f32x4.mul(f32x4.convert_i32x4_s(sum0), scale)));
  v128.store(c, f32x4.add(v128.load(c, 16), f32x4.mul(f32x4.convert_i32x4_s(sum1), scale)), 16);
}

function scores4(a: usize, headDim: i32, b: usize, c: usize): void {
  let c00 = i32x4.splat(0);
  let c01 = i32x4.splat(0);
  let c10 = i32x4.splat(0);
  let c11 = i32x4.splat(0);
  let c20 = i32x4.splat(0);
  let c21 = i32x4.splat(0);
  let c30 = i32x4.splat(0);
  let c31 = i32x4.splat(0);
  const end = a + (headDim << 1);
  for (; a < end; a += 4, b += 128) {
    const b0 = v128.load_ext<i8>(b);
    const b1 = v128.load_ext<i8>(b, 8);
    let x = v128.load_splat<i32>(a);
    c00 = step(x, b0, c00);
    c01 = step(x, b1, c01);
    x = v128.load_splat<i32>(a, ROW);
    c10 = step(x, b0, c10);
    c11 = step(x, b1, c11);
    x = v128.load_splat<i32>(a, 2 * ROW);
    c20 = step(x, b0, c20);
    c21 = step(x, b1, c21);
    x = v128.load_splat<i32>(a, 3 * ROW);
    c30 = step(x, b0, c30);
    c31 = step(x, b1, c31);
  }
  v128.store(c, c00);
  v128.store(c, c01, 16);
  v128.store(c, c10, ROW);
  v128.store(c, c11, ROW + 16);
  v128.store(c, c20, 2 * ROW);
  v128.store(c, c21, 2 * ROW + 16);
  v128.store(c, c30, 3 * ROW);
  v128.store(c, c31, 3 * ROW + 16);
}

function scores3(a: usize, headDim: i32, b: usize, c: usize): void {
  let c00 = i32x4.splat(0);
  let c01 = i32x4.splat(0);
  let c10 = i32x4.splat(0);
  let c11 = i32x4.splat(0);
  let c20 = i32x4.splat(0);
  let c21 = i32x4.splat(0);
  const end = a + (headDim << 1);
  for (; a < end; a += 4, b += 128) {
    const b0 = v128.load_ext<i8>(b);
    const b1 = v128.load_ext<i8>(b, 8);
    let x = v128.load_splat<i32>(a);
    c00 = step(x, b0, c00);
    c01 = step(x, b1, c01);
    x = v128.load_splat<i32>(a, ROW);
    c10 = step(x, b0, c10);
    c11 = step(x, b1, c11);
    x = v128.load_splat<i32>(a, 2 * ROW);
    c20 = step(x, b0, c20);
    c21 = step(x, b1, c21);
  }
  v128.store(c, c00);
  v128.store(c, c01, 16);
  v128.store(c, c10, ROW);
  v128.store(c, c11, ROW + 16);
  v128.store(c, c20, 2 * ROW);
  v128.store(c, c21, 2 * ROW + 16);
}

function scores1(a: usize, headDim: i32, b: usize, c: usize): void {
  let c00 = i32x4.splat(0);
  let c01 = i32x4.splat(0);
  const end = a + (headDim << 1);
  for (; a < end; a += 4, b += 128) {
    const b0 = v128.load_ext<i8>(b);
    const b1 = v128.load_ext<i8>(b, 8);
    const x = v128.load_splat<i32>(a);
    c00 = step(x, b0, c00);
    c01 = step(x, b1, c01);
  }
  v128.store(c, c00);
  v128.store(c, c01, 16);
}

function values4(a: usize, depth: i32, b: usize, ldb: usize, c: usize, units: usize): void {
  let c00 = i32x4.splat(0);
  let c01 = i32x4.splat(0);
  let c10 = i32x4.splat(0);
  let c11 = i32x4.splat(0);
  let c20 = i32x4.splat(0);
  let c21 = i32x4.splat(0);
  let c30 = i32x4.splat(0);
  let c31 = i32x4.splat(0);
  const end = a + depth;
  for (; a < end; a += 4, b += ldb) {
    const b0 = v128.load_ext<i8>(b);
    const b1 = v128.load_ext<i8>(b, 8);
    let x = v128.load_splat<i32>(a);
    c00 = step(x, b0, c00);
    c01 = step(x, b1, c01);
    x = v128.load_splat<i32>(a, ROW);
    c10 = step(x, b0, c10);
    c11 = step(x, b1, c11);
    x = v128.load_splat<i32>(a, 2 * ROW);
    c20 = step(x, b0, c20);
    c21 = step(x, b1, c21);
    x = v128.load_splat<i32>(a, 3 * ROW);
    c30 = step(x, b0, c30);
    c31 = step(x, b1, c31);
  }
  flush(c, c00, c01, units);
  flush(c + ROW, c10, c11, units + 4);
  flush(c + 2 * ROW, c20, c21, units + 8);
  flush(c + 3 * ROW, c30, c31, units + 12);
}

function values3(a: usize, depth: i32, b: usize, ldb: usize, c: usize, units: usize): void {
  let c00 = i32x4.splat(0);
  let c01 = i32x4.splat(0);
  let c10 = i32x4.splat(0);
  let c11 = i32x4.splat(0);
  let c20 = i32x4.splat(0);
  let c21 = i32x4.splat(0);
  const end = a + depth;
  for (; a < end; a += 4, b += ldb) {
    const b0 = v128.load_ext<i8>(b);
    const b1 = v128.load_ext<i8>(b, 8);
    let x = v128.load_splat<i32>(a);
    c00 = step(x, b0, c00);
    c01 = step(x, b1, c01);
    x = v128.load_splat<i32>(a, ROW);
    c10 = step(x, b0, c10);
    c11 = step(x, b1, c11);
    x = v128.load_splat<i32>(a, 2 * ROW);
    c20 = step(x, b0, c20);
    c21 = step(x, b1, c21);
  }
  flush(c, c00, c01, units);
  flush(c + ROW, c10, c11, units + 4);
  flush(c + 2 * ROW, c20, c21, units + 8);
}

function values1(a: usize, depth: i32, b: usize, ldb: usize, c: usize, units: usize): void {
  let c00 = i32x4.splat(0);
  let c01 = i32x4.splat(0);
  const end = a + depth;
  for (; a < end; a += 4, b += ldb) {
    const b0 = v128.load_ext<i8>(b);
    const b1 = v128.load_ext<i8>(b, 8);
    const x = v128.load_splat<i32>(a);
    c00 = step(x, b0, c00);
    c01 = step(x, b1, c01);
  }
  flush(c, c00, c01, units);
}

/**
 * Quantizes a row of `count` f32 (a multiple of 8) to i16 codes of 1 / 32767 of its greatest magnitude and returns the
 * unit. `from` and `to` may be the same address.
 */
export function quantizeRow(from: usize, to: usize, count: i32): f32 {
  const bytes: usize = count << 2;
  let most = f32x4.splat(0);
  for (let i: usize = 0; i < bytes; i += 16) most = f32x4.pmax(most, f32x4.abs(v128.load(from + i)));
  const top = maxOf(most);
  const inverse = f32x4.splat(top > 0 ? 32767 / top : 0);
  for (let i: usize = 0; i < bytes; i += 32) {
    const x = i32x4.trunc_sat_f32x4_s(f32x4.nearest(f32x4.mul(v128.load(from + i), inverse)));
    const y = i32x4.trunc_sat_f32x4_s(f32x4.nearest(f32x4.mul(v128.load(from + i, 16), inverse)));
    v128.store(to + (i >> 1), i16x8.narrow_i32x4_s(x, y));
  }
  return top / 32767;
}

/** Decodes int8 keys [headDim / 2][64][2] of tokens lo..hi to f32 [headDim][64]. */
export function decodeKeys(k: usize, scales: usize, to: usize, headDim: i32, lo: i32, hi: i32): void {
  for (let t = lo; t < hi; t++) {
    const scale = load<f32>(scales + (t << 2));
    for (let c = 0; c < headDim; c++) {
      const code = load<i8>(k + ((c >> 1) << 7) + (t << 1) + (c & 1)) as f32;
      store<f32>(to + (c << 8) + (t << 2), code * scale);
    }
  }
}
