import { homedir } from 'node:os';
import { isAbsolute, join, resolve } from 'node:path';

type Env = Readonly<Record<string, string | undefined>>;

/** Folder of downloads and repacked weights: $KVASIR_CACHE, else $XDG_CACHE_HOME/kvasir, else ~/.cache/kvasir. */
export function cacheDir(env: Env = process.env): string {
  if (env.KVASIR_CACHE) return resolve(env.KVASIR_CACHE);
  // The XDG specification has relative values ignored.
  if (env.XDG_CACHE_HOME && isAbsolute(env.XDG_CACHE_HOME)) return join(env.XDG_CACHE_HOME, 'kvasir');
  return join(homedir(), '.cache', 'kvasir');
}
