import { topK } from '../shared/top-k.ts';
import type { PerHead } from '../types.ts';

/** ln of a sum over heads and entries; what is too small to tell from 0 counts as 1e-30. */
export function lnTotal(heads: PerHead): number {
  let total = 0;
  for (const head of heads) for (const value of head) total += value;
  return Math.log(Math.max(total, 1e-30));
}

/**
 * Divides `total` entries over layers in proportion to exp(weights), rounded down. What does not fit the room of a layer goes
 * evenly to those that have some, then what rounding has left; where the total allows, none gets less than 1. The sum is
 * min(total, sum of room) exactly.
 * @param weights logarithms: only their differences count
 */
export function settle(weights: readonly number[], total: number, room: readonly number[]): number[] {
  const top = Math.max(...weights);
  const parts = weights.map(weight => Math.exp(weight - top));
  const sum = parts.reduce((a, b) => a + b, 0);
  const shares = parts.map(part => Math.floor((total * part) / sum + 1e-9));
  const out = shares.map((share, i) => Math.min(room[i]!, share));
  const all = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);
  const most = Math.min(total, all(room));
  const give = (count: number) => {
    for (let left = Math.min(count, most - all(out)); left > 0; ) {
      const open = out.map((_, i) => i).filter(i => out[i]! < room[i]!);
      const each = Math.max(1, Math.floor(left / open.length));
      for (const i of open) {
        const more = Math.min(each, room[i]! - out[i]!, left);
        out[i]! += more;
        left -= more;
      }
    }
  };
  give(all(shares) - all(out));
  give(most);
  // None is starved: the largest pay.
  for (const [i, count] of out.entries()) {
    if (count > 0 || room[i] === 0 || total < out.length) continue;
    out[out.indexOf(Math.max(...out))]!--;
    out[i] = 1;
  }
  return out;
}

/** The `count` highest scores, in order of entries. */
export function best(scores: Float32Array, count: number): Float32Array {
  return Float32Array.from(topK(scores, count), i => scores[i]!);
}
