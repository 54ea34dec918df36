import type { PrefixProfile } from '../profiles.ts';

/** How PrefixKV divides a total over layers: by one share of importance that the head of each layer's sorted list must reach. */

/** As published the first token and the last one always stay. */
const PROTECTED = 2;

/** More steps than doubles can tell apart in [0, 1]. */
const MOST_STEPS = 60;

/** Cumulative shares of the importance of a layer, the most important entries first: C[k - 1] is what the best k have. */
export function cumulativeShares(importance: ArrayLike<number>): Float64Array {
  const sorted = Float64Array.from(importance).sort().reverse();
  let sum = 0;
  const out = sorted.map(value => {
    sum += value;
    return sum;
  });
  return sum > 0 ? out.map(value => value / sum) : out;
}

/** The least k whose best k entries have `share` of the importance; all where none has. */
export function reaching(curve: Float64Array, share: number): number {
  if (share <= 0) return 0;
  let low = 0;
  let high = curve.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (curve[middle]! >= share) high = middle;
    else low = middle + 1;
  }
  return Math.min(curve.length, low + 1);
}

/**
 * Entries that each layer keeps, `total` together (fractions: rounding is left to who asks): all layers keep the same share of
 * their importance, found by bisection, and the protected entries; what ties leave over is made up in proportion to what is
 * forgotten.
 * @param stay entries of a layer that are protected
 */
export function prefixes(curves: readonly Float64Array[], total: number, stay = PROTECTED): number[] {
  const held = curves.map(({ length }) => length);
  const all = held.reduce((a, b) => a + b, 0);
  if (all <= total) return held;
  const forgotten = (share: number) => curves.map(curve => Math.max(0, curve.length - reaching(curve, share) - stay));
  const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);
  // Forgets at least what has to go at `low`, less at `high`.
  let [low, high] = [0, 1];
  for (let step = 0; step < MOST_STEPS; step++) {
    const middle = (low + high) / 2;
    if (sum(forgotten(middle)) >= all - total) low = middle;
    else high = middle;
  }
  const forget = forgotten(low);
  const scale = Math.min(1, (all - total) / Math.max(1, sum(forget)));
  return held.map((count, i) => count - forget[i]! * scale);
}

/** The share of its entries that a layer keeps where all layers together keep `share`, between those that the profile has. */
export function layerShare(profile: PrefixProfile, layer: number, share: number, average: boolean): number {
  const given = [0, ...profile.shares, 1];
  const kept = [0, ...profile.layers[layer]![average ? 'average' : 'sum'], 1];
  const i = Math.max(1, given.findIndex(x => x >= share)); // biome-ignore format: one thought
  return kept[i - 1]! + ((share - given[i - 1]!) / (given[i]! - given[i - 1]!)) * (kept[i]! - kept[i - 1]!);
}
