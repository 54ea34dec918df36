import { readFile } from 'node:fs/promises';
import { KvasirError } from '../../errors.ts';
import type { KernelVariant } from './wasm.ts';

/** Reads a build of the kernels from build/ of the repository or of the installed package. */
export async function readKernels(variant: KernelVariant): Promise<Uint8Array<ArrayBuffer>> {
  const name = `build/kernels-${variant}.wasm`;
  // The sources lie in src/backend/cpu, the compiled files in dist/backend/cpu or dist/src/backend/cpu.
  for (const up of ['../../../', '../../../../']) {
    try {
      return new Uint8Array(await readFile(new URL(up + name, import.meta.url)));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw KvasirError.from(error);
    }
  }
  throw new KvasirError('backend_failed', `${name} is missing: build it with npm run build:kernels`);
}
