import { cacheDir } from '../model/hub/cache-dir.node.ts';
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
