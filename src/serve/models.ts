import type { EngineApi, LoadProgress, ModelInfo } from '../engine/types.ts';
import type { Catalogue, CatalogueEntry } from '../model/catalogue.ts';
import { HttpError } from './errors.ts';
import type { ModelBody } from './schemas.ts';

interface Loading {
  readonly done: Promise<ModelInfo>;
  readonly listeners: Set<(progress: LoadProgress) => void>;
  last: LoadProgress;
}

/** Models by name: loads on demand, one load a model however many requests wait for it. */
export class ModelPool {
  readonly #engine: EngineApi;
  readonly #catalogue: Catalogue;
  readonly #loading = new Map<string, Loading>();

  constructor(engine: EngineApi, catalogue: Catalogue) {
    this.#engine = engine;
    this.#catalogue = catalogue;
  }

  /** The loaded model. A caller that gives up (`aborted`) leaves the load to the others and to whoever asks next. */
  async ensure(name: string, signal?: AbortSignal, onProgress?: (progress: LoadProgress) => void): Promise<ModelInfo> {
    signal?.throwIfAborted();
    const loaded = (await this.#engine.models()).find(model => model.name === name);
    if (loaded) return loaded;
    const loading = this.#loading.get(name) ?? this.#start(name);
    if (onProgress) {
      onProgress(loading.last);
      loading.listeners.add(onProgress);
    }
    try {
      return await (signal ? unlessAborted(loading.done, signal) : loading.done);
    } finally {
      if (onProgress) loading.listeners.delete(onProgress);
    }
  }

  async list(): Promise<ModelBody[]> {
    const [entries, infos] = await Promise.all([this.#catalogue.list(), this.#engine.models()]);
    const loaded = new Map(infos.map(info => [info.name, info]));
    const named = new Set(entries.map(entry => entry.name));
    // A program may have loaded models that no catalogue knows.
    const others = infos.filter(info => !named.has(info.name)).map(info => this.#describe(info.name, undefined, info));
    return [...entries.map(entry => this.#describe(entry.name, entry, loaded.get(entry.name))), ...others];
  }

  async get(name: string): Promise<ModelBody> {
    const models = await this.list();
    const model = models.find(({ id }) => id === name);
    if (model) return model;
    throw new HttpError(
      'model_not_found',
      `No model "${name}". There are: ${models.map(({ id }) => id).join(', ') || 'none'}.`,
      'model',
    );
  }

  #start(name: string): Loading {
    const listeners: Loading['listeners'] = new Set();
    const load = async () => {
      try {
        const options = await this.#catalogue.resolve(name);
        return await this.#engine.load({ ...options, name }, progress => {
          loading.last = progress;
          for (const listener of listeners) listener(progress);
        });
      } finally {
        this.#loading.delete(name);
      }
    };
    const loading: Loading = { done: load(), listeners, last: { fraction: 0, what: 'opening' } };
    loading.done.catch(() => {});
    this.#loading.set(name, loading);
    return loading;
  }

  #describe(name: string, entry: CatalogueEntry | undefined, info: ModelInfo | undefined): ModelBody {
    const loading = this.#loading.get(name);
    return {
      id: name,
      object: 'model',
      // Not kept: a file's times say when it was copied, not when the model was made.
      created: 0,
      owned_by: 'kvasir',
      kvasir: {
        state: info ? 'loaded' : loading ? 'loading' : 'available',
        bundled: entry?.bundled ?? false,
        bytes: entry?.bytes ?? info?.weightBytes ?? 0,
        ...(loading && !info && { loading: loading.last }),
        ...(info && { info: publicInfo(info) }),
      },
    };
  }
}

/** Without the path on disk: that is nobody's business over HTTP. */
function publicInfo({ source: _, ...info }: ModelInfo): Record<string, unknown> {
  return info;
}

async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = () => reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
