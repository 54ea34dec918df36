/** Nearest IEEE half of a number, ties to even, by trying what it lies between; saturates at 65504, NaN gives 0. */
export function encodeHalf(x: number): number {
  if (Number.isNaN(x)) return 0;
  const sign = x < 0 || Object.is(x, -0) ? 0x8000 : 0;
  const size = Math.min(Math.abs(x), 65504);
  // Halves are ordered as their codes are: find the last one that is not above `size`.
  let low = 0;
  let high = 0x7bff;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (decodeHalf(middle) <= size) low = middle;
    else high = middle - 1;
  }
  if (low === 0x7bff) return sign | low;
  const below = size - decodeHalf(low);
  const above = decodeHalf(low + 1) - size;
  const up = above < below || (above === below && (low & 1) === 1);
  return sign | (up ? low + 1 : low);
}

export function decodeHalf(code: number): number {
  const sign = code & 0x8000 ? -1 : 1;
  const exponent = (code >> 10) & 31;
  const fraction = code & 1023;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25));
}
