import { mount } from 'svelte';
import type { EngineApi } from '../../src/engine/types.ts';
import App from './App.svelte';
import { Conversation } from './conversation.svelte.ts';
import { EngineClient } from './engine-client.ts';
import './page.css';
import './library.css';

type BrowserEngine = { createBrowserEngine(): EngineApi | Promise<EngineApi> };

// A glob, so that the page builds whether or not the browser engine is part of this build.
const engines = import.meta.glob<BrowserEngine>('../../src/engine/browser.ts');
const target = document.getElementById('app')!;
const load = engines['../../src/engine/browser.ts'];
if (load) {
  const engine = await (await load()).createBrowserEngine();
  const path = new URL('models/kvasir-mini.gguf', document.baseURI).href;
  const conversation = new Conversation(new EngineClient(engine, { name: 'kvasir-mini', path, provider: 'wasm' }));
  mount(App, { target, props: { conversation, place: 'browser' } });
} else {
  target.textContent = 'The browser engine is not part of this build.';
}
