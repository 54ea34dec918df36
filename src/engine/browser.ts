import { KvasirError } from '../errors.ts';
import { RemoteEngine } from './remote.ts';
import type { EngineApi, EngineMessage, EngineOptions } from './types.ts';
import type { BrowserStart } from './worker.browser.ts';

export interface BrowserEngineOptions extends EngineOptions {
  /** URL of the folder with ONNX Runtime's .wasm and .mjs files. Default `ort/` beside the page. */
  ort?: string;
}

/**
 * An engine in a web worker of this page. Models are loaded by URL. It uses threads where the page is cross-origin
 * isolated (COOP and COEP headers), else one.
 */
export function createBrowserEngine(settings: BrowserEngineOptions = {}): EngineApi {
  const { ort = 'ort/', ...options } = settings;
  const worker = new Worker(new URL('./worker.browser.ts', import.meta.url), { type: 'module' });
  const engine = new RemoteEngine({
    post: (message: EngineMessage) => worker.postMessage(message),
    onMessage: handler => worker.addEventListener('message', ({ data }: MessageEvent<EngineMessage>) => handler(data)),
    close: async () => worker.terminate(),
  });
  worker.addEventListener('error', event => {
    event.preventDefault();
    engine.fail(
      new KvasirError('backend_failed', `the engine's worker failed: ${event.message || 'it did not start'}`),
    );
  });
  const start: BrowserStart = { ort: new URL(ort, document.baseURI).href, options };
  worker.postMessage(start);
  return engine;
}
