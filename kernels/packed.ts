import { FOLDED_ROW, ROW } from './scratch.ts';

/**
 * C[i][0 .. 8) += factor * units[i] * m[0 .. 8) (m 0: ones) * sum over quads of A[i][quad] . codes[quad][0 .. 8), for up to 3 rows i:
 * one panel of 8 items (tokens of a K plane, channels of a V plane) over the other axis, whose members meet in quads.
 *
 * A holds 16-bit integers as `fold` writes them. A quad is two neighbouring pairs of PART's layout, `pair` bytes apart;
 * interleaved, four codes of an item lie side by side. A code stays where it is in its byte, so the sum comes out times a
 * power of two, which `factor` undoes. Sums are exact in i32: 32512 * 255 * 256 < 2^31.
 */
export function addPanel(
  narrow: bool,
  rows: i32,
  a: usize,
  quads: i32,
  b: usize,
  pair: usize,
  mask: i32,
  c: usize,
  m: usize,
  units: usize,
  factor: f32,
): void {
  if (narrow) {
    // The dot product of bytes takes codes of 7 bits: those in the top bits move down by one.
    if (mask & 128) {
      const low = i8x16.splat((mask >> 1) as i8);
      if (rows === 3) narrow3<u16>(a, quads, b, pair, low, c, m, units, factor * 2);
      else if (rows === 2) narrow2<u16>(a, quads, b, pair, low, c, m, units, factor * 2);
      else narrow1<u16>(a, quads, b, pair, low, c, m, units, factor * 2);
      return;
    }
    const bits = i8x16.splat(mask as i8);
    if (rows === 3) narrow3<u8>(a, quads, b, pair, bits, c, m, units, factor);
    else if (rows === 2) narrow2<u8>(a, quads, b, pair, bits, c, m, units, factor);
    else narrow1<u8>(a, quads, b, pair, bits, c, m, units, factor);
    return;
  }
  const bits = i8x16.splat(mask as i8);
  if (rows === 3) wide3(a, quads, b, pair, bits, c, m, units, factor);
  else if (rows === 2) wide2(a, quads, b, pair, bits, c, m, units, factor);
  else wide1(a, quads, b, pair, bits, c, m, units, factor);
}

function put(c: usize, m: usize, x: v128, y: v128): void {
  if (m) {
    x = f32x4.mul(x, v128.load(m));
    y = f32x4.mul(y, v128.load(m, 16));
  }
  v128.store(c, f32x4.add(v128.load(c), x));
  v128.store(c, f32x4.add(v128.load(c, 16), y), 16);
}

// narrow: A's integers are split into a signed high and low byte, one dot product of bytes each (a single instruction where
// the machine has one). T is u16 where codes move down by one bit, u8 where they stay.

function quadsLow<T>(x: v128, y: v128, mask: v128): v128 {
  let z = v128.shuffle<i16>(x, y, 0, 8, 1, 9, 2, 10, 3, 11);
  if (sizeof<T>() > 1) z = i16x8.shr_u(z, 1);
  return v128.and(z, mask);
}

function quadsHigh<T>(x: v128, y: v128, mask: v128): v128 {
  let z = v128.shuffle<i16>(x, y, 4, 12, 5, 13, 6, 14, 7, 15);
  if (sizeof<T>() > 1) z = i16x8.shr_u(z, 1);
  return v128.and(z, mask);
}

function dot(x: v128, codes: v128, sum: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return i32x4.relaxed_dot_i8x16_i7x16_add_s(x, codes, sum);
  return sum;
}

function flushNarrow(c: usize, m: usize, unit: f32, high0: v128, low0: v128, high1: v128, low1: v128): void {
  const scale = f32x4.splat(unit);
  const sum0 = f32x4.convert_i32x4_s(i32x4.add(i32x4.shl(high0, 8), low0));
  const sum1 = f32x4.convert_i32x4_s(i32x4.add(i32x4.shl(high1, 8), low1));
  put(c, m, f32x4.mul(sum0, scale), f32x4.mul(sum1, scale));
}

function narrow3<T>(
  a: usize,
  quads: i32,
  b: usize,
  pair: usize,
  mask: v128,
  c: usize,
  m: usize,
  units: usize,
  factor: f32,
): void {
  let h00 = i32x4.splat(0);
  let l00 = i32x4.splat(0);
  let h01 = i32x4.splat(0);
  let l01 = i32x4.splat(0);
  let h10 = i32x4.splat(0);
  let l10 = i32x4.splat(0);
  let h11 = i32x4.splat(0);
  let l11 = i32x4.splat(0);
  let h20 = i32x4.splat(0);
  let l20 = i32x4.splat(0);
  let h21 = i32x4.splat(0);
  let l21 = i32x4.splat(0);
  const end = a + (quads << 3);
  for (; a < end; a += 8, b += pair << 1) {
    const x = v128.load(b);
    const y = v128.load(b + pair);
    const b0 = quadsLow<T>(x, y, mask);
    const b1 = quadsHigh<T>(x, y, mask);
    let z = v128.load_splat<i32>(a);
    h00 = dot(z, b0, h00);
    h01 = dot(z, b1, h01);
    z = v128.load_splat<i32>(a, 4);
    l00 = dot(z, b0, l00);
    l01 = dot(z, b1, l01);
    z = v128.load_splat<i32>(a, FOLDED_ROW);
    h10 = dot(z, b0, h10);
    h11 = dot(z, b1, h11);
    z = v128.load_splat<i32>(a, FOLDED_ROW + 4);
    l10 = dot(z, b0, l10);
    l11 = dot(z, b1, l11);
    z = v128.load_splat<i32>(a, 2 * FOLDED_ROW);
    h20 = dot(z, b0, h20);
    h21 = dot(z, b1, h21);
    z = v128.load_splat<i32>(a, 2 * FOLDED_ROW + 4);
    l20 = dot(z, b0, l20);
    l21 = dot(z, b1, l21);
  }
  flushNarrow(c, m, factor * load<f32>(units), h00, l00, h01, l01);
  flushNarrow(c + ROW, m, factor * load<f32>(units, 4), h10, l10, h11, l11);
  flushNarrow(c + 2 * ROW, m, factor * load<f32>(units, 8), h20, l20, h21, l21);
}

function narrow2<T>(
  a: usize,
  quads: i32,
  b: usize,
  pair: usize,
  mask: v128,
  c: usize,
  m: usize,
  units: usize,
  factor: f32,
): void {
  let h00 = i32x4.splat(0);
  let l00 = i32x4.splat(0);
  let h01 = i32x4.splat(0);
  let l01 = i32x4.splat(0);
  let h10 = i32x4.splat(0);
  let l10 = i32x4.splat(0);
  let h11 = i32x4.splat(0);
  let l11 = i32x4.splat(0);
  const end = a + (quads << 3);
  for (; a < end; a += 8, b += pair << 1) {
    const x = v128.load(b);
    const y = v128.load(b + pair);
    const b0 = quadsLow<T>(x, y, mask);
    const b1 = quadsHigh<T>(x, y, mask);
    let z = v128.load_splat<i32>(a);
    h00 = dot(z, b0, h00);
    h01 = dot(z, b1, h01);
    z = v128.load_splat<i32>(a, 4);
    l00 = dot(z, b0, l00);
    l01 = dot(z, b1, l01);
    z = v128.load_splat<i32>(a, FOLDED_ROW);
    h10 = dot(z, b0, h10);
    h11 = dot(z, b1, h11);
    z = v128.load_splat<i32>(a, FOLDED_ROW + 4);
    l10 = dot(z, b0, l10);
    l11 = dot(z, b1, l11);
  }
  flushNarrow(c, m, factor * load<f32>(units), h00, l00, h01, l01);
  flushNarrow(c + ROW, m, factor * load<f32>(units, 4), h10, l10, h11, l11);
}

function narrow1<T>(
  a: usize,
  quads: i32,
  b: usize,
  pair: usize,
  mask: v128,
  c: usize,
  m: usize,
  units: usize,
  factor: f32,
): void {
  let h0 = i32x4.splat(0);
  let l0 = i32x4.splat(0);
  let h1 = i32x4.splat(0);
  let l1 = i32x4.splat(0);
  const end = a + (quads << 3);
  for (; a < end; a += 8, b += pair << 1) {
    const x = v128.load(b);
    const y = v128.load(b + pair);
    const b0 = quadsLow<T>(x, y, mask);
    const b1 = quadsHigh<T>(x, y, mask);
    let z = v128.load_splat<i32>(a);
    h0 = dot(z, b0, h0);
    h1 = dot(z, b1, h1);
    z = v128.load_splat<i32>(a, 4);
    l0 = dot(z, b0, l0);
    l1 = dot(z, b1, l1);
  }
  flushNarrow(c, m, factor * load<f32>(units), h0, l0, h1, l1);
}

// wide: codes become 16 bits wide; a vector of sums then holds two halves (the quad's pairs) of two items.

function step(x: v128, codes: v128, sum: v128): v128 {
  return i32x4.add(sum, i32x4.dot_i16x8_s(x, codes));
}

function flushWide(c: usize, m: usize, unit: f32, s0: v128, s1: v128, s2: v128, s3: v128): void {
  const scale = f32x4.splat(unit);
  const sum0 = i32x4.add(v128.shuffle<i32>(s0, s1, 0, 2, 4, 6), v128.shuffle<i32>(s0, s1, 1, 3, 5, 7));
  const sum1 = i32x4.add(v128.shuffle<i32>(s2, s3, 0, 2, 4, 6), v128.shuffle<i32>(s2, s3, 1, 3, 5, 7));
  const x = f32x4.mul(f32x4.convert_i32x4_s(sum0), scale);
  const y = f32x4.mul(f32x4.convert_i32x4_s(sum1), scale);
  put(c, m, x, y);
}

function wide3(
  a: usize,
  quads: i32,
  b: usize,
  pair: usize,
  mask: v128,
  c: usize,
  m: usize,
  units: usize,
  factor: f32,
): void {
  let c00 = i32x4.splat(0);
  let c01 = i32x4.splat(0);
  let c02 = i32x4.splat(0);
  let c03 = i32x4.splat(0);
  let c10 = i32x4.splat(0);
  let c11 = i32x4.splat(0);
  let c12 = i32x4.splat(0);
  let c13 = i32x4.splat(0);
  let c20 = i32x4.splat(0);
  let c21 = i32x4.splat(0);
  let c22 = i32x4.splat(0);
  let c23 = i32x4.splat(0);
  const end = a + (quads << 3);
  for (; a < end; a += 8, b += pair << 1) {
    const x = v128.load(b);
    const y = v128.load(b + pair);
    const x0 = v128.load_splat<i64>(a);
    const x1 = v128.load_splat<i64>(a, FOLDED_ROW);
    const x2 = v128.load_splat<i64>(a, 2 * FOLDED_ROW);
    let quad = quadsLow<u8>(x, y, mask);
    let z = i16x8.extend_low_i8x16_u(quad);
    c00 = step(x0, z, c00);
    c10 = step(x1, z, c10);
    c20 = step(x2, z, c20);
    z = i16x8.extend_high_i8x16_u(quad);
    c01 = step(x0, z, c01);
    c11 = step(x1, z, c11);
    c21 = step(x2, z, c21);
    quad = quadsHigh<u8>(x, y, mask);
    z = i16x8.extend_low_i8x16_u(quad);
    c02 = step(x0, z, c02);
    c12 = step(x1, z, c12);
    c22 = step(x2, z, c22);
    z = i16x8.extend_high_i8x16_u(quad);
    c03 = step(x0, z, c03);
    c13 = step(x1, z, c13);
    c23 = step(x2, z, c23);
  }
  flushWide(c, m, factor * load<f32>(units), c00, c01, c02, c03);
  flushWide(c + ROW, m, factor * load<f32>(units, 4), c10, c11, c12, c13);
  flushWide(c + 2 * ROW, m, factor * load<f32>(units, 8), c20, c21, c22, c23);
}

function wide2(
  a: usize,
  quads: i32,
  b: usize,
  pair: usize,
  mask: v128,
  c: usize,
  m: usize,
  units: usize,
  factor: f32,
): void {
  let c00 = i32x4.splat(0);
  let c01 = i32x4.splat(0);
  let c02 = i32x4.splat(0);
  let c03 = i32x4.splat(0);
  let c10 = i32x4.splat(0);
  let c11 = i32x4.splat(0);
  let c12 = i32x4.splat(0);
  let c13 = i32x4.splat(0);
  const end = a + (quads << 3);
  for (; a < end; a += 8, b += pair << 1) {
    const x = v128.load(b);
    const y = v128.load(b + pair);
    const x0 = v128.load_splat<i64>(a);
    const x1 = v128.load_splat<i64>(a, FOLDED_ROW);
    let quad = quadsLow<u8>(x, y, mask);
    let z = i16x8.extend_low_i8x16_u(quad);
    c00 = step(x0, z, c00);
    c10 = step(x1, z, c10);
    z = i16x8.extend_high_i8x16_u(quad);
    c01 = step(x0, z, c01);
    c11 = step(x1, z, c11);
    quad = quadsHigh<u8>(x, y, mask);
    z = i16x8.extend_low_i8x16_u(quad);
    c02 = step(x0, z, c02);
    c12 = step(x1, z, c12);
    z = i16x8.extend_high_i8x16_u(quad);
    c03 = step(x0, z, c03);
    c13 = step(x1, z, c13);
  }
  flushWide(c, m, factor * load<f32>(units), c00, c01, c02, c03);
  flushWide(c + ROW, m, factor * load<f32>(units, 4), c10, c11, c12, c13);
}

function wide1(
  a: usize,
  quads: i32,
  b: usize,
  pair: usize,
  mask: v128,
  c: usize,
  m: usize,
  units: usize,
  factor: f32,
): void {
  let c0 = i32x4.splat(0);
  let c1 = i32x4.splat(0);
  let c2 = i32x4.splat(0);
  let c3 = i32x4.splat(0);
  const end = a + (quads << 3);
  for (; a < end; a += 8, b += pair << 1) {
    const x = v128.load(b);
    const y = v128.load(b + pair);
    const x0 = v128.load_splat<i64>(a);
    let quad = quadsLow<u8>(x, y, mask);
    c0 = step(x0, i16x8.extend_low_i8x16_u(quad), c0);
    c1 = step(x0, i16x8.extend_high_i8x16_u(quad), c1);
    quad = quadsHigh<u8>(x, y, mask);
    c2 = step(x0, i16x8.extend_low_i8x16_u(quad), c2);
    c3 = step(x0, i16x8.extend_high_i8x16_u(quad), c3);
  }
  flushWide(c, m, factor * load<f32>(units), c0, c1, c2, c3);
}
