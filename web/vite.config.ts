import { fileURLToPath } from 'node:url';
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig, type Plugin } from 'vite';

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));
const server = 'http://127.0.0.1:8080';

/** Files for Node alone are only ever imported behind a check for Node: a page gets empty ones, in workers too. */
const withoutNode = (): Plugin => ({
  name: 'without-node',
  enforce: 'pre',
  load: id => (/\.node\.ts$/.test(id) ? 'export {};' : null),
});

/** Two pages: the one that the server shows, and the one whose engine runs in the browser. Paths are relative, so any mount works. */
export default defineConfig({
  root: here('.'),
  base: './',
  // The packages of the in-browser engine expect these names to be resolved for a browser.
  resolve: {
    conditions: ['browser', 'module', 'import', 'default'],
    // The build that fetches its 14 MB of WASM from where it is told (/ort), instead of one that carries them along.
    alias: { 'onnxruntime-web/wasm': here('../node_modules/onnxruntime-web/dist/ort.wasm.min.mjs') },
  },
  plugins: [withoutNode(), svelte()],
  worker: { format: 'es', plugins: () => [withoutNode()] },
  build: {
    outDir: here('../build/web'),
    emptyOutDir: true,
    target: 'es2023',
    // Content-Security-Policy allows neither inline scripts nor inline styles.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rolldownOptions: { input: { index: here('index.html'), local: here('local.html') } },
  },
  server: {
    headers: { 'cross-origin-opener-policy': 'same-origin', 'cross-origin-embedder-policy': 'require-corp' },
    proxy: Object.fromEntries(
      ['/v1', '/tokenize', '/detokenize', '/load', '/stats', '/health', '/models', '/ort'].map(path => [path, server]),
    ),
  },
});
