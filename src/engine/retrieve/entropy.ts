import type { UnitChoice } from '../../methods/types.ts';
import { softmax } from './score.ts';

type EntropyRule = Extract<UnitChoice, { by: 'entropy' }>;

/** Entropy of the softmax of scores against that of even ones, 0 to 1; 1 for fewer than two. */
export function evenness(scores: Float64Array): number {
  if (scores.length < 2) return 1;
  let entropy = 0;
  for (const share of softmax(scores)) if (share > 0) entropy -= share * Math.log(share);
  return Math.min(1, entropy / Math.log(scores.length));
}

/**
 * How many units a layer gets of what the ones before it have left; see UnitChoice. The layers after it can still have their
 * least: parts never come to more than there was for all.
 * @param histories of this layer and those after it, in order
 * @param left units that are left for them
 * @param count units that there are
 */
export function layerPart(
  { least, most, history }: EntropyRule,
  histories: readonly (readonly number[])[],
  left: number,
  count: number,
): number {
  const known = histories.every(values => values.length >= history);
  const weights = histories.map(values => (known ? values.reduce((sum, value) => sum + value, 0) / values.length : 1));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const part = total > 0 ? Math.round((left * weights[0]!) / total) : 0;
  const own = Math.min(least, count, Math.floor(left / histories.length));
  return Math.min(count, Math.max(own, Math.min(most, part, left - own * (histories.length - 1))));
}
