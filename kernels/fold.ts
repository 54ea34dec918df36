import { madd, maxOf, sumOf } from './vector.ts';

/** Greatest magnitude of a folded integer: its high byte, rounded, is then at most 127. */
const TOP: f32 = 32512;

/** What the last `fold` left out of the integers: sum of a * offset (without offsets: sum of a), and the integers' unit. */
export let foldedSum: f32 = 0;
export let foldedUnit: f32 = 0;

/**
 * Quantizes a[0 .. count) * scale[..] to 16-bit integers for `addPanel`, count a multiple of 8; `line` is work space for
 * as many f32. scale 0 stands for ones, and then foldedSum is the sum of a. Integers come in quads of 8 bytes: as they are,
 * or (narrow) the four high bytes, then the four low ones.
 */
export function fold(a: usize, scale: usize, offset: usize, count: i32, line: usize, to: usize, narrow: bool): void {
  const bytes: usize = count << 2;
  let most = f32x4.splat(0);
  let sum = f32x4.splat(0);
  if (scale) {
    for (let i: usize = 0; i < bytes; i += 16) {
      const x = v128.load(a + i);
      const y = f32x4.mul(x, v128.load(scale + i));
      v128.store(line + i, y);
      most = f32x4.pmax(most, f32x4.abs(y));
      sum = madd(x, v128.load(offset + i), sum);
    }
    a = line;
  } else {
    for (let i: usize = 0; i < bytes; i += 16) {
      const x = v128.load(a + i);
      most = f32x4.pmax(most, f32x4.abs(x));
      sum = f32x4.add(sum, x);
    }
  }
  const top = maxOf(most);
  foldedSum = sumOf(sum);
  foldedUnit = top / TOP;
  const inverse = f32x4.splat(top > 0 ? TOP / top : 0);
  // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low mantissa bits.
  const magic = f32x4.splat(12582912);
  for (let i: usize = 0; i < bytes; i += 32, to += 16) {
    const x = f32x4.add(f32x4.mul(v128.load(a + i), inverse), magic);
    const y = f32x4.add(f32x4.mul(v128.load(a + i, 16), inverse), magic);
    let z = v128.shuffle<i16>(x, y, 0, 2, 4, 6, 8, 10, 12, 14);
    if (narrow) {
      const high = i16x8.shr_s(i16x8.add(z, i16x8.splat(128)), 8);
      const low = i16x8.sub(z, i16x8.shl(high, 8));
      z = i8x16.narrow_i16x8_s(high, low);
      z = v128.shuffle<i32>(z, z, 0, 2, 1, 3);
    }
    v128.store(to, z);
  }
}
