import type { RotateProfile } from '../profiles.ts';

/** Digits that are kept of a mean: enough to put channels in order. */
const DIGITS = 4;

/** The profile of RotateKV from sums of keys before RoPE by layer and channel (head by head) over `tokens` tokens. */
export function keyMeans(sums: readonly Float64Array[], tokens: number, fingerprint: string): RotateProfile {
  const layers = sums.map(sum => ({ mean: Array.from(sum, x => Number((x / tokens).toPrecision(DIGITS))) }));
  return { kind: 'rotatekv', fingerprint, layers };
}

/**
 * Channels of heads that are rotated together in the order in which they are stored: by the mean that each has after the
 * transform, ascending, so that those of a group lie close together. The transform being linear, means are rotated in the
 * place of keys. null: in order. `mean`: of the heads' channels side by side, a power of two of them.
 */
export function channelOrder(mean: readonly number[] | null, width: number): number[] {
  const order = Array.from({ length: width }, (_, channel) => channel);
  if (!mean) return order;
  const rotated = hadamard(mean);
  return order.sort((a, b) => rotated[a]! - rotated[b]! || a - b);
}

/** Walsh-Hadamard transform in Sylvester's order, but for the factor. */
function hadamard(x: readonly number[]): Float64Array {
  const out = Float64Array.from(x);
  for (let half = 1; half < out.length; half *= 2)
    for (let i = 0; i < out.length; i++) {
      if (i & half) continue;
      const [a, b] = [out[i]!, out[i + half]!];
      out[i] = a + b;
      out[i + half] = a - b;
    }
  return out;
}
