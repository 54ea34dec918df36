import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Kernels } from '../src/backend/types.ts';
import { LoadedModel } from '../src/engine/loaded-model.ts';
import { nodePlatform } from '../src/engine/platform.node.ts';
import type { LoadOptions } from '../src/engine/types.ts';
import { cacheDir } from '../src/model/hub/cache-dir.node.ts';
import { testPath } from './golden.ts';

export const BUNDLED = testPath('../models/kvasir-mini.gguf');

/** A pulled model's file, or null where it has not been pulled: tests that need it say so in their names. */
export function pulled(variable: string, path: string): string | null {
  const found = process.env[variable] ?? join(cacheDir(), path);
  return existsSync(found) ? found : null;
}

const platform = nodePlatform();

export function openKernels(threads = 2): Promise<Kernels> {
  return platform.createKernels({ threads, limit: 2 ** 30 });
}

/** A model without an engine around it: for tests that look at logits. */
export function openLoaded(kernels: Kernels, path: string, options: Partial<LoadOptions> = {}): Promise<LoadedModel> {
  return LoadedModel.open(
    { name: 'test', path, mode: 'exact', ...options },
    {
      platform,
      kernels,
      engine: { threads: 2, memoryLimit: 2 ** 31, cacheLimit: 2 ** 29, maxRunning: 16, maxWaiting: 16, cacheDir: '' },
      makeRoom: async () => {},
      sessions: new Map(),
      onProgress: undefined,
    },
  );
}
