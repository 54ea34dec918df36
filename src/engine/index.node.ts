import { type LoadSettings, Model } from '../library.ts';
import { cacheDir } from '../model/hub/cache-dir.node.ts';
import { nodeCatalogue, resolveModel } from '../model/hub/catalogue.node.ts';
import { Engine } from './engine.ts';
import { nodePlatform } from './platform.node.ts';
import { createEngineThread as startThread } from './thread.node.ts';
import type { EngineApi, EngineOptions } from './types.ts';

/** An engine in the caller's own thread: for benchmarks, tests and programs that do nothing else meanwhile. */
export function createEngine(options: EngineOptions = {}): EngineApi {
  return new Engine(nodePlatform(), withCacheDir(options));
}

/** An engine in a thread of its own: the caller stays responsive while it computes. */
export function createEngineThread(options: EngineOptions = {}): Promise<EngineApi> {
  return startThread(withCacheDir(options));
}

function withCacheDir(options: EngineOptions): EngineOptions {
  return { ...options, cacheDir: options.cacheDir ?? cacheDir() };
}

/**
 * Loads a model: a name from `kvasir models` (`kvasir-mini` is bundled), a GGUF file or a Hugging Face folder.
 * @example await using model = await load('kvasir-mini')
 */
export async function load(model: string, settings: LoadSettings = {}): Promise<Model> {
  const { engine: shared, onProgress, ...options } = settings;
  const found = await resolveModel(nodeCatalogue(), model);
  const engine = shared ?? (await createEngineThread());
  try {
    const info = await engine.load({ ...found, ...options, name: options.name ?? found.name }, onProgress);
    return new Model(engine, info, shared === undefined);
  } catch (error) {
    if (!shared) await engine.dispose();
    throw error;
  }
}
