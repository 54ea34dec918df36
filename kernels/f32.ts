import { ROW } from './scratch.ts';
import { madd } from './vector.ts';

/**
 * C[i][0 .. 8 * panels) (+)= sum over k of A[i][k] * B[k][..], i < rows. A and C have the row stride ROW, B has ldb bytes.
 * Each element is one chain of multiply-adds in the order of k, whatever tile it falls in: that is what makes a row's
 * bits independent of the rows beside it.
 */
export function matmul(
  a: usize,
  depth: i32,
  b: usize,
  ldb: usize,
  c: usize,
  panels: i32,
  rows: i32,
  accumulate: bool,
): void {
  const whole = rows - (rows % 6);
  const lastColumn: usize = panels << 5;
  if (whole > 0) {
    for (let j: usize = 0; j < lastColumn; j += 32) {
      for (let i = 0; i < whole; i += 6) {
        const row = (i as usize) * ROW;
        tile6x2(a + row, depth, b + j, ldb, c + row + j, accumulate);
      }
    }
  }
  let row = (whole as usize) * ROW;
  let rest = rows - whole;
  if (rest >= 3) {
    let j: usize = 0;
    for (; j + 64 <= lastColumn; j += 64) tile3x4(a + row, depth, b + j, ldb, c + row + j, accumulate);
    if (j < lastColumn) {
      tile1x2(a + row, depth, b + j, ldb, c + row + j, accumulate);
      tile1x2(a + row + ROW, depth, b + j, ldb, c + row + ROW + j, accumulate);
      tile1x2(a + row + 2 * ROW, depth, b + j, ldb, c + row + 2 * ROW + j, accumulate);
    }
    row += 3 * ROW;
    rest -= 3;
  }
  if (rest === 2) {
    let j: usize = 0;
    for (; j + 64 <= lastColumn; j += 64) tile2x4(a + row, depth, b + j, ldb, c + row + j, accumulate);
    if (j < lastColumn) {
      tile1x2(a + row, depth, b + j, ldb, c + row + j, accumulate);
      tile1x2(a + row + ROW, depth, b + j, ldb, c + row + ROW + j, accumulate);
    }
  } else if (rest === 1) {
    let j: usize = 0;
    for (; j + 128 <= lastColumn; j += 128) tile1x8(a + row, depth, b + j, ldb, c + row + j, accumulate);
    for (; j < lastColumn; j += 32) tile1x2(a + row, depth, b + j, ldb, c + row + j, accumulate);
  }
}

// The tiles are written out, one local a register: rows x vectors accumulators, at most 12, so that with the operands they
// fit the 15 vector registers that V8 hands out on x86-64.

function tile6x2(a: usize, depth: i32, b: usize, ldb: usize, c: usize, accumulate: bool): void {
  let c00 = f32x4.splat(0);
  let c01 = f32x4.splat(0);
  let c10 = f32x4.splat(0);
  let c11 = f32x4.splat(0);
  let c20 = f32x4.splat(0);
  let c21 = f32x4.splat(0);
  let c30 = f32x4.splat(0);
  let c31 = f32x4.splat(0);
  let c40 = f32x4.splat(0);
  let c41 = f32x4.splat(0);
  let c50 = f32x4.splat(0);
  let c51 = f32x4.splat(0);
  if (accumulate) {
    c00 = v128.load(c);
    c01 = v128.load(c, 16);
    c10 = v128.load(c, ROW);
    c11 = v128.load(c, ROW + 16);
    c20 = v128.load(c, 2 * ROW);
    c21 = v128.load(c, 2 * ROW + 16);
    c30 = v128.load(c, 3 * ROW);
    c31 = v128.load(c, 3 * ROW + 16);
    c40 = v128.load(c, 4 * ROW);
    c41 = v128.load(c, 4 * ROW + 16);
    c50 = v128.load(c, 5 * ROW);
    c51 = v128.load(c, 5 * ROW + 16);
  }
  const end = a + (depth << 2);
  for (; a < end; a += 4) {
    const b0 = v128.load(b);
    const b1 = v128.load(b, 16);
    let x = v128.load_splat<f32>(a);
    c00 = madd(x, b0, c00);
    c01 = madd(x, b1, c01);
    x = v128.load_splat<f32>(a, ROW);
    c10 = madd(x, b0, c10);
    c11 = madd(x, b1, c11);
    x = v128.load_splat<f32>(a, 2 * ROW);
    c20 = madd(x, b0, c20);
    c21 = madd(x, b1, c21);
    x = v128.load_splat<f32>(a, 3 * ROW);
    c30 = madd(x, b0, c30);
    c31 = madd(x, b1, c31);
    x = v128.load_splat<f32>(a, 4 * ROW);
    c40 = madd(x, b0, c40);
    c41 = madd(x, b1, c41);
    x = v128.load_splat<f32>(a, 5 * ROW);
    c50 = madd(x, b0, c50);
    c51 = madd(x, b1, c51);
    b += ldb;
  }
  v128.store(c, c00);
  v128.store(c, c01, 16);
  v128.store(c, c10, ROW);
  v128.store(c, c11, ROW + 16);
  v128.store(c, c20, 2 * ROW);
  v128.store(c, c21, 2 * ROW + 16);
  v128.store(c, c30, 3 * ROW);
  v128.store(c, c31, 3 * ROW + 16);
  v128.store(c, c40, 4 * ROW);
  v128.store(c, c41, 4 * ROW + 16);
  v128.store(c, c50, 5 * ROW);
  v128.store(c, c51, 5 * ROW + 16);
}

function tile3x4(a: usize, depth: i32, b: usize, ldb: usize, c: usize, accumulate: bool): void {
  let c00 = f32x4.splat(0);
  let c01 = f32x4.splat(0);
  let c02 = f32x4.splat(0);
  let c03 = f32x4.splat(0);
  let c10 = f32x4.splat(0);
  let c11 = f32x4.splat(0);
  let c12 = f32x4.splat(0);
  let c13 = f32x4.splat(0);
  let c20 = f32x4.splat(0);
  let c21 = f32x4.splat(0);
  let c22 = f32x4.splat(0);
  let c23 = f32x4.splat(0);
  if (accumulate) {
    c00 = v128.load(c);
    c01 = v128.load(c, 16);
    c02 = v128.load(c, 32);
    c03 = v128.load(c, 48);
    c10 = v128.load(c, ROW);
    c11 = v128.load(c, ROW + 16);
    c12 = v128.load(c, ROW + 32);
    c13 = v128.load(c, ROW + 48);
    c20 = v128.load(c, 2 * ROW);
    c21 = v128.load(c, 2 * ROW + 16);
    c22 = v128.load(c, 2 * ROW + 32);
    c23 = v128.load(c, 2 * ROW + 48);
  }
  const end = a + (depth << 2);
  for (; a < end; a += 4) {
    const x0 = v128.load_splat<f32>(a);
    const x1 = v128.load_splat<f32>(a, ROW);
    const x2 = v128.load_splat<f32>(a, 2 * ROW);
    let y = v128.load(b);
    c00 = madd(x0, y, c00);
    c10 = madd(x1, y, c10);
    c20 = madd(x2, y, c20);
    y = v128.load(b, 16);
    c01 = madd(x0, y, c01);
    c11 = madd(x1, y, c11);
    c21 = madd(x2, y, c21);
    y = v128.load(b, 32);
    c02 = madd(x0, y, c02);
    c12 = madd(x1, y, c12);
    c22 = madd(x2, y, c22);
    y = v128.load(b, 48);
    c03 = madd(x0, y, c03);
    c13 = madd(x1, y, c13);
    c23 = madd(x2, y, c23);
    b += ldb;
  }
  v128.store(c, c00);
  v128.store(c, c01, 16);
  v128.store(c, c02, 32);
  v128.store(c, c03, 48);
  v128.store(c, c10, ROW);
  v128.store(c, c11, ROW + 16);
  v128.store(c, c12, ROW + 32);
  v128.store(c, c13, ROW + 48);
  v128.store(c, c20, 2 * ROW);
  v128.store(c, c21, 2 * ROW + 16);
  v128.store(c, c22, 2 * ROW + 32);
  v128.store(c, c23, 2 * ROW + 48);
}

function tile2x4(a: usize, depth: i32, b: usize, ldb: usize, c: usize, accumulate: bool): void {
  let c00 = f32x4.splat(0);
  let c01 = f32x4.splat(0);
  let c02 = f32x4.splat(0);
  let c03 = f32x4.splat(0);
  let c10 = f32x4.splat(0);
  let c11 = f32x4.splat(0);
  let c12 = f32x4.splat(0);
  let c13 = f32x4.splat(0);
  if (accumulate) {
    c00 = v128.load(c);
    c01 = v128.load(c, 16);
    c02 = v128.load(c, 32);
    c03 = v128.load(c, 48);
    c10 = v128.load(c, ROW);
    c11 = v128.load(c, ROW + 16);
    c12 = v128.load(c, ROW + 32);
    c13 = v128.load(c, ROW + 48);
  }
  const end = a + (depth << 2);
  for (; a < end; a += 4) {
    const x0 = v128.load_splat<f32>(a);
    const x1 = v128.load_splat<f32>(a, ROW);
    let y = v128.load(b);
    c00 = madd(x0, y, c00);
    c10 = madd(x1, y, c10);
    y = v128.load(b, 16);
    c01 = madd(x0, y, c01);
    c11 = madd(x1, y, c11);
    y = v128.load(b, 32);
    c02 = madd(x0, y, c02);
    c12 = madd(x1, y, c12);
    y = v128.load(b, 48);
    c03 = madd(x0, y, c03);
    c13 = madd(x1, y, c13);
    b += ldb;
  }
  v128.store(c, c00);
  v128.store(c, c01, 16);
  v128.store(c, c02, 32);
  v128.store(c, c03, 48);
  v128.store(c, c10, ROW);
  v128.store(c, c11, ROW + 16);
  v128.store(c, c12, ROW + 32);
  v128.store(c, c13, ROW + 48);
}

function tile1x8(a: usize, depth: i32, b: usize, ldb: usize, c: usize, accumulate: bool): void {
  let c00 = f32x4.splat(0);
  let c01 = f32x4.splat(0);
  let c02 = f32x4.splat(0);
  let c03 = f32x4.splat(0);
  let c04 = f32x4.splat(0);
  let c05 = f32x4.splat(0);
  let c06 = f32x4.splat(0);
  let c07 = f32x4.splat(0);
  if (accumulate) {
    c00 = v128.load(c);
    c01 = v128.load(c, 16);
    c02 = v128.load(c, 32);
    c03 = v128.load(c, 48);
    c04 = v128.load(c, 64);
    c05 = v128.load(c, 80);
    c06 = v128.load(c, 96);
    c07 = v128.load(c, 112);
  }
  const end = a + (depth << 2);
  for (; a < end; a += 4) {
    const x0 = v128.load_splat<f32>(a);
    let y = v128.load(b);
    c00 = madd(x0, y, c00);
    y = v128.load(b, 16);
    c01 = madd(x0, y, c01);
    y = v128.load(b, 32);
    c02 = madd(x0, y, c02);
    y = v128.load(b, 48);
    c03 = madd(x0, y, c03);
    y = v128.load(b, 64);
    c04 = madd(x0, y, c04);
    y = v128.load(b, 80);
    c05 = madd(x0, y, c05);
    y = v128.load(b, 96);
    c06 = madd(x0, y, c06);
    y = v128.load(b, 112);
    c07 = madd(x0, y, c07);
    b += ldb;
  }
  v128.store(c, c00);
  v128.store(c, c01, 16);
  v128.store(c, c02, 32);
  v128.store(c, c03, 48);
  v128.store(c, c04, 64);
  v128.store(c, c05, 80);
  v128.store(c, c06, 96);
  v128.store(c, c07, 112);
}

function tile1x2(a: usize, depth: i32, b: usize, ldb: usize, c: usize, accumulate: bool): void {
  let c00 = f32x4.splat(0);
  let c01 = f32x4.splat(0);
  if (accumulate) {
    c00 = v128.load(c);
    c01 = v128.load(c, 16);
  }
  const end = a + (depth << 2);
  for (; a < end; a += 4) {
    const b0 = v128.load(b);
    const b1 = v128.load(b, 16);
    const x = v128.load_splat<f32>(a);
    c00 = madd(x, b0, c00);
    c01 = madd(x, b1, c01);
    b += ldb;
  }
  v128.store(c, c00);
  v128.store(c, c01, 16);
}
