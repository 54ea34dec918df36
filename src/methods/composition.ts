import { KvasirError } from '../errors.ts';
import { findMethod, METHODS } from './index.ts';
import { optionsOf } from './options.ts';
import type { Recipe, RecipeStep } from './recipe.ts';
import { type Conflict, type Member, RULES, rank } from './rules.ts';
import type { Method, ModelShape, Policy } from './types.ts';

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
  return (rank(a) <= rank(b) ? conflictOf(a, b) : conflictOf(b, a)) === null;
}

/** Raises `invalid_recipe` naming the first two methods that do not go together, the reason and what to do. */
export function checkComposition(steps: Recipe, given: { field: string; value: unknown }): void {
  for (const [i, second] of steps.entries()) {
    for (const first of steps.slice(0, i)) {
      const conflict = conflictOf(memberOf(first), memberOf(second));
      if (!conflict) continue;
      const both = `${first.method} and ${second.method === first.method ? `${second.method} again` : second.method}`;
      const fix = conflict.fix ?? wayOut(steps, first, second);
      throw new KvasirError(
        'invalid_recipe',
        `${both} do not go together like this: ${conflict.reason}; ${fix}`,
        given,
      );
    }
  }
}

/** Another setting that makes the whole recipe legal, else other methods of the same stage that do, else to leave one out. */
function wayOut(steps: Recipe, first: RecipeStep, second: RecipeStep): string {
  const turned = rank(memberOf(first)) > rank(memberOf(second));
  const order = turned ? `, and write ${second.method} before ${first.method}` : '';
  const setting = settledStep(steps, first, second);
  if (setting) return `set ${Object.keys(setting)[1]}=${Object.values(setting)[1]} in ${setting.method}${order}`;
  const [instead, of, beside] = [
    [others(steps, first), first, second] as const,
    [others(steps, second), second, first] as const,
  ].find(([names]) => names.length > 0) ?? [[], first, second];
  const leave = `leave out ${first.method} or ${second.method}`;
  const list = instead
    .slice(0, 3)
    .join(', ')
    .replace(/, ([^,]*)$/, ' or $1');
  const side = turned ? (of === first ? 'after' : 'before') : 'beside';
  return instead.length > 0 ? `take ${list} in the place of ${of.method} ${side} ${beside.method}, or ${leave}` : leave;
}

/** Both methods in the order of their stages, with one setting made so that they go together; null where none does. */
export function settledPair(a: Method, b: Method): Recipe | null {
  const [first, second] = (rank(a) <= rank(b) ? [a, b] : [b, a]).map(defaults) as [RecipeStep, RecipeStep];
  const setting = settledStep([first, second], first, second);
  if (!setting) return null;
  return setting.method === first.method ? [setting, second] : [first, setting];
}

function defaults(method: Method): RecipeStep {
  return { method: method.name, ...(method.options.parse({}) as object) };
}

/** One of the two with one choice made otherwise, so that the recipe is legal. */
function settledStep(steps: Recipe, first: RecipeStep, second: RecipeStep): RecipeStep | undefined {
  for (const step of [first, second]) {
    const found = settings(step).find(setting => legalWith(steps, step, memberOf(setting)));
    if (found) return found;
  }
  return undefined;
}

/** Do all methods of a recipe go together with `instead` in the place of `step`? */
function legalWith(steps: Recipe, step: RecipeStep, instead: Member): boolean {
  const members = steps.map(other => (other === step ? instead : memberOf(other)));
  return members.every((second, i) => members.slice(0, i).every(first => composable(first, second)));
}

/** The step with one of its choices made otherwise; that one comes right after `method`. */
function settings(step: RecipeStep): RecipeStep[] {
  const { method, ...options } = step;
  return optionsOf(findMethod(method)!).flatMap(({ name, values = [] }) =>
    values
      .filter(value => value !== options[name])
      .map(value => ({
        method,
        [name]: value,
        ...Object.fromEntries(Object.entries(options).filter(([key]) => key !== name)),
      })),
  );
}

/** Names of methods that could stand where `step` stands. */
function others(steps: Recipe, step: RecipeStep): string[] {
  const { stage } = findMethod(step.method)!.traits;
  return (METHODS as readonly Method[])
    .filter(({ name, family, traits }) => name !== step.method && family !== 'control' && traits.stage === stage)
    .filter(method => legalWith(steps, step, method))
    .map(({ name }) => name);
}

/** May a prefix of the cache be reused under any continuation? (docs/architecture.md, "chunk, snapshot") */
export function prefixStable(recipe: Recipe): boolean {
  return recipe.every(step => memberOf(step).traits.prefixStable);
}

/** Are entries given new positions as others go, so that text may outgrow the trained context? */
export function renumbers(recipe: Recipe): boolean {
  return recipe.some(step => memberOf(step).traits.renumbers);
}

/**
 * The policies of one request, in the order of its recipe; none for the full cache.
 * @param profiles by kind (Method.profile): what was loaded for this model
 * @throws KvasirError `invalid_recipe` where an option does not suit this model, `invalid_request` where the model suits no option, or a profile is missing
 */
export function createPolicies(
  recipe: Recipe,
  model: ModelShape,
  profiles: ReadonlyMap<string, unknown> = new Map(),
): readonly Policy[] {
  return recipe.map(({ method: name, ...options }, i) => {
    const method = findMethod(name)!;
    const profile = method.profile === undefined ? undefined : profiles.get(method.profile);
    try {
      return method.create(options, model, profile);
    } catch (error) {
      throw ofRecipe(error, method, i);
    }
  });
}

/** A refusal that names an option, as one of the recipe's step `i`. */
function ofRecipe(error: unknown, method: Method, i: number): unknown {
  if (!(error instanceof KvasirError) || error.code !== 'invalid_request') return error;
  const { field, value, allowed } = error;
  if (!optionsOf(method).some(({ name }) => name === field)) return error;
  return new KvasirError('invalid_recipe', error.message, {
    field: `kv.${i}.${field}`,
    value,
    ...(allowed && { allowed }),
    cause: error,
  });
}
