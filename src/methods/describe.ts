import { z } from 'zod';
import { composable, settledPair } from './composition.ts';
import { findMethod, METHODS } from './index.ts';
import { type OptionInfo, optionsOf } from './options.ts';
import { formatRecipe } from './recipe.ts';
import type { Method, Paper, Traits } from './types.ts';

/** Everything that a user wants to know of a method, as plain data. */
export interface MethodDescription {
  readonly name: string;
  readonly title: string;
  readonly family: Method['family'];
  readonly summary: string;
  readonly paper: Paper | null;
  readonly claim: string;
  readonly options: readonly OptionInfo[];
  readonly traits: Traits;
  /** The kind of profile file that it needs. */
  readonly profile: string | null;
  /** It serves without that profile too, only less well. */
  readonly profileOptional: boolean;
  /** Names of methods that may stand in a recipe beside it, all options at their defaults. */
  readonly worksWith: readonly string[];
  /** Recipes with other methods that are sound because one option is set otherwise. */
  readonly worksAs: readonly string[];
  readonly notWith: readonly string[];
}

export function describeMethod(method: Method): MethodDescription {
  const { name, title, family, summary, paper, claim, traits, profile = null, profileOptional = false } = method;
  const others: readonly Method[] = METHODS.filter(other => other.name !== name);
  const conflicting = others.filter(other => !composable(method, other));
  const settled = conflicting.map(other => settledPair(method, other));
  return {
    name,
    title,
    family,
    summary,
    paper,
    claim,
    options: optionsOf(method),
    traits,
    profile,
    profileOptional,
    worksWith: others.filter(other => !conflicting.includes(other)).map(other => other.name),
    worksAs: settled.filter(recipe => recipe !== null).map(formatRecipe),
    notWith: conflicting.filter((_, i) => settled[i] === null).map(other => other.name),
  };
}

/** What a method does not go together with for another reason than that both have the same stage, or that one is `full`. */
export function beyondStage({ name, traits, notWith }: MethodDescription): string[] {
  if (name === 'full') return [];
  return notWith.filter(other => other !== 'full' && findMethod(other)!.traits.stage !== traits.stage);
}

/** JSON Schema of one step of a recipe as an object: `{ "method": name, ...options }`. */
export function stepSchema(method: Method): Record<string, unknown> {
  const { $schema: _, ...schema } = z.toJSONSchema(method.options, { io: 'input', unrepresentable: 'any' });
  const properties = { method: { type: 'string', const: method.name }, ...schema.properties };
  return {
    ...schema,
    title: method.title,
    description: method.summary,
    properties,
    required: ['method', ...(schema.required ?? [])],
    additionalProperties: false,
  };
}
