import { KvasirError } from '../errors.ts';
import { findMethod } from './index.ts';
import type { Recipe, RecipeStep } from './recipe.ts';
import { type Conflict, type Member, RULES, rank } from './rules.ts';
import type { ModelShape, Policy } from './types.ts';

/** A checked step, as the rules see it. */
export function memberOf({ method: name, ...options }: RecipeStep): Member {
  const method = findMethod(name)!;
  return { name, traits: method.traitsOf?.(options) ?? method.traits };
}

/** The first rule that two methods break, `first` standing before `second`; null where they go together. */
export function conflictOf(first: Member, second: Member): Conflict | null {
  // Where the order alone is wrong the fix is to turn them round, which must not lead to the next refusal.
  const turned = rank(first) > rank(second) ? conflictOf(second, first) : null;
  if (turned) return turned;
  for (const rule of RULES) {
    const conflict = rule.conflict(first, second);
    if (conflict) return conflict;
  }
  return null;
}

/** Do two methods go together in a recipe, in the order of their stages? */
export function composable(a: Member, b: Member): boolean {
  return conflictOf(...(rank(a) <= rank(b) ? ([a, b] as const) : ([b, a] as const))) === null;
}

/** Raises `invalid_recipe` naming the first two methods that do not go together, the reason and what to do. */
export function checkComposition(members: readonly Member[], given: { field: string; value: unknown }): void {
  for (const [i, second] of members.entries()) {
    for (const first of members.slice(0, i)) {
      const conflict = conflictOf(first, second);
      if (!conflict) continue;
      const { reason, fix } = conflict;
      const both = first.name === second.name ? `${first.name} twice` : `${first.name} and ${second.name}`;
      throw new KvasirError('invalid_recipe', `${both} cannot stand together like this: ${reason}; ${fix}`, given);
    }
  }
}

/** May a prefix of the cache be reused under any continuation? (docs/architecture.md, "chunk, snapshot") */
export function prefixStable(recipe: Recipe): boolean {
  return recipe.every(step => memberOf(step).traits.prefixStable);
}

/**
 * The policies of one request, in the order of its recipe; none for the full cache.
 * @param profiles by kind (Method.profile): what was loaded for this model
 * @throws KvasirError `invalid_request` where this model cannot be used so, or a profile is missing
 */
export function createPolicies(
  recipe: Recipe,
  model: ModelShape,
  profiles: ReadonlyMap<string, unknown> = new Map(),
): readonly Policy[] {
  return recipe.map(({ method: name, ...options }) => {
    const method = findMethod(name)!;
    const profile = method.profile === undefined ? undefined : profiles.get(method.profile);
    return method.create(options, model, profile);
  });
}
