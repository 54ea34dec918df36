import type { Recipe, RecipeStep } from './recipe.ts';

/**
 * May a cache that was filled under one recipe go on under another? Yes where the other does all that the first did, and more: the
 * same methods with the same options, of which only the share or the number of tokens kept may be smaller, and then others after
 * them. null: yes; else why not, as a sentence.
 */
export function whyNotGoOn(from: Recipe, to: Recipe): string | null {
  for (const [i, step] of from.entries()) {
    const next = to[i];
    if (next?.method !== step.method) return `what ${step.method} has done to the cache cannot be undone`;
    const changed = differing(step, next);
    if (changed.some(name => name !== 'keep' && name !== 'budget'))
      return `${step.method} has worked with another ${changed.join(', ')}`;
    if (changed.some(name => !isLess(next[name], step[name]))) return `what ${step.method} has dropped is gone`;
  }
  return null;
}

function differing(a: RecipeStep, b: RecipeStep): string[] {
  const names = new Set([...Object.keys(a), ...Object.keys(b)]);
  return [...names].filter(name => JSON.stringify(a[name]) !== JSON.stringify(b[name]));
}

const isLess = (to: unknown, from: unknown): boolean =>
  typeof to === 'number' && typeof from === 'number' && to <= from;
