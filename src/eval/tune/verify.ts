import type { LoadedModel } from '../../engine/loaded-model.ts';
import { SANE } from '../../methods/sane.ts';
import { type CacheSetting, cacheSetting, FULL } from '../cache-setting.ts';
import type { Pause } from '../feed.ts';
import { forced } from '../meters/exact.ts';
import type { Sample } from '../tools.ts';
import type { Evaluator, Measured } from './evaluate.ts';
import { bestOf } from './goal.ts';
import type { TunePlan } from './plan.ts';
import { measureSingle, singles } from './singles.ts';
import { samplesOf } from './task-samples.ts';

export interface Rival extends Measured {
  readonly method: string;
  /** Tasks: instances right, of all. */
  readonly right: number;
  readonly of: number;
}

export interface Verdict {
  readonly tuned: Rival;
  /** The best setting of each method that holds at most what the tuned recipe holds (2 % more at most), least KL first. */
  readonly rivals: readonly Rival[];
  /** Methods that none of the settings brings down to these bytes, or that this model cannot use. */
  readonly out: readonly string[];
  /** By task, what the full cache scores: under 60 % a task supports no claim and is left out of `right` and `of`. */
  readonly full: readonly { readonly task: string; readonly right: number; readonly of: number }[];
  /** Lower KL than all rivals on text that was not searched on, and no fewer right answers than any. */
  readonly beatsAll: boolean;
}

/** Holds a recipe against recipes of one method at no more bytes, on text and tasks that were not searched on. */
export async function verify(
  model: LoadedModel,
  evaluator: Evaluator,
  recipe: string,
  plan: TunePlan,
  progress: (what: string, done: number, total: number) => void = () => {},
  pause?: Pause,
): Promise<Verdict> {
  const methods = singles();
  const total = methods.length + 2;
  progress('held out', 0, total);
  const count = async (setting: CacheSetting, samples: readonly Sample[]): Promise<number> => {
    let right = 0;
    for (const sample of samples) if ((await forced(model, setting, sample, pause)).right.every(Boolean)) right++;
    return right;
  };
  const tasks: { task: string; right: number; of: number; samples: readonly Sample[] }[] = [];
  for (const [task, samples] of samplesOf(model, plan, 'held out'))
    tasks.push({ task, right: await count(FULL, samples), of: samples.length, samples });
  const sound = tasks.filter(({ right, of }) => right >= SANE * of).flatMap(({ samples }) => samples);
  const score = async (measured: Measured, method: string): Promise<Rival> => ({
    ...measured,
    method,
    right: await count(cacheSetting(measured.recipe), sound),
    of: sound.length,
  });
  progress('held out', 1, total);
  const tuned = await score(await evaluator.measure(recipe), 'tuned');
  const rivals: Rival[] = [];
  const out: string[] = [];
  const goal = { memory: tuned.held * 1.02 };
  for (const [i, single] of methods.entries()) {
    const { method } = single;
    progress('held out', i + 2, total);
    const best = bestOf(goal, (await measureSingle(evaluator, single, goal)).measured);
    if (best) rivals.push(await score(best, method));
    else out.push(method);
  }
  rivals.sort((a, b) => a.kl - b.kl);
  const beatsAll = rivals.every(rival => tuned.kl < rival.kl && tuned.right >= rival.right);
  const full = tasks.map(({ task, right, of }) => ({ task, right, of }));
  return { tuned, rivals, out, full, beatsAll };
}
