import { pairBytes } from './codes.ts';

/** Takes 4 off codes of 3 bits and packs the bit taken. Rows go through `work` two by two. */
export function splitHighBit(
  matrix: usize,
  stride: usize,
  rows: i32,
  lanes: i32,
  work: usize,
  to: usize,
  real: i32,
): void {
  const half = f32x4.splat(3.5);
  const one = f32x4.splat(1);
  const four = f32x4.splat(4);
  const bytes: usize = lanes << 2;
  for (let r = 0; r < rows; r += 2) {
    const row = matrix + (r as usize) * stride;
    for (let m: usize = 0; m < 2; m++) {
      for (let i: usize = 0; i < bytes; i += 16) {
        const at = row + m * stride + i;
        const x = v128.load(at);
        const high = f32x4.gt(x, half);
        v128.store(at, f32x4.sub(x, v128.and(high, four)));
        v128.store(work + m * bytes + i, v128.and(high, one));
      }
    }
    pack(work, bytes, 2, real, 1, to + (r >> 1) * pairBytes(real, 1));
  }
}

/**
 * Packs codes (abi.ts, PART): what lands in one byte is summed up as f32 first, with the second row's codes 256 times as great,
 * so that one conversion serves all of it; sums stay below 2^16.
 */
export function pack(matrix: usize, stride: usize, rows: i32, lanes: i32, bits: i32, to: usize): void {
  const magic = f32x4.splat(8388608);
  const mask = i32x4.splat(0xffff);
  const second = f32x4.splat(256);
  const step: usize = 32;
  const stretch: usize = step << (bits === 1 ? 3 : bits === 2 ? 2 : bits === 4 ? 1 : 0);
  const bytes = pairBytes(lanes, bits);
  for (let r = 0; r < rows; r += 2) {
    let row = matrix + (r as usize) * stride;
    for (let vector = 0; vector < bytes; vector += 16, to += 16) {
      let low = magic;
      let high = magic;
      let weight: f32 = 1;
      for (const end = row + stretch; row < end; row += step, weight *= (1 << bits) as f32) {
        const w = f32x4.splat(weight);
        const next = row + stride;
        low = f32x4.add(low, f32x4.mul(w, f32x4.add(v128.load(row), f32x4.mul(second, v128.load(next)))));
        high = f32x4.add(high, f32x4.mul(w, f32x4.add(v128.load(row, 16), f32x4.mul(second, v128.load(next, 16)))));
      }
      v128.store(to, i16x8.narrow_i32x4_u(v128.and(low, mask), v128.and(high, mask)));
    }
  }
}
