import type { CacheSequence } from '../cache/sequence.ts';
import { FORMAT_NAMES, type FormatName } from '../cache/types.ts';
import type { LoadedModel } from '../engine/loaded-model.ts';
import { KvasirError } from '../errors.ts';
import { formatRecipe, parseRecipe, type Recipe } from '../methods/recipe.ts';
import { TimedRun } from './timed-run.ts';

/** What an evaluation does to the cache: every run names one. */
export interface CacheSetting {
  /** As it is written in tables and on the command line. */
  readonly name: string;
  readonly format: FormatName;
  /** Order of the prompt's prefill. */
  readonly prefill: 'token' | 'layer';
  /** The recipe; absent: the full cache. */
  readonly kv?: Recipe;
}

/** The full cache in f32: what all others are measured against. */
export const FULL: CacheSetting = { name: 'f32', format: 'f32', prefill: 'token' };

/**
 * Reads a setting: a page format (the full cache in it), a recipe (exact pages in f32), or a recipe on another format,
 * `snapkv(keep=0.25) @ f16`. Raises `invalid_recipe` or `invalid_request` where it names none.
 */
export function cacheSetting(text: string, prefill: CacheSetting['prefill'] = 'token'): CacheSetting {
  const [recipe, format = 'f32', ...rest] = isFormat(text) ? ['full', text] : text.split('@').map(part => part.trim());
  if (!isFormat(format) || rest.length > 0)
    throw new KvasirError('invalid_request', 'no such cache setting', {
      field: 'cache',
      value: text,
      allowed: `${FORMAT_NAMES.join(', ')}, a recipe, or a recipe @ one of these formats`,
    });
  const kv = parseRecipe(recipe, 'cache');
  if (kv.length === 0) return { name: format, format, prefill };
  const name = formatRecipe(kv);
  return { name: format === 'f32' ? name : `${name} @ ${format}`, format, prefill, kv };
}

function isFormat(text: string): text is FormatName {
  return (FORMAT_NAMES as readonly string[]).includes(text);
}

/** An empty sequence under this setting, and its recipe at work on it. */
export function openSequence(
  model: LoadedModel,
  setting: CacheSetting,
): { sequence: CacheSequence; run: TimedRun | null } {
  const asked = model.program(setting.kv ?? 'full');
  const program = asked?.idle ? null : asked;
  const { format } = setting;
  const pages = program ? program.pages(format) : { formatK: format, formatV: format };
  const sequence = model.cache.create({ owner: 'eval', pages });
  return { sequence, run: program && new TimedRun(program, sequence, model.forward.recipes, 0) };
}
