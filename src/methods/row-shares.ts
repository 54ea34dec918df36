import type { RowShares } from './types.ts';

/** Prompts with fewer rows are looked at whole. */
const LEAST_ROWS = 20;

/**
 * The rows of a prompt that stand for all of it (RowShares), ascending. The sampled ones are those of least hash, so that
 * nothing but the seed and the number of rows decides which they are.
 * @param rows of the prompt (chunk)
 */
export function rowsOfShares(shares: RowShares, rows: number, seed: number): Uint32Array {
  const all = Uint32Array.from({ length: rows }, (_, row) => row);
  if (rows < LEAST_ROWS) return all;
  const last = Math.min(rows, wholeRows(shares.last, rows));
  const others = all.subarray(0, rows - last);
  const sampled = Math.min(others.length, wholeRows(shares.sampled, rows));
  const hashes = others.map(row => hash(seed, row));
  const drawn = Uint32Array.from(others).sort((a, b) => hashes[a]! - hashes[b]! || a - b);
  return Uint32Array.of(...drawn.subarray(0, sampled).sort(), ...all.subarray(rows - last));
}

function wholeRows(share: number, rows: number): number {
  return Math.ceil(share * rows - 1e-9);
}

/** Murmur's finalizer over both numbers: u32. */
function hash(seed: number, row: number): number {
  let x = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(row + 1, 0xc2b2ae35);
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return (x ^ (x >>> 16)) >>> 0;
}
