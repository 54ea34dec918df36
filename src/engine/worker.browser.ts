import { Engine } from './engine.ts';
import { browserPlatform } from './platform.browser.ts';
import { serveEngine } from './remote.ts';
import type { EngineMessage, EngineOptions } from './types.ts';

export interface BrowserStart {
  ort: string;
  options: EngineOptions;
}

addEventListener(
  'message',
  ({ data: { ort, options } }: MessageEvent<BrowserStart>) => {
    serveEngine(new Engine(browserPlatform(ort), options), {
      post: (message: EngineMessage) => postMessage(message),
      onMessage: handler => addEventListener('message', ({ data }: MessageEvent<EngineMessage>) => handler(data)),
      close: async () => close(),
    });
  },
  { once: true },
);
