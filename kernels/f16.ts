/** Four halves in the high 16 bits of each lane, as f32. Infinities and NaNs are never stored, so exponent 31 is an ordinary one. */
function widen(high: v128): v128 {
  // The arithmetic shift copies the sign into the exponent's top bits; clear those, keep the sign.
  const bits = v128.and(i32x4.shr_s(high, 3), i32x4.splat(0x8fffffff));
  return f32x4.mul(bits, i32x4.splat(0x77800000)); // 2^112 moves the exponent bias from 15 to 127, subnormals too
}

/** Decodes `count` halves (a multiple of 8) to f32. */
export function decodeHalves(from: usize, to: usize, count: i32): void {
  const end = from + (count << 1);
  const zero = i32x4.splat(0);
  for (; from < end; from += 16, to += 32) {
    const x = v128.load(from);
    v128.store(to, widen(v128.shuffle<i16>(zero, x, 0, 8, 1, 9, 2, 10, 3, 11)));
    v128.store(to, widen(v128.shuffle<i16>(zero, x, 4, 12, 5, 13, 6, 14, 7, 15)), 16);
  }
}

/** Decodes any number of halves to f32. */
export function decodeLine(from: usize, to: usize, count: i32): void {
  const whole = count & ~7;
  decodeHalves(from, to, whole);
  for (let i = whole; i < count; i++) store<f32>(to + (i << 2), decodeHalf(load<u16>(from + (i << 1)) as i32));
}

export function decodeHalf(half: i32): f32 {
  const bits = ((half & 0x7fff) << 13) | ((half & 0x8000) << 16);
  return reinterpret<f32>(bits) * reinterpret<f32>(0x77800000);
}

/** Nearest half, ties to even; beyond +-65504 it saturates, NaN becomes 0. */
export function encodeHalf(x: f32): i32 {
  const bits = reinterpret<u32>(x);
  const sign = (bits >> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return 0;
  if (magnitude >= 0x477ff000) return sign | 0x7bff;
  if (magnitude < 0x38800000) {
    // Subnormal: adding 0.5 leaves the value in units of 2^-24 in the low mantissa bits, rounded by the addition.
    return sign | (reinterpret<u32>(reinterpret<f32>(magnitude) + 0.5) - 0x3f000000);
  }
  // Rebias the exponent; half of the last kept bit, less one where that bit is even, rounds ties to even.
  return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1)) >> 13);
}

/** Encodes `count` numbers as encodeHalf does. */
export function encodeHalves(from: usize, to: usize, count: i32): void {
  const end = to + (count << 1);
  for (; to + 16 <= end; from += 32, to += 16) {
    v128.store(to, i16x8.narrow_i32x4_u(halves(v128.load(from)), halves(v128.load(from, 16))));
  }
  for (; to < end; from += 4, to += 2) store<u16>(to, encodeHalf(load<f32>(from)) as u16);
}

function halves(x: v128): v128 {
  const bits = v128.and(x, f32x4.eq(x, x));
  const magnitude = f32x4.pmin(f32x4.splat(65504), v128.and(bits, i32x4.splat(0x7fffffff)));
  const tiny = i32x4.sub(f32x4.add(magnitude, f32x4.splat(0.5)), i32x4.splat(0x3f000000));
  const even = v128.and(i32x4.shr_u(magnitude, 13), i32x4.splat(1));
  const rounded = i32x4.add(i32x4.add(i32x4.sub(magnitude, i32x4.splat(0x38000000)), i32x4.splat(0xfff)), even);
  const size = v128.bitselect(tiny, i32x4.shr_u(rounded, 13), i32x4.lt_s(magnitude, i32x4.splat(0x38800000)));
  return v128.or(size, v128.and(i32x4.shr_u(bits, 16), i32x4.splat(0x8000)));
}
