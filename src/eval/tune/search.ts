import { KvasirError } from '../../errors.ts';
import type { Base } from '../../methods/format/kvtuner.ts';
import type { Evaluator, Measured } from './evaluate.ts';
import { bestOf } from './goal.ts';
import { measureMixes } from './mixes.ts';
import type { TunePlan } from './plan.ts';
import { type Sensitivity, sensitivity } from './sensitivity.ts';
import { type Alone, measureSingle, singles } from './singles.ts';
import { type Space, spaceOf } from './space.ts';
import { allowedLoss, tableTrials } from './trials.ts';

export interface Found {
  /** The best that meets the goal; null where nothing measured does. */
  readonly best: Measured | null;
  /** All that was measured in the search and that nothing else beats in bytes and KL, from few bytes to many. */
  readonly front: readonly Measured[];
  /** By quantizer. */
  readonly bases: readonly {
    readonly base: Base;
    readonly sensitivity: Sensitivity;
    readonly groups: readonly (readonly number[])[];
  }[];
  readonly measured: number;
}

export type Progress = (what: string, done: number, total: number) => void;

/** Share of the trials that goes to encoders other than tables. */
const MIXES_SHARE = 0.3;

/**
 * Sensitivities of each layer, pruned and clustered; then tables of widths, exact under damages that add up, alone and after
 * methods that drop tokens; then other encoders after methods that drop tokens. Every method takes part as it is, too, so the
 * result is never worse than the best of them on what is searched.
 */
export async function search(
  evaluator: Evaluator,
  plan: TunePlan,
  layers: number,
  progress: Progress = () => {},
): Promise<Found> {
  const bases: Found['bases'][number][] = [];
  const spaces: Space[] = [];
  for (const base of plan.bases) {
    const what = `sensitivity, ${base}`;
    const known = await sensitivity(evaluator, layers, base, (done, total) => progress(what, done, total));
    const space = spaceOf(base, known, layers);
    bases.push({ base, sensitivity: known, groups: space.groups });
    spaces.push(space);
  }
  const single = await alone(evaluator, plan, progress);
  const mixed = Math.ceil(plan.trials * MIXES_SHARE);
  const tables = await tableTrials(evaluator, { ...plan, trials: plan.trials - mixed }, layers, spaces, progress);
  const loss = 'agreement' in plan.goal ? allowedLoss(evaluator.all, plan.goal.agreement) : 0;
  const encoders = [...single.measured, ...single.over];
  const mixes = await measureMixes(evaluator, plan.goal, encoders, loss, mixed, done => progress('mixes', done, mixed));
  const candidates = [...single.measured, ...tables, ...mixes];
  return {
    best: bestOf(plan.goal, candidates),
    front: frontOf(candidates),
    bases,
    measured: evaluator.all.length,
  };
}

/** Every method alone, near the goal. */
async function alone(evaluator: Evaluator, { goal }: TunePlan, progress: Progress): Promise<Alone> {
  const all: Alone = { measured: [], over: [] };
  // Formats first: what they hold at an agreement spares most shares of the others.
  const methods = [...singles()].sort((a, b) => Number('at' in a) - Number('at' in b));
  for (const [i, single] of methods.entries()) {
    progress('methods alone', i, methods.length);
    const best = bestOf(goal, all.measured);
    const { measured, over } = await measureSingle(evaluator, single, goal, best?.held);
    all.measured.push(...measured);
    all.over.push(...over);
  }
  return all;
}

export function frontOf(all: readonly Measured[]): Measured[] {
  const front: Measured[] = [];
  for (const measured of [...all].sort((a, b) => a.held - b.held || a.kl - b.kl))
    if (front.length === 0 || measured.kl < front.at(-1)!.kl) front.push(measured);
  return front;
}

/** @throws KvasirError `invalid_request` that says how near the search came */
export function goalNotMet(plan: TunePlan, all: readonly Measured[]): KvasirError {
  const { goal } = plan;
  const least = Math.min(...all.map(({ held }) => held));
  const most = Math.max(...all.map(({ agreement }) => agreement));
  return 'memory' in goal
    ? new KvasirError('invalid_request', 'no recipe that was tried holds so little', {
        field: 'memory',
        value: goal.memory,
        allowed: `at least ${Math.ceil(least)} bytes at ${plan.length} tokens, the least that was measured`,
      })
    : new KvasirError('invalid_request', 'no recipe that was tried agrees so well', {
        field: 'agreement',
        value: goal.agreement,
        allowed: `at most ${most}, the most that was measured`,
      });
}
