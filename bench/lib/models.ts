import { fileURLToPath } from 'node:url';
import { cacheDir } from '../../src/model/hub/cache-dir.node.ts';
import { findShelved } from '../../src/model/hub/shelf.node.ts';

/** The bundled model. */
export const MINI = fileURLToPath(new URL('../../models/kvasir-mini.gguf', import.meta.url));

/** SmolLM2-135M-Instruct: the file that KVASIR_SMOLLM2 names, else the pulled one; undefined where there is neither. */
export async function smolLm2(): Promise<string | undefined> {
  return process.env.KVASIR_SMOLLM2 || (await findShelved(cacheDir(), 'smollm2-135m'))?.path;
}
