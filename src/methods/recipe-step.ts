import { KvasirError } from '../errors.ts';
import { findMethod, METHODS } from './index.ts';
import { nearest } from './nearest.ts';
import { type OptionInfo, optionsOf } from './options.ts';
import type { RecipeStep } from './recipe.ts';
import { formatValue, type RawStep } from './recipe-text.ts';

/** How errors name a step: the input as a whole, or where it lies in a list or an object. */
export interface StepField {
  readonly step: string;
  /** The field of one of its options or of `method`. */
  member(name: string): string;
}

/** Checks one step by its method's schema and fills in the defaults. */
export function resolveStep(step: RawStep, field: StepField): RecipeStep {
  const method = findMethod(step.method);
  if (!method) {
    const names = METHODS.map(({ name }) => name);
    throw unknown(`there is no method "${step.method}"`, step.method, names, field.member('method'));
  }
  const { method: _, ...rest } = step;
  const given = Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== undefined && value !== null));
  const infos = optionsOf(method);
  const stranger = Object.keys(given).find(name => !infos.some(info => info.name === name));
  if (stranger !== undefined) {
    const names = infos.map(({ name }) => name);
    throw unknown(`${method.name} has no option "${stranger}"`, stranger, names, field.member(stranger));
  }
  const result = method.options.safeParse(asChosen(given, infos));
  if (result.success) return { method: method.name, ...defined(result.data as object) };
  const issue = result.error.issues[0]!;
  const name = issue.path[0] === undefined ? undefined : String(issue.path[0]);
  const info = infos.find(option => option.name === name);
  // What a method says about several options together is a sentence of its own; a bound of one is told from the schema.
  const bound = info !== undefined && issue.code !== 'custom';
  throw new KvasirError(
    'invalid_recipe',
    `${method.name}: ${bound ? `${name} must be ${info.allowed}` : issue.message}`,
    {
      field: name === undefined ? field.step : field.member(name),
      value: name === undefined ? written(method.name, given) : show(given[name]),
      ...(bound && { allowed: info.allowed }),
    },
  );
}

/** The text of a step, without the options that the method's schema would fill in just so. */
export function formatStep({ method: name, ...options }: RecipeStep): string {
  const schema = findMethod(name)!.options;
  const whole = canonical(options);
  let short: Record<string, unknown> = options;
  for (const key of Object.keys(options)) {
    const { [key]: _, ...rest } = short;
    const result = schema.safeParse(rest);
    if (result.success && canonical(result.data as object) === whole) short = rest;
  }
  return written(name, short);
}

/** A text gives `true` and `2` as they look; an option that is a choice of words may have such words. */
function asChosen(given: Record<string, unknown>, infos: readonly OptionInfo[]): Record<string, unknown> {
  const chosen = Object.entries(given).map(([name, value]) => {
    const values = infos.find(info => info.name === name)?.values;
    const word = values?.includes(String(value)) && !values.includes(value as string);
    return [name, word ? String(value) : withoutMinusZero(value)];
  });
  return Object.fromEntries(chosen);
}

/** -0 is 0, which is what its text says too. */
function withoutMinusZero(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutMinusZero);
  return value === 0 ? 0 : value;
}

function unknown(message: string, word: string, names: readonly string[], field: string): KvasirError {
  const meant = nearest(word, names);
  return new KvasirError('invalid_recipe', meant === undefined ? message : `${message}: did you mean "${meant}"?`, {
    field,
    value: word,
    allowed: names,
  });
}

function defined(options: object): object {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}

function show(value: unknown): unknown {
  // JSON has no number for it.
  if (typeof value === 'number' && !Number.isFinite(value)) return String(value);
  return typeof value === 'object' ? JSON.stringify(value) : value;
}

function written(name: string, options: object): string {
  const choices = new Set(
    optionsOf(findMethod(name)!)
      .filter(info => info.values)
      .map(info => info.name),
  );
  const list = Object.entries(options).map(([key, value]) => `${key}=${choices.has(key) ? value : formatValue(value)}`);
  return list.length > 0 ? `${name}(${list.join(', ')})` : name;
}

function canonical(options: object): string {
  return JSON.stringify(Object.entries(defined(options)).sort(([a], [b]) => (a < b ? -1 : 1)));
}
