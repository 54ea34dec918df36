/** The middle value; the mean of the two middle ones of an even count. NaN of nothing. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** The value that a share of the sample lies below (nearest rank). NaN of nothing. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(share * sorted.length) - 1))] ?? Number.NaN;
}

export interface Ratio {
  /** median(a) / median(b) */
  readonly value: number;
  /** 95 % interval. */
  readonly low: number;
  readonly high: number;
}

/**
 * Ratio of the medians of two samples, with a percentile bootstrap interval (Efron 1979).
 * Samples of one round share an index and are drawn together: what else the machine did in that round hit both.
 */
export function ratio(a: readonly number[], b: readonly number[], draws = 2000, seed = 1): Ratio {
  if (a.length !== b.length) throw new RangeError(`${a.length} samples against ${b.length}: a round gives one of each`);
  const value = median(a) / median(b);
  if (a.length < 2) return { value, low: Number.NaN, high: Number.NaN };
  const next = uniform(seed);
  const values: number[] = [];
  for (let draw = 0; draw < draws; draw++) {
    const rounds = Array.from(a, () => Math.floor(next() * a.length));
    values.push(median(rounds.map(i => a[i])) / median(rounds.map(i => b[i])));
  }
  values.sort((x, y) => x - y);
  const at = (share: number): number => values[Math.min(draws - 1, Math.floor(share * draws))];
  return { value, low: at(0.025), high: at(0.975) };
}

/**
 * Median of the ratios of pairs, a[i] / b[i], with a percentile bootstrap interval. Narrower than `ratio` where the machine
 * drifts from round to round, as both samples of a pair drift alike.
 */
export function pairRatio(a: readonly number[], b: readonly number[], draws = 2000, seed = 1): Ratio {
  if (a.length !== b.length) throw new RangeError(`${a.length} samples against ${b.length}: a round gives one of each`);
  return ratio(
    a.map((value, i) => value / b[i]),
    a.map(() => 1),
    draws,
    seed,
  );
}

/** Uniform numbers in [0, 1) from a seed (mulberry32): the same tokens and draws in every run. */
export function uniform(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
