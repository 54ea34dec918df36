import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { createEngineThread } from '../engine/index.ts';
import type { EngineApi } from '../engine/types.ts';
import { nodeCatalogue } from '../model/hub/catalogue.node.ts';
import { type RunningServer, serve } from './server.node.ts';

/** For end-to-end tests: the real engine with the bundled model behind a listening server. */
export interface EndToEnd extends AsyncDisposable {
  readonly engine: EngineApi;
  readonly server: RunningServer;
}

const MODEL = fileURLToPath(new URL('../../models/kvasir-mini.gguf', import.meta.url));

/** Why these tests cannot run here; empty where they can. */
export const MISSING_MODEL = existsSync(MODEL) ? '' : ' (skipped: models/kvasir-mini.gguf is missing)';

/** @param paths more models, by path */
export async function startEndToEnd(paths: readonly string[] = []): Promise<EndToEnd> {
  const engine = await createEngineThread({ threads: 2 });
  const server = await serve({ engine, catalogue: nodeCatalogue({ paths }), port: 0, graceMs: 100 });
  return {
    engine,
    server,
    async [Symbol.asyncDispose]() {
      await server.close();
      await engine.dispose();
    },
  };
}

export async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (let i = 0; !(await condition()); i++) {
    if (i > 500) throw new Error(`never: ${what}`);
    await new Promise(resolve => setTimeout(resolve, 20));
  }
}
