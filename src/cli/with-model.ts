import type { EngineApi, EngineOptions, LoadOptions, ModelInfo } from '../engine/types.ts';
import { resolveModel } from '../model/hub/catalogue.node.ts';
import type { Context } from './io.ts';
import { ENGINE_OPTIONS, LOAD_OPTIONS, pick } from './options.ts';
import { Progress } from './progress.ts';

export interface Loaded {
  readonly engine: EngineApi;
  readonly info: ModelInfo;
  /** Aborts on Ctrl-C. */
  readonly signal: AbortSignal;
}

/** Runs a command's work on the model that its options name, and frees everything whatever comes of it. */
export async function withModel<T>(
  context: Context,
  options: Record<string, unknown>,
  work: (loaded: Loaded) => Promise<T>,
): Promise<T> {
  const load: LoadOptions = {
    ...(await resolveModel(context.catalogue, options.model as string)),
    ...pick(options, LOAD_OPTIONS),
  };
  const interrupt = new AbortController();
  const release = context.io.onInterrupt(() => interrupt.abort());
  const progress = new Progress(context.io, () => '');
  let engine: EngineApi | undefined;
  try {
    engine = await context.createEngine(pick(options, ENGINE_OPTIONS) as EngineOptions);
    const info = await engine.load(load, at => progress.update(at.what, at.fraction, 1));
    progress.stop();
    return await work({ engine, info, signal: interrupt.signal });
  } finally {
    progress.stop();
    release();
    await engine?.dispose();
  }
}
