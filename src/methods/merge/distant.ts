/** Cosines are kept this far from -1 and 1, where the angle loses precision. */
const MARGIN = 1e-6;

/** Angle between two directions as a share of pi. */
export function angularDistance(cosine: number): number {
  return Math.acos(Math.min(1 - MARGIN, Math.max(MARGIN - 1, cosine))) / Math.PI;
}

/**
 * The entries of the greatest angular distance: those above greatest - gamma * (greatest - least), or (`share`) the
 * floor(gamma * n) most distant ones, ties to the earlier.
 * @param cosines by entry number; only those of `entries` are looked at
 */
export function distantEntries(entries: Uint32Array, cosines: Float32Array, gamma: number, share: boolean): number[] {
  const distance = (i: number) => angularDistance(cosines[i]!);
  if (share) {
    const order = [...entries].sort((a, b) => distance(b) - distance(a) || a - b);
    return order.slice(0, Math.floor(gamma * entries.length));
  }
  let least = Number.POSITIVE_INFINITY;
  let greatest = Number.NEGATIVE_INFINITY;
  for (const i of entries) {
    least = Math.min(least, distance(i));
    greatest = Math.max(greatest, distance(i));
  }
  const limit = greatest - gamma * (greatest - least);
  return [...entries].filter(i => distance(i) > limit);
}
