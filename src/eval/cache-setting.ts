import type { CacheSequence } from '../cache/sequence.ts';
import { FORMAT_NAMES, type FormatName } from '../cache/types.ts';
import type { LoadedModel } from '../engine/loaded-model.ts';
import { KvasirError } from '../errors.ts';

/** What an evaluation does to the cache: every run names one. */
export interface CacheSetting {
  /** As it is written in tables and on the command line. */
  readonly name: string;
  readonly format: FormatName;
  /** Order of the prompt's prefill. */
  readonly prefill: 'token' | 'layer';
}

/** The full cache in f32: what all others are measured against. */
export const FULL: CacheSetting = { name: 'f32', format: 'f32', prefill: 'token' };

/** Reads a setting; raises `invalid_request` where it names none. */
export function cacheSetting(text: string, prefill: CacheSetting['prefill'] = 'token'): CacheSetting {
  if (!(FORMAT_NAMES as readonly string[]).includes(text))
    throw new KvasirError('invalid_request', 'no such cache setting', {
      field: 'cache',
      value: text,
      allowed: FORMAT_NAMES,
    });
  return { name: text, format: text as FormatName, prefill };
}

/** An empty sequence under this setting. */
export function openSequence(model: LoadedModel, setting: CacheSetting): CacheSequence {
  const pages = { formatK: setting.format, formatV: setting.format };
  return model.cache.create({ owner: 'eval', pages });
}
