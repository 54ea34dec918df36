import { Worker } from 'node:worker_threads';
import { KvasirError } from '../../errors.ts';
import type { Helper } from './pool.ts';
import type { HelperStart } from './pool-loop.ts';

/** A helper as a worker thread of Node; it does not keep the process alive. */
export function startNodeHelper(start: HelperStart, onEnd: (error: KvasirError) => void): Helper {
  // The compiled package has .js files where the repository has .ts.
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  const worker = new Worker(new URL(`./pool-worker.${extension}`, import.meta.url), { execArgv: [] });
  let stopping = false;
  const ready = new Promise<void>((resolve, reject) => {
    const end = (reason: string, cause?: unknown) => {
      if (stopping) return;
      const error = new KvasirError('backend_failed', `A helper thread ${reason}`, { cause });
      reject(error);
      onEnd(error);
    };
    worker.once('message', () => {
      worker.unref();
      resolve();
    });
    worker.once('error', cause => end(`failed: ${cause instanceof Error ? cause.message : cause}`, cause));
    worker.once('exit', code => end(`ended with code ${code}`));
  });
  worker.postMessage(start);
  return {
    ready,
    stop: async () => {
      stopping = true;
      await worker.terminate();
    },
  };
}
