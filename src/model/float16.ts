/** IEEE half precision (F16) and bfloat16 (BF16), rounded to nearest, ties to even. */

const word = new Float32Array(1);
const bits = new Uint32Array(word.buffer);

/** Value of every half, indexed by its 16 bits. */
export const HALF_TO_FLOAT: Float32Array = buildTable();

function buildTable(): Float32Array {
  const table = new Float32Array(65536);
  for (let half = 0; half < 65536; half++) {
    const exponent = (half >> 10) & 31;
    const mantissa = half & 1023;
    const sign = half & 0x8000 ? -1 : 1;
    if (exponent === 31) table[half] = mantissa ? Number.NaN : sign * Number.POSITIVE_INFINITY;
    else if (exponent === 0) table[half] = sign * mantissa * 2 ** -24;
    else table[half] = sign * (1 + mantissa / 1024) * 2 ** (exponent - 15);
  }
  return table;
}

export function halfToFloat(half: number): number {
  return HALF_TO_FLOAT[half & 0xffff];
}

/** 16 bits of the half nearest to `value` (as a float32); beyond 65504 it is an infinity. */
export function floatToHalf(value: number): number {
  word[0] = value;
  const f = bits[0];
  const sign = (f >>> 16) & 0x8000;
  const magnitude = f & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude < 0x33000001) return sign;
  if (magnitude < 0x38800000) {
    // A subnormal half: the value in units of 2^-24.
    return sign | roundHalfEven(word[0] < 0 ? -word[0] * 2 ** 24 : word[0] * 2 ** 24);
  }
  const rounded = magnitude + 0xfff + ((magnitude >>> 13) & 1);
  return sign | ((rounded - 0x38000000) >>> 13);
}

export function bfloatToFloat(bfloat: number): number {
  bits[0] = (bfloat & 0xffff) << 16;
  return word[0];
}

export function floatToBfloat(value: number): number {
  word[0] = value;
  const f = bits[0];
  if ((f & 0x7fffffff) > 0x7f800000) return (f >>> 16) | 0x40;
  return ((f + 0x7fff + ((f >>> 16) & 1)) >>> 16) & 0xffff;
}

function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest > 0.5 || (rest === 0.5 && floor % 2 === 1)) return floor + 1;
  return floor;
}
