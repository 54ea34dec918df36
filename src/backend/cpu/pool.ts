import { KvasirError } from '../../errors.ts';
import type { HelperStart } from './pool-loop.ts';
import { inNode } from './wasm.ts';

/** One helper thread as its owner sees it. */
export interface Helper {
  /** Settles when the thread is in its loop; raises where it never got there. */
  readonly ready: Promise<void>;
  /** Ends the thread, whatever it does. */
  stop(): Promise<void>;
}

/** Starts a helper; `onEnd` hears of an end that was not asked for. */
export async function startHelper(start: HelperStart, onEnd: (error: KvasirError) => void): Promise<Helper> {
  if (inNode()) return (await import('./pool.node.ts')).startNodeHelper(start, onEnd);
  const worker = new Worker(new URL('./pool-worker.ts', import.meta.url), { type: 'module' });
  const ready = new Promise<void>((resolve, reject) => {
    worker.onmessage = () => resolve();
    worker.onerror = event => {
      event.preventDefault();
      const error = new KvasirError('backend_failed', `A helper thread failed: ${event.message || 'it did not start'}`);
      reject(error);
      onEnd(error);
    };
  });
  worker.postMessage(start);
  return { ready, stop: async () => worker.terminate() };
}
