import { LoadedModel } from '../engine/loaded-model.ts';
import { nodePlatform } from '../engine/platform.node.ts';
import type { EngineOptions, LoadOptions, LoadProgress } from '../engine/types.ts';
import { checkLoad } from '../engine/validate.ts';
import { cacheDir } from '../model/hub/cache-dir.node.ts';

const GiB = 2 ** 30;

/** A model in this thread without an engine around it: an evaluation looks at logits. `await using` frees it. */
export async function openModelForEval(
  load: LoadOptions,
  options: EngineOptions = {},
  onProgress?: (progress: LoadProgress) => void,
): Promise<{ model: LoadedModel } & AsyncDisposable> {
  checkLoad(load);
  const platform = nodePlatform();
  const threads = options.threads ?? Math.min(8, platform.cores);
  const memoryLimit = options.memoryLimit ?? Math.floor(platform.memoryBytes / 2);
  const kernels = await platform.createKernels({ threads, limit: memoryLimit });
  try {
    const model = await LoadedModel.open(load, {
      platform,
      kernels,
      engine: {
        threads,
        memoryLimit,
        cacheLimit: options.cacheLimit ?? Math.min(3 * GiB, memoryLimit),
        maxRunning: 1,
        maxWaiting: options.maxWaiting ?? 0,
        cacheDir: options.cacheDir ?? cacheDir(),
      },
      makeRoom: async () => {},
      sessions: new Map(),
      onProgress,
    });
    const dispose = async () => {
      await model.dispose();
      await kernels.dispose();
    };
    return { model, [Symbol.asyncDispose]: dispose };
  } catch (error) {
    await kernels.dispose();
    throw error;
  }
}
