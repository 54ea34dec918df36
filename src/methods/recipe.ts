import type { z } from 'zod';
import { KvasirError } from '../errors.ts';
import { checkComposition } from './composition.ts';
import type { METHODS } from './index.ts';
import { formatStep, resolveStep } from './recipe-step.ts';
import { type RawStep, readRecipeText } from './recipe-text.ts';
import type { Method } from './types.ts';

type StepOf<M extends Method> = M extends unknown ? { readonly method: M['name'] } & z.input<M['options']> : never;

/** One method with its options: `{ method: 'snapkv', keep: 0.25 }`. */
export type RecipeStepInput = StepOf<(typeof METHODS)[number]>;

/**
 * How to treat the KV cache: methods in the order in which they act. Text (`snapkv(keep=0.25) + kivi(bits=2)`), one step,
 * a list of steps, what is in a recipe file, or any of them as JSON text. Empty, or `full`: the full cache.
 */
export type RecipeInput = string | RecipeStepInput | readonly RecipeStepInput[] | RecipeFile;

/** What `kvasir tune` writes: a recipe with all that is known of it. It may stand wherever a recipe does. */
export interface RecipeFile {
  readonly kvasir: 'recipe';
  readonly recipe: string;
}

/** A step with all options of its method, defaults included. */
export interface RecipeStep {
  readonly method: string;
  readonly [option: string]: unknown;
}

/** A checked recipe: plain data that crosses threads and wires, and is itself a RecipeInput. Empty: the full cache. */
export type Recipe = readonly RecipeStep[];

const MAX_STEPS = 16;

/**
 * Reads and checks any form of a recipe: methods, options and how they go together.
 * @param field how errors name the input
 * @throws KvasirError `invalid_recipe`
 * @example parseRecipe('snapkv(keep=0.25) + kivi(bits=2)')
 */
export function parseRecipe(input: unknown, field = 'kv'): Recipe {
  const steps = rawSteps(input, field).map((step, i) => {
    const path = Array.isArray(input) ? `${field}.${i}` : field;
    // A text has no members that a field could name.
    return resolveStep(step, { step: path, member: name => (typeof input === 'string' ? field : `${path}.${name}`) });
  });
  checkComposition(steps, { field, value: typeof input === 'string' ? input : JSON.stringify(input) });
  return steps.filter(step => step.method !== 'full');
}

/** The shortest text that `parseRecipe` reads as this recipe: options at their defaults are left out. */
export function formatRecipe(recipe: Recipe): string {
  return recipe.length === 0 ? 'full' : recipe.map(formatStep).join(' + ');
}

function rawSteps(input: unknown, field: string): readonly RawStep[] {
  if (input === undefined || input === null) return [];
  if (typeof input === 'string') {
    const text = input.trim();
    if (text === '') return [];
    return /^[[{]/.test(text) ? rawSteps(readJson(text, field), field) : readRecipeText(input, field);
  }
  if (isRecipeFile(input)) return rawSteps(input.recipe, field);
  const list = Array.isArray(input) ? input : [input];
  if (list.length > MAX_STEPS) {
    throw new KvasirError('invalid_recipe', `a recipe has at most ${MAX_STEPS} methods`, { field, value: list.length });
  }
  for (const [i, step] of list.entries()) {
    if (step !== null && typeof step === 'object' && !Array.isArray(step) && typeof step.method === 'string') continue;
    const where = Array.isArray(input) ? `${field}.${i}` : field;
    throw new KvasirError('invalid_recipe', `${where} is not a step of a recipe`, {
      field: where,
      value: JSON.stringify(step),
      allowed:
        'text such as snapkv(keep=0.25), an object {"method": "snapkv", "keep": 0.25}, or a list of such objects',
    });
  }
  return list as RawStep[];
}

function isRecipeFile(input: unknown): input is RecipeFile {
  return (
    input !== null && typeof input === 'object' && 'kvasir' in input && input.kvasir === 'recipe' && 'recipe' in input
  );
}

function readJson(text: string, field: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new KvasirError('invalid_recipe', `the recipe is not valid JSON: ${(cause as Error).message}`, {
      field,
      value: text,
      allowed: '[{"method": "snapkv", "keep": 0.25}], or text such as snapkv(keep=0.25)',
      cause,
    });
  }
}
