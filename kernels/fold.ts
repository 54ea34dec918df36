import { madd, maxOf, sumOf } from './vector.ts';

/** Greatest magnitude of a folded integer: its whole 128ths fit a byte. */
const TOP: f32 = 16256;

/** What the last `fold` left out of the integers: sum of a * offset (without offsets: sum of a), and the integers' unit. */
export let foldedSum: f32 = 0;
export let foldedUnit: f32 = 0;

/**
 * Quantizes a[0 .. count) * scale[..] to 16-bit integers for `addPanels`, count a multiple of 8; `line` is work space for as
 * many f32. scale 0 stands for ones, and then foldedSum is the sum of a. Each four integers are repeated through vectors of 16
 * bytes, `stride` bytes from the next four: one vector of 16-bit integers; or (narrow) one of their whole 128ths as signed
 * bytes and one of the rests.
 */
export function fold(
  a: usize,
  scale: usize,
  offset: usize,
  count: i32,
  line: usize,
  to: usize,
  stride: usize,
  narrow: bool,
): void {
  const bytes: usize = count << 2;
  let most = f32x4.splat(0);
  let sum = f32x4.splat(0);
  if (scale) {
    for (let i: usize = 0; i < bytes; i += 32) {
      let x = v128.load(a + i);
      let y = f32x4.mul(x, v128.load(scale + i));
      v128.store(line + i, y);
      most = f32x4.pmax(most, f32x4.abs(y));
      sum = madd(x, v128.load(offset + i), sum);
      x = v128.load(a + i, 16);
      y = f32x4.mul(x, v128.load(scale + i, 16));
      v128.store(line + i, y, 16);
      most = f32x4.pmax(most, f32x4.abs(y));
      sum = madd(x, v128.load(offset + i, 16), sum);
    }
  } else {
    for (let i: usize = 0; i < bytes; i += 16) {
      const x = v128.load(a + i);
      v128.store(line + i, x);
      most = f32x4.pmax(most, f32x4.abs(x));
      sum = f32x4.add(sum, x);
    }
  }
  const top = maxOf(most);
  foldedSum = sumOf(sum);
  foldedUnit = top / TOP;
  integers(line, count, f32x4.splat(top > 0 ? TOP / top : 0), to, stride, narrow);
}

/** What the last `fold` lost by rounding: the sum of a * scale less that of its integers. */
export function foldedLoss(line: usize, count: i32): f32 {
  const magic = f32x4.splat(12582912);
  const unit = f32x4.splat(foldedUnit);
  const factor = f32x4.splat(foldedUnit > 0 ? 1 / foldedUnit : 0);
  let loss = f32x4.splat(0);
  for (const end = line + (count << 2); line < end; line += 16) {
    const x = v128.load(line);
    const integer = f32x4.sub(madd(x, factor, magic), magic);
    loss = f32x4.add(loss, f32x4.sub(x, f32x4.mul(integer, unit)));
  }
  return sumOf(loss);
}

/** line * factor, rounded. */
function integers(line: usize, count: i32, factor: v128, to: usize, stride: usize, narrow: bool): void {
  // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low mantissa bits.
  const magic = f32x4.splat(12582912);
  const rest = i16x8.splat(127);
  const end = line + (count << 2);
  for (; line < end; line += 32) {
    const x = madd(v128.load(line), factor, magic);
    const y = madd(v128.load(line, 16), factor, magic);
    let z = v128.shuffle<i16>(x, y, 0, 2, 4, 6, 8, 10, 12, 14);
    if (narrow) {
      z = i8x16.narrow_i16x8_s(i16x8.shr_s(z, 7), v128.and(z, rest));
      v128.store(to, v128.shuffle<i32>(z, z, 0, 0, 0, 0));
      v128.store(to, v128.shuffle<i32>(z, z, 2, 2, 2, 2), 16);
      to += stride;
      v128.store(to, v128.shuffle<i32>(z, z, 1, 1, 1, 1));
      v128.store(to, v128.shuffle<i32>(z, z, 3, 3, 3, 3), 16);
    } else {
      v128.store(to, v128.shuffle<i64>(z, z, 0, 0));
      to += stride;
      v128.store(to, v128.shuffle<i64>(z, z, 1, 1));
    }
    to += stride;
  }
}
