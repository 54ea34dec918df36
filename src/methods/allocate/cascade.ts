import { topK } from '../shared/top-k.ts';
import type { PerHead } from '../types.ts';

/** ln of a sum over heads and entries; what is too small to tell from 0 counts as 1e-30. */
export function lnTotal(heads: PerHead): number {
  let total = 0;
  for (const head of heads) for (const value of head) total += value;
  return Math.log(Math.max(total, 1e-30));
}

/**
 * Divides `total` entries over layers in proportion to exp(weights), rounded down, each at most its room and (where the total
 * allows) at least 1; what is left over goes evenly to layers with room. The sum is min(total, sum of room) exactly.
 * @param weights logarithms: only their differences count
 */
export function settle(weights: readonly number[], total: number, room: readonly number[]): number[] {
  const top = Math.max(...weights);
  const parts = weights.map(weight => Math.exp(weight - top));
  const sum = parts.reduce((a, b) => a + b, 0);
  const least = total >= weights.length ? 1 : 0;
  const out = parts.map((part, i) => Math.min(room[i]!, Math.max(least, Math.floor((total * part) / sum + 1e-9))));
  let left =
    Math.min(
      total,
      room.reduce((a, b) => a + b, 0),
    ) - out.reduce((a, b) => a + b, 0);
  while (left > 0) {
    const open = out.map((_, i) => i).filter(i => out[i]! < room[i]!);
    const each = Math.max(1, Math.floor(left / open.length));
    for (const i of open) {
      const more = Math.min(each, room[i]! - out[i]!, left);
      out[i]! += more;
      left -= more;
    }
  }
  // Layers raised to 1 were paid for by nobody yet: the largest pay.
  for (; left < 0; left++) out[out.indexOf(Math.max(...out))]!--;
  return out;
}

/** The `count` highest scores, in order of entries. */
export function best(scores: Float32Array, count: number): Float32Array {
  return Float32Array.from(topK(scores, count), i => scores[i]!);
}
