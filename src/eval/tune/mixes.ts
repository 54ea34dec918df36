import { KvasirError } from '../../errors.ts';
import { findMethod } from '../../methods/index.ts';
import { parseRecipe } from '../../methods/recipe.ts';
import type { Evaluator, Measured } from './evaluate.ts';
import type { Goal } from './goal.ts';
import { KEEPERS, KEEPS } from './plan.ts';

/** A method that drops tokens before one that encodes what it leaves, other than tables of widths. */
interface Mix {
  readonly at: (keep: number) => string;
  readonly keep: number;
  /** What is hoped for: losses add up, bytes go with the share. */
  readonly kl: number;
  readonly held: number;
}

/** The least share that is tried: below it what is dropped loses more than fewer bits do. */
const LEAST = 0.1;
const MOST = 0.95;

/**
 * Measures mixes, the most promising first, until `count` have been measured: under a limit of bytes at the share that just meets it.
 * @param alone what encoders measured by themselves
 * @param allowed KL divergence that is hoped to meet an agreement
 */
export async function measureMixes(
  evaluator: Evaluator,
  goal: Goal,
  alone: readonly Measured[],
  allowed: number,
  count: number,
  onStep: (done: number) => void = () => {},
): Promise<Measured[]> {
  const measured: Measured[] = [];
  const look = async ({ at }: Mix, keep: number): Promise<Measured | null> => {
    onStep(measured.length);
    try {
      const one = await evaluator.measure(at(keep));
      measured.push(one);
      return one;
    } catch (error) {
      // The two do not go together, or not on this model.
      if (!(error instanceof KvasirError) || error.code === 'aborted') throw error;
      return null;
    }
  };
  for (const mix of await promised(evaluator, goal, alone, allowed)) {
    if (measured.length >= count) break;
    const first = await look(mix, mix.keep);
    if (!first || !('memory' in goal) || measured.length >= count) continue;
    // Entries that stay exact do not shrink with the share: the first look says how far off the promise was.
    const keep = share(mix.keep + ((goal.memory - first.held) / first.held) * mix.keep);
    if (keep !== mix.keep && keep >= LEAST) await look(mix, keep);
  }
  return measured;
}

async function promised(
  evaluator: Evaluator,
  goal: Goal,
  alone: readonly Measured[],
  allowed: number,
): Promise<readonly Mix[]> {
  const mixes: Mix[] = [];
  for (const keeper of KEEPERS) {
    const losses: [keep: number, kl: number][] = [[1, 0]];
    for (const keep of KEEPS) losses.push([keep, (await evaluator.measure(keeper(keep))).kl]);
    for (const encoder of alone.filter(({ recipe }) => encodes(recipe))) {
      // Where it fits by itself it has been measured; dropping fewer tokens than few is no promise.
      const shares = 'memory' in goal ? [share(goal.memory / encoder.held)] : KEEPS;
      for (const keep of shares) {
        if (keep < LEAST || keep > MOST) continue;
        const kl = encoder.kl + between(losses, keep);
        const held = keep * encoder.held;
        const at = (part: number) => `${keeper(part)} + ${encoder.recipe}`;
        if ('memory' in goal || kl <= allowed) mixes.push({ at, keep, kl, held });
      }
    }
  }
  return mixes.sort((a, b) => ('memory' in goal ? a.kl - b.kl : a.held - b.held));
}

/** One step that encodes, and no table of widths: those have lanes of their own. */
function encodes(recipe: string): boolean {
  const [step, ...more] = parseRecipe(recipe);
  return step !== undefined && more.length === 0 && step.method !== 'kvtuner' && stage(step.method) === 'encode';
}

const stage = (name: string): string | undefined => findMethod(name)?.traits.stage;

/** Linear between points of falling shares, at the last one beyond them. */
function between(points: readonly (readonly [at: number, value: number])[], at: number): number {
  const next = points.findIndex(([x]) => x <= at);
  if (next <= 0) return points.at(next)![1];
  const [[x1, y1], [x0, y0]] = [points[next - 1]!, points[next]!];
  return y0 + ((y1 - y0) * (at - x0)) / (x1 - x0);
}

const share = (keep: number): number => Math.round(Math.min(1, Math.max(0, keep)) * 1000) / 1000;
