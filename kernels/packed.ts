import { ROW } from './scratch.ts';

/**
 * C[i][8 j .. 8 j + 8) += units[i] * m[8 j ..] (m 0: ones) * sum over rows of A[i][row] * codes[row][..], for up to 3 rows i
 * and all panels j of 8 lanes: integer products of what `fold` and `unpack` wrote. `quads` counts fours of rows, `panel` is
 * the distance between panels of codes. Sums are exact in i32: 16256 * 255 * 256 < 2^31.
 */
export function addPanels(
  narrow: bool,
  count: i32,
  a: usize,
  quads: i32,
  b: usize,
  panel: usize,
  panels: i32,
  c: usize,
  m: usize,
  units: usize,
): void {
  for (let j = 0; j < panels; j++) {
    if (narrow) {
      if (count === 3) narrow3(a, quads, b, c, m, units);
      else if (count === 2) narrow2(a, quads, b, c, m, units);
      else narrow1(a, quads, b, c, m, units);
    } else if (count === 3) wide3(a, quads, b, c, m, units);
    else if (count === 2) wide2(a, quads, b, c, m, units);
    else wide1(a, quads, b, c, m, units);
    b += panel;
    c += 32;
    if (m) m += 32;
  }
}

/** c[0 .. 8) += unit * m * (x, y) */
function put(c: usize, m: usize, unit: f32, x: v128, y: v128): void {
  const scale = f32x4.splat(unit);
  x = f32x4.mul(f32x4.convert_i32x4_s(x), scale);
  y = f32x4.mul(f32x4.convert_i32x4_s(y), scale);
  if (m) {
    x = f32x4.mul(x, v128.load(m));
    y = f32x4.mul(y, v128.load(m, 16));
  }
  v128.store(c, f32x4.add(v128.load(c), x));
  v128.store(c, f32x4.add(v128.load(c, 16), y), 16);
}

// narrow: of each quad of A come the whole 128ths as signed bytes, then the rests: one dot product of bytes for either (a
// single instruction where the machine has one). Codes have at most 7 bits.

function dot(x: v128, codes: v128, sum: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return i32x4.relaxed_dot_i8x16_i7x16_add_s(x, codes, sum);
  return sum;
}

function join(whole: v128, rest: v128): v128 {
  return i32x4.add(i32x4.shl(whole, 7), rest);
}

function narrow3(a: usize, quads: i32, b: usize, c: usize, m: usize, units: usize): void {
  let h00 = i32x4.splat(0);
  let h01 = i32x4.splat(0);
  let l00 = i32x4.splat(0);
  let l01 = i32x4.splat(0);
  let h10 = i32x4.splat(0);
  let h11 = i32x4.splat(0);
  let l10 = i32x4.splat(0);
  let l11 = i32x4.splat(0);
  let h20 = i32x4.splat(0);
  let h21 = i32x4.splat(0);
  let l20 = i32x4.splat(0);
  let l21 = i32x4.splat(0);
  const end = a + quads * 96;
  for (; a < end; a += 96, b += 32) {
    const b0 = v128.load(b);
    const b1 = v128.load(b, 16);
    let x = v128.load(a);
    h00 = dot(x, b0, h00);
    h01 = dot(x, b1, h01);
    x = v128.load(a, 16);
    l00 = dot(x, b0, l00);
    l01 = dot(x, b1, l01);
    x = v128.load(a, 32);
    h10 = dot(x, b0, h10);
    h11 = dot(x, b1, h11);
    x = v128.load(a, 48);
    l10 = dot(x, b0, l10);
    l11 = dot(x, b1, l11);
    x = v128.load(a, 64);
    h20 = dot(x, b0, h20);
    h21 = dot(x, b1, h21);
    x = v128.load(a, 80);
    l20 = dot(x, b0, l20);
    l21 = dot(x, b1, l21);
  }
  put(c, m, load<f32>(units), join(h00, l00), join(h01, l01));
  put(c + ROW, m, load<f32>(units, 4), join(h10, l10), join(h11, l11));
  put(c + 2 * ROW, m, load<f32>(units, 8), join(h20, l20), join(h21, l21));
}

function narrow2(a: usize, quads: i32, b: usize, c: usize, m: usize, units: usize): void {
  let h00 = i32x4.splat(0);
  let h01 = i32x4.splat(0);
  let l00 = i32x4.splat(0);
  let l01 = i32x4.splat(0);
  let h10 = i32x4.splat(0);
  let h11 = i32x4.splat(0);
  let l10 = i32x4.splat(0);
  let l11 = i32x4.splat(0);
  const end = a + quads * 64;
  for (; a < end; a += 64, b += 32) {
    const b0 = v128.load(b);
    const b1 = v128.load(b, 16);
    let x = v128.load(a);
    h00 = dot(x, b0, h00);
    h01 = dot(x, b1, h01);
    x = v128.load(a, 16);
    l00 = dot(x, b0, l00);
    l01 = dot(x, b1, l01);
    x = v128.load(a, 32);
    h10 = dot(x, b0, h10);
    h11 = dot(x, b1, h11);
    x = v128.load(a, 48);
    l10 = dot(x, b0, l10);
    l11 = dot(x, b1, l11);
  }
  put(c, m, load<f32>(units), join(h00, l00), join(h01, l01));
  put(c + ROW, m, load<f32>(units, 4), join(h10, l10), join(h11, l11));
}

function narrow1(a: usize, quads: i32, b: usize, c: usize, m: usize, units: usize): void {
  let h00 = i32x4.splat(0);
  let h01 = i32x4.splat(0);
  let l00 = i32x4.splat(0);
  let l01 = i32x4.splat(0);
  const end = a + quads * 32;
  for (; a < end; a += 32, b += 32) {
    const b0 = v128.load(b);
    const b1 = v128.load(b, 16);
    let x = v128.load(a);
    h00 = dot(x, b0, h00);
    h01 = dot(x, b1, h01);
    x = v128.load(a, 16);
    l00 = dot(x, b0, l00);
    l01 = dot(x, b1, l01);
  }
  put(c, m, load<f32>(units), join(h00, l00), join(h01, l01));
}

// wide: codes become 16 bits wide; a vector of sums holds two halves of two lanes.

function step(x: v128, codes: v128, sum: v128): v128 {
  return i32x4.add(sum, i32x4.dot_i16x8_s(x, codes));
}

function halves(x: v128, y: v128): v128 {
  return i32x4.add(v128.shuffle<i32>(x, y, 0, 2, 4, 6), v128.shuffle<i32>(x, y, 1, 3, 5, 7));
}

function wide3(a: usize, quads: i32, b: usize, c: usize, m: usize, units: usize): void {
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
  const end = a + quads * 48;
  for (; a < end; a += 48, b += 32) {
    const x0 = v128.load(a);
    const x1 = v128.load(a, 16);
    const x2 = v128.load(a, 32);
    let z = v128.load_ext<u8>(b);
    c00 = step(x0, z, c00);
    c10 = step(x1, z, c10);
    c20 = step(x2, z, c20);
    z = v128.load_ext<u8>(b, 8);
    c01 = step(x0, z, c01);
    c11 = step(x1, z, c11);
    c21 = step(x2, z, c21);
    z = v128.load_ext<u8>(b, 16);
    c02 = step(x0, z, c02);
    c12 = step(x1, z, c12);
    c22 = step(x2, z, c22);
    z = v128.load_ext<u8>(b, 24);
    c03 = step(x0, z, c03);
    c13 = step(x1, z, c13);
    c23 = step(x2, z, c23);
  }
  put(c, m, load<f32>(units), halves(c00, c01), halves(c02, c03));
  put(c + ROW, m, load<f32>(units, 4), halves(c10, c11), halves(c12, c13));
  put(c + 2 * ROW, m, load<f32>(units, 8), halves(c20, c21), halves(c22, c23));
}

function wide2(a: usize, quads: i32, b: usize, c: usize, m: usize, units: usize): void {
  let c00 = i32x4.splat(0);
  let c01 = i32x4.splat(0);
  let c02 = i32x4.splat(0);
  let c03 = i32x4.splat(0);
  let c10 = i32x4.splat(0);
  let c11 = i32x4.splat(0);
  let c12 = i32x4.splat(0);
  let c13 = i32x4.splat(0);
  const end = a + quads * 32;
  for (; a < end; a += 32, b += 32) {
    const x0 = v128.load(a);
    const x1 = v128.load(a, 16);
    let z = v128.load_ext<u8>(b);
    c00 = step(x0, z, c00);
    c10 = step(x1, z, c10);
    z = v128.load_ext<u8>(b, 8);
    c01 = step(x0, z, c01);
    c11 = step(x1, z, c11);
    z = v128.load_ext<u8>(b, 16);
    c02 = step(x0, z, c02);
    c12 = step(x1, z, c12);
    z = v128.load_ext<u8>(b, 24);
    c03 = step(x0, z, c03);
    c13 = step(x1, z, c13);
  }
  put(c, m, load<f32>(units), halves(c00, c01), halves(c02, c03));
  put(c + ROW, m, load<f32>(units, 4), halves(c10, c11), halves(c12, c13));
}

function wide1(a: usize, quads: i32, b: usize, c: usize, m: usize, units: usize): void {
  let c00 = i32x4.splat(0);
  let c01 = i32x4.splat(0);
  let c02 = i32x4.splat(0);
  let c03 = i32x4.splat(0);
  const end = a + quads * 16;
  for (; a < end; a += 16, b += 32) {
    const x0 = v128.load(a);
    let z = v128.load_ext<u8>(b);
    c00 = step(x0, z, c00);
    z = v128.load_ext<u8>(b, 8);
    c01 = step(x0, z, c01);
    z = v128.load_ext<u8>(b, 16);
    c02 = step(x0, z, c02);
    z = v128.load_ext<u8>(b, 24);
    c03 = step(x0, z, c03);
  }
  put(c, m, load<f32>(units), halves(c00, c01), halves(c02, c03));
}
