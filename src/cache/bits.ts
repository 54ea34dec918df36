/** Masks of 64 rows as two unsigned 32-bit halves: `lo` holds rows 0..31, `hi` rows 32..63. */

export const ALL = 0xffffffff;

function ones(count: number): number {
  return count >= 32 ? ALL : count <= 0 ? 0 : ((1 << count) - 1) >>> 0;
}

/** Low half of the mask of rows [first, end). */
export function rangeLo(first: number, end: number): number {
  return (ones(end) & ~ones(first)) >>> 0;
}

export function rangeHi(first: number, end: number): number {
  return (ones(end - 32) & ~ones(first - 32)) >>> 0;
}

export function countBits(half: number): number {
  let x = half - ((half >>> 1) & 0x55555555);
  x = (x & 0x33333333) + ((x >>> 2) & 0x33333333);
  return Math.imul((x + (x >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}

export function hasRow(lo: number, hi: number, row: number): boolean {
  return ((row < 32 ? lo >>> row : hi >>> (row - 32)) & 1) === 1;
}

/** First set row; the mask is not empty. */
export function lowestRow(lo: number, hi: number): number {
  return lo !== 0 ? 31 - Math.clz32(lo & -lo) : 63 - Math.clz32(hi & -hi);
}

/** Last set row; the mask is not empty. */
export function highestRow(lo: number, hi: number): number {
  return hi !== 0 ? 63 - Math.clz32(hi) : 31 - Math.clz32(lo);
}
