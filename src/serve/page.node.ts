import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { serveStatic } from '@hono/node-server/serve-static';
import { Hono, type MiddlewareHandler } from 'hono';
import { type Measured, parseMeasured } from '../methods/measured.ts';

const UNBUILT = 'The page is not built. Run: npm run build\n';

/** A package mirrors the repository, so these lie two folders up in both. */
const PAGE = fileURLToPath(new URL('../../build/web', import.meta.url));
const MODELS = fileURLToPath(new URL('../../models/', import.meta.url));
/** The bundled model, its profiles and its measurements. */
const bundled = (): string[] => readdirSync(MODELS).filter(name => name.startsWith('kvasir-mini.'));

/** What methods did on the bundled model; undefined where it is not there. */
export function bundledMeasurements(): Measured | undefined {
  const path = join(MODELS, 'kvasir-mini.measured.json');
  return existsSync(path) ? parseMeasured(readFileSync(path, 'utf8')) : undefined;
}

function ortFolder(): string | undefined {
  try {
    return dirname(createRequire(import.meta.url).resolve('onnxruntime-web'));
  } catch {
    return undefined;
  }
}

/**
 * The page, and what the in-browser engine fetches: the bundled model with its profiles under `/models/` and the WASM runtime under `/ort/`.
 * Only files of these folders, no others.
 */
export function pageFiles(): MiddlewareHandler {
  const files = new Hono();
  const ort = ortFolder();
  const forever = (path: string) => /\/assets\//.test(path);
  for (const name of bundled()) files.get(`/models/${name}`, serveStatic({ path: join(MODELS, name) }));
  if (ort) {
    const rewriteRequestPath = (path: string) => path.slice('/ort'.length);
    files.get('/ort/:file{ort-wasm[a-z-.]*\\.(?:mjs|wasm)}', serveStatic({ root: ort, rewriteRequestPath }));
  }
  if (existsSync(join(PAGE, 'index.html'))) {
    const onFound = (path: string, c: Parameters<MiddlewareHandler>[0]) =>
      c.header('cache-control', forever(path) ? 'public, max-age=31536000, immutable' : 'no-cache');
    files.get('*', serveStatic({ root: PAGE, onFound }));
  } else {
    files.get('/', c => c.text(UNBUILT, 503));
  }
  return async (c, next) => {
    const response = await files.fetch(c.req.raw);
    if (response.status === 404) return next();
    return response;
  };
}
