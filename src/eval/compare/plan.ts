import type { LoadedModel } from '../../engine/loaded-model.ts';
import { KvasirError } from '../../errors.ts';
import { type CacheSetting, cacheSetting } from '../cache-setting.ts';
import type { Phrasing, Task } from '../tasks/types.ts';

/** Recipes that show the field in a few minutes: the full cache, a control, evictions, merging, formats, and two together. */
export const FIELD: readonly string[] = [
  'random(keep=0.25)',
  'streaming-llm(keep=0.25, positions=kept)',
  'h2o(keep=0.25)',
  'snapkv(keep=0.25, width=15)',
  'adakv(keep=0.25, width=15)',
  'kvmerger',
  'kivi(bits=4)',
  'kivi(bits=2)',
  'snapkv(keep=0.25, width=15) + kivi(bits=4)',
];

export const MOST_RECIPES = 64;

/** Tokens of a prompt where neither a length nor a text is given, and of tasks beside a text. */
export const LENGTH = 1024;

/** One text, and tasks, under many recipes. */
export interface ComparePlan {
  /** The full f32 cache is always the first and stands in no list. */
  readonly recipes: readonly string[];
  /** What recipes run on. With a question the text is its context; without, its end is forced. */
  readonly text: { readonly name: string; readonly content: string; readonly question?: string };
  /** Most tokens of the prompt: the text's first, fewer where it is shorter; question and chat template count too. */
  readonly length: number;
  /** Tokens that are forced, and written, after the prompt. */
  readonly steps: number;
  readonly tasks: readonly Task[];
  /** Instances of a task, of `length` tokens. */
  readonly n: number;
  readonly phrasing: Phrasing;
  readonly books: readonly string[];
  readonly seed: number;
  /** Rounds of the measure of speed, all recipes in each. */
  readonly rounds: number;
}

/** Recipes as settings, the full f32 cache first, each once. Raises KvasirError where the plan is none for this model. */
export function settingsOf(plan: ComparePlan, model: LoadedModel): readonly CacheSetting[] {
  const bad = (field: string, value: unknown, allowed: string) =>
    new KvasirError('invalid_request', `Cannot compare: ${field} is out of range.`, { field, value, allowed });
  const { length, steps, recipes, text, n, rounds } = plan;
  const { context } = model.info;
  const whole = (value: number, least: number, most: number) =>
    Number.isInteger(value) && value >= least && value <= most;
  if (!whole(steps, 1, 512)) throw bad('--steps', steps, 'a whole number from 1 to 512');
  if (!whole(length, 64, context - steps))
    throw bad(
      '--length',
      length,
      `a whole number from 64 to ${context - steps}: the context of the model less the steps`,
    );
  if (!whole(n, 1, 1000)) throw bad('--n', n, 'a whole number from 1 to 1000');
  if (!whole(rounds, 1, 20)) throw bad('--rounds', rounds, 'a whole number from 1 to 20');
  if (text.content.trim() === '') throw bad('--text', text.name, 'a text that is not empty');
  if (recipes.length < 1 || recipes.length > MOST_RECIPES)
    throw bad('--kv', recipes.length, `1 to ${MOST_RECIPES} recipes`);
  const settings = recipes.map(recipe => cacheSetting(recipe));
  // Refused before anything has run: options that this model cannot use, profiles that are missing.
  for (const { kv } of settings) if (kv) model.program(kv);
  const all = [cacheSetting('f32'), ...settings];
  return [...new Map(all.map(setting => [setting.name, setting])).values()];
}

/** The contexts at which speed is measured: a quarter, half and all of the prompt. */
export function contextsOf(promptTokens: number): number[] {
  return [...new Set([4, 2, 1].map(part => Math.max(16, Math.floor(promptTokens / part))))];
}
