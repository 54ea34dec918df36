import type { LoadedModel } from '../../engine/loaded-model.ts';
import { KvasirError } from '../../errors.ts';
import type { Base } from '../../methods/format/kvtuner.ts';
import type { Task } from '../tasks/types.ts';
import type { Goal } from './goal.ts';

/** Methods that drop tokens, tried before the widths, and the shares that they keep. */
export const KEEPERS: readonly ((keep: number) => string)[] = [
  keep => `snapkv(keep=${keep}, width=15)`,
  keep => `adakv(keep=${keep}, width=15)`,
];
export const KEEPS = [0.75, 0.5, 0.35, 0.25, 0.15, 0.1] as const;

/** Quantizers that are searched where nothing else is asked for. */
export const USUAL_BASES: readonly Base[] = ['kivi', 'page'];

export interface TunePlan {
  /** What is asked for: bytes after a prompt of `length` tokens at most, or agreement with the full f32 cache at least. */
  readonly goal: Goal;
  /** Tokens of a prompt, and tokens forced after it. */
  readonly length: number;
  readonly steps: number;
  /** Windows that are searched on, and others that the result is held against. */
  readonly windows: number;
  readonly heldOut: number;
  /** Recipes measured in the search, after the sensitivities. */
  readonly trials: number;
  /** Quantizers of the tables of widths, each with sensitivities of its own. */
  readonly bases: readonly Base[];
  readonly seed: number;
  /** What is searched on, and what the result is held against; they share nothing. */
  readonly texts: { readonly search: string; readonly heldOut: string };
  /** Searched on and held against too, with other instances: one each, and `n`; none: text alone. */
  readonly tasks: readonly Task[];
  readonly n: number;
  readonly books: readonly string[];
}

/** @throws KvasirError `invalid_request` naming what does not fit */
export function checkTune(plan: TunePlan, { info }: LoadedModel): void {
  const bad = (field: string, value: unknown, allowed: string) =>
    new KvasirError('invalid_request', `Cannot tune: ${field} is out of range.`, { field, value, allowed });
  const { goal, length, steps, windows, heldOut, trials } = plan;
  const whole = (value: number, least: number, most: number) =>
    Number.isInteger(value) && value >= least && value <= most;
  if (!whole(steps, 8, 512)) throw bad('steps', steps, 'a whole number from 8 to 512');
  if (!whole(length, 256, info.context - steps))
    throw bad('length', length, `a whole number from 256 to ${info.context - steps}, the context less the steps`);
  if (!whole(windows, 1, 64)) throw bad('windows', windows, 'a whole number from 1 to 64');
  if (!whole(heldOut, 1, 64)) throw bad('heldOut', heldOut, 'a whole number from 1 to 64');
  if (!whole(trials, 1, 10_000)) throw bad('trials', trials, 'a whole number from 1 to 10,000');
  if ('agreement' in goal && !(goal.agreement > 0 && goal.agreement <= 1))
    throw bad('agreement', goal.agreement, 'a share above 0 and at most 1');
  if ('memory' in goal && !(goal.memory > 0)) throw bad('memory', goal.memory, 'bytes above 0');
}
