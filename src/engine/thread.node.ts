import { type MessagePort, Worker } from 'node:worker_threads';
import { KvasirError } from '../errors.ts';
import { type Port, RemoteEngine } from './remote.ts';
import type { EngineApi, EngineMessage, EngineOptions } from './types.ts';

/** Workers are named with the extension that this file runs with: .ts in the repository, .js in the package. */
const extension = import.meta.url.slice(import.meta.url.lastIndexOf('.'));

/** Starts an engine in a thread of its own; the caller's thread stays responsive while the engine computes. */
export async function createEngineThread(options: EngineOptions = {}): Promise<EngineApi> {
  const worker = new Worker(new URL(`./worker.node${extension}`, import.meta.url), {
    workerData: options,
    name: 'kvasir-engine',
  });
  const engine = new RemoteEngine({
    ...nodePort(worker),
    close: async () => {
      await worker.terminate();
    },
  });
  worker.on('error', error => engine.fail(KvasirError.from(error)));
  worker.on('exit', code =>
    engine.fail(new KvasirError('backend_failed', `the engine thread ended with code ${code}`)),
  );
  return engine;
}

export function nodePort(port: Worker | MessagePort): Port {
  return {
    post: (message: EngineMessage) => port.postMessage(message),
    onMessage: (handler: (message: EngineMessage) => void) => {
      port.on('message', handler);
    },
    close: async () => {},
  };
}
