import type { PageMethod } from './client.ts';

/** What a hint needs of a method. */
export type MethodHint = Pick<PageMethod, 'name' | 'summary' | 'options'>;

/** What the page knows of a recipe while it is typed; whether it holds is the engine's to say. */
export interface RecipeHint {
  /** Why it cannot be right; null: nothing is known against it. */
  readonly problem: string | null;
  /** The method that is being typed, once its name is whole. */
  readonly method: MethodHint | null;
  /** Recipes that it could become: what stands, with each method at its end. */
  readonly suggestions: readonly string[];
}

const STEP = /^[a-z][a-z0-9-]*$/;

/** A recipe as text; JSON is left to the engine. */
export function recipeHint(recipe: string, methods: readonly MethodHint[]): RecipeHint {
  const text = recipe.trim();
  if (/^[[{]/.test(text)) return { problem: null, method: null, suggestions: [] };
  const steps = splitSteps(text);
  const begun = steps.slice(0, -1).map(step => `${step} + `);
  const suggestions = methods.map(({ name }) => `${begun.join('')}${name}`);
  const names = steps.map(step => step.split('(')[0]!.trim());
  const method = methods.find(({ name }) => name === names.at(-1)) ?? null;
  return {
    problem: text === '' || methods.length === 0 ? null : problemOf(steps, names, methods),
    method,
    suggestions,
  };
}

function problemOf(steps: readonly string[], names: readonly string[], methods: readonly MethodHint[]): string | null {
  for (const [i, name] of names.entries()) {
    if (name === '') return 'A method is missing.';
    if (!STEP.test(name) || !methods.some(known => known.name === name)) return `There is no method ${name}.`;
    const [open, close] = ['(', ')'].map(mark => steps[i]!.split(mark).length - 1);
    if (open !== close) return `A parenthesis of ${name} is missing.`;
  }
  return null;
}

/** Parts between the plus signs that stand outside of parentheses (1e+3 may stand inside). */
function splitSteps(text: string): string[] {
  const steps = [''];
  let depth = 0;
  for (const character of text) {
    if (character === '(') depth++;
    if (character === ')') depth--;
    if (character === '+' && depth <= 0) steps.push('');
    else steps[steps.length - 1] += character;
  }
  return steps.map(step => step.trim());
}
