import { type HelperStart, helperLoop } from './pool-loop.ts';

/** Entry of a helper thread, in Node and in a browser: says that it is there, takes its start message, enters the loop. */

interface Port {
  postMessage(message: unknown): void;
  on?(event: 'message', listener: (data: HelperStart) => void): void;
  onmessage?: ((event: MessageEvent<HelperStart>) => void) | null;
}

const threads = globalThis.process?.getBuiltinModule?.('node:worker_threads');
const port: Port = threads?.parentPort ?? (globalThis as unknown as Port);

function begin(start: HelperStart): void {
  port.postMessage('ready');
  helperLoop(start);
  threads?.parentPort?.close();
}

if (port.on) port.on('message', begin);
else port.onmessage = event => begin(event.data);
