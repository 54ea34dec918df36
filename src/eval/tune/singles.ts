import { KvasirError } from '../../errors.ts';
import type { Evaluator, Measured } from './evaluate.ts';
import { type Goal, meets } from './goal.ts';

/** A method alone: by the share of the tokens that it keeps, or at each of its settings. */
export type Single =
  | { readonly method: string; readonly at: (keep: number) => string }
  | { readonly method: string; readonly recipes: readonly string[] };

/** Recipes of one method each: they take part in the search, and a tuned recipe must beat them at equal bytes. */
export const SINGLES: readonly Single[] = [
  ...['snapkv', 'adakv', 'pyramidkv', 'cake'].map(method => ({
    method,
    at: (keep: number) => `${method}(keep=${keep}, width=15)`,
  })),
  { method: 'h2o', at: keep => `h2o(keep=${keep})` },
  { method: 'streaming-llm', at: keep => `streaming-llm(keep=${keep}, positions=kept)` },
  { method: 'kivi', recipes: [8, 4, 3, 2].map(bits => `kivi(bits=${bits}, residual=64)`) },
  { method: 'gear', recipes: [8, 4, 2].map(bits => `gear(bits=${bits})`) },
  {
    method: 'kvtuner, one pair',
    recipes: ['k8v8', 'k8v4', 'k4v4', 'k4v3', 'k3v3', 'k4v2', 'k3v2', 'k2v2'].map(pairs => `kvtuner(pairs=${pairs})`),
  },
];

/** Measurements spent on the share of one method. */
const LOOKS = 5;
/** A share is settled where what fits and what does not are as near as this. */
const NEAR = 0.004;

/**
 * Measures one method at settings near a goal: of a method with a share to keep, on the way to the share that just meets it, of the
 * others every setting. Ends early where the model or the length cannot have the method.
 */
export async function measureSingle(evaluator: Evaluator, single: Single, goal: Goal): Promise<readonly Measured[]> {
  const measured: Measured[] = [];
  try {
    if ('at' in single) await byShare(evaluator, single.at, goal, measured);
    else for (const recipe of single.recipes) measured.push(await evaluator.measure(recipe));
  } catch (error) {
    if (!(error instanceof KvasirError) || error.code === 'aborted') throw error;
  }
  return measured;
}

/** Bytes follow the share in steps of a page: the difference to the limit leads at first, then bounds on both sides are halved. */
async function byShare(
  evaluator: Evaluator,
  at: (keep: number) => string,
  goal: Goal,
  measured: Measured[],
): Promise<void> {
  const full = (await evaluator.measure('full')).held;
  let [low, high] = [0, 1];
  let keep = 'memory' in goal ? goal.memory / full : 0.5;
  for (let look = 0; look < LOOKS && high - low > NEAR; look++) {
    keep = rounded(keep);
    const one = await evaluator.measure(at(keep));
    measured.push(one);
    // Under a limit of bytes the greatest share that meets it, else the least.
    const up = meets(goal, one) === 'memory' in goal;
    if (up) low = Math.max(low, keep);
    else high = Math.min(high, keep);
    const guess = 'memory' in goal && look === 0 ? keep + (goal.memory - one.held) / full : 0;
    keep = guess > low + NEAR / 2 && guess < high - NEAR / 2 ? guess : (low + high) / 2;
  }
}

const rounded = (keep: number): number => Math.min(1, Math.max(0.001, Math.round(keep * 1000) / 1000));
