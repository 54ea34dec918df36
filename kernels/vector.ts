/** x * y + z, fused where the build allows it. One build uses one of the two everywhere, so results agree within it. */
export function madd(x: v128, y: v128, z: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return f32x4.relaxed_madd(x, y, z);
  return f32x4.add(f32x4.mul(x, y), z);
}

/**
 * 2^x for x <= 0, relative error below 2e-7; exactly 1 at 0 and exactly 0 below -127 (and at -infinity).
 * x = n + f with n the nearest integer; 2^f is a degree 6 polynomial on [-0.5, 0.5], 2^n goes into the exponent bits.
 */
export function exp2(x: v128): v128 {
  x = f32x4.pmax(x, f32x4.splat(-127.0));
  // Adding 1.5 * 2^23 + 127 rounds to an integer and leaves n + 127 in the low mantissa bits.
  const magic = f32x4.splat(12583039.0);
  const shifted = f32x4.add(x, magic);
  const f = f32x4.sub(x, f32x4.sub(shifted, magic));
  let y = f32x4.splat(1.5453163e-4);
  y = madd(y, f, f32x4.splat(1.3390863e-3));
  y = madd(y, f, f32x4.splat(9.618083e-3));
  y = madd(y, f, f32x4.splat(5.550357e-2));
  y = madd(y, f, f32x4.splat(2.402265e-1));
  y = madd(y, f, f32x4.splat(6.9314718e-1));
  y = madd(y, f, f32x4.splat(1.0));
  return f32x4.mul(y, i32x4.shl(shifted, 23));
}

/** 2^x of one number, by the same steps as the vector. */
export function exp2Scalar(x: f32): f32 {
  return f32x4.extract_lane(exp2(f32x4.splat(x)), 0);
}

/**
 * Natural logarithm of positive normal numbers, relative error below 3e-7: x = 2^n * m with m in [sqrt(1/2), sqrt(2)), and
 * ln m = 2 artanh((m - 1) / (m + 1)) by its series.
 */
export function ln(x: v128): v128 {
  const n = i32x4.shr_s(i32x4.sub(x, i32x4.splat(0x3f3504f3)), 23);
  const m = i32x4.sub(x, i32x4.shl(n, 23));
  const one = f32x4.splat(1);
  const s = f32x4.div(f32x4.sub(m, one), f32x4.add(m, one));
  const z = f32x4.mul(s, s);
  let y = madd(f32x4.splat(2 / 9), z, f32x4.splat(2 / 7));
  y = madd(y, z, f32x4.splat(2 / 5));
  y = madd(y, z, f32x4.splat(2 / 3));
  y = madd(y, z, f32x4.splat(2));
  return madd(f32x4.convert_i32x4_s(n), f32x4.splat(Math.LN2 as f32), f32x4.mul(y, s));
}

export function maxOf(x: v128): f32 {
  return max<f32>(
    max<f32>(f32x4.extract_lane(x, 0), f32x4.extract_lane(x, 1)),
    max<f32>(f32x4.extract_lane(x, 2), f32x4.extract_lane(x, 3)),
  );
}

export function sumOf(x: v128): f32 {
  return f32x4.extract_lane(x, 0) + f32x4.extract_lane(x, 1) + (f32x4.extract_lane(x, 2) + f32x4.extract_lane(x, 3));
}
