import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { KvasirError } from '../errors.ts';
import { cacheDir } from '../model/hub/cache-dir.node.ts';

/** Where `kvasir calibrate` puts a profile unless told otherwise. */
export function profilePath(fingerprint: string, kind: string): string {
  return join(cacheDir(), 'profiles', `${fingerprint.replaceAll(/[^\w.-]/g, '_')}.${kind}.json`);
}

/** A profile beside the model file (model.gguf -> model.<kind>.json), else one in the cache folder; undefined where there is none. */
export async function readProfile(path: string, fingerprint: string, kind: string): Promise<unknown> {
  for (const file of [`${path.replace(/\.gguf$/, '')}.${kind}.json`, profilePath(fingerprint, kind)]) {
    let text: string;
    try {
      text = await readFile(file, 'utf8');
    } catch {
      continue;
    }
    try {
      return JSON.parse(text);
    } catch (cause) {
      throw new KvasirError('bad_model_file', `the profile ${file} is not valid JSON`, {
        field: kind,
        value: file,
        cause,
      });
    }
  }
  return undefined;
}
