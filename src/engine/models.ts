import type { Kernels } from '../backend/types.ts';
import { KvasirError } from '../errors.ts';
import { LoadedModel } from './loaded-model.ts';
import type { Platform } from './platform.ts';
import type { Sessions } from './sessions.ts';
import type { EngineOptions, LoadOptions, LoadProgress, ModelInfo } from './types.ts';

/** The models in an engine's memory, and the kernels that they share. */
export class Models {
  readonly #platform: Platform;
  readonly #options: Required<EngineOptions>;
  readonly #sessions: Sessions;
  readonly #exclusive: <T>(work: () => Promise<T>) => Promise<T>;
  readonly #models = new Map<string, LoadedModel>();
  readonly #loading = new Map<string, Promise<ModelInfo>>();
  #kernels: Promise<Kernels> | null = null;

  constructor(init: {
    platform: Platform;
    options: Required<EngineOptions>;
    sessions: Sessions;
    /** Runs work while no step of any model is under way. */
    exclusive: <T>(work: () => Promise<T>) => Promise<T>;
  }) {
    this.#platform = init.platform;
    this.#options = init.options;
    this.#sessions = init.sessions;
    this.#exclusive = init.exclusive;
  }

  values(): MapIterator<LoadedModel> {
    return this.#models.values();
  }

  /** Raises `model_not_found`. */
  get(name: string): LoadedModel {
    const model = this.#models.get(name);
    if (!model)
      throw new KvasirError('model_not_found', `model ${JSON.stringify(name)} is not loaded`, {
        field: 'model',
        value: name,
        allowed: [...this.#models.keys()],
      });
    return model;
  }

  async load(options: LoadOptions, onProgress?: (progress: LoadProgress) => void): Promise<ModelInfo> {
    const loaded = this.#models.get(options.name);
    if (loaded) return loaded.info;
    let loading = this.#loading.get(options.name);
    if (!loading) {
      loading = this.#exclusive(() => this.#load(options, onProgress)).finally(() =>
        this.#loading.delete(options.name),
      );
      this.#loading.set(options.name, loading);
    }
    return loading;
  }

  async #load(options: LoadOptions, onProgress?: (progress: LoadProgress) => void): Promise<ModelInfo> {
    this.#kernels ??= this.#platform.createKernels({
      threads: this.#options.threads,
      limit: this.#options.memoryLimit,
    });
    const kernels = await this.#kernels;
    const model = await LoadedModel.open(options, {
      platform: this.#platform,
      kernels,
      engine: this.#options,
      makeRoom: bytes => this.#makeRoom(bytes),
      sessions: this.#sessions.byId,
      onProgress,
    });
    this.#models.set(options.name, model);
    return model.info;
  }

  /** Unloads idle models, least recently used first, until `bytes` more of weights fit; raises `memory_limit` if they cannot. */
  async #makeRoom(bytes: number): Promise<void> {
    const held = () => [...this.#models.values()].reduce((sum, model) => sum + model.info.weightBytes, 0);
    while (held() + bytes > this.#options.memoryLimit) {
      const idle = [...this.#models.values()].filter(model => model.idle).sort((a, b) => a.usedAt - b.usedAt)[0];
      if (!idle)
        throw new KvasirError('memory_limit', `the model needs ${bytes} bytes, which the memory limit does not leave`, {
          field: 'memoryLimit',
          value: this.#options.memoryLimit,
          allowed: `at least ${held() + bytes} bytes`,
        });
      await this.#drop(idle);
    }
  }

  async #drop(model: LoadedModel): Promise<void> {
    this.#models.delete(model.info.name);
    this.#sessions.dropCaches(model.info.name);
    await model.dispose();
  }

  async unload(name: string): Promise<void> {
    const model = this.get(name);
    while (!model.idle) await this.#platform.breathe();
    await this.#exclusive(() => this.#drop(model));
  }

  /** Ends every request with `error` and frees everything; to be called while no step is under way. */
  async dispose(error: KvasirError): Promise<void> {
    for (const model of this.values()) {
      model.scheduler.failAll(error);
      await this.#drop(model);
    }
    await (await this.#kernels)?.dispose();
  }
}
