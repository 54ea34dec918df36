import { existsSync } from 'node:fs';
import { cacheDir } from '../../src/model/hub/cache-dir.node.ts';
import { findShelved } from '../../src/model/hub/shelf.node.ts';

/** The SmolLM2-135M GGUF of this machine: $KVASIR_SMOLLM2, or where `kvasir pull smollm2-135m` puts it; else why there is none. */
export async function findSmolLM2(): Promise<{ path: string } | { why: string }> {
  const named = process.env.KVASIR_SMOLLM2;
  if (named) return existsSync(named) ? { path: named } : { why: `KVASIR_SMOLLM2 names ${named}, which is not there` };
  const pulled = await findShelved(cacheDir(), 'smollm2-135m');
  return pulled
    ? { path: pulled.path }
    : { why: 'no model: `kvasir pull smollm2-135m` fetches it, or KVASIR_SMOLLM2 names its GGUF' };
}
