import type { DenseModel, Kernels } from '../backend/types.ts';
import { KvCache } from '../cache/cache.ts';
import { FORMAT_NAMES, type FormatName } from '../cache/types.ts';
import { createPolicies, prefixStable, renumbers } from '../methods/composition.ts';
import { METHODS } from '../methods/index.ts';
import { formatRecipe, parseRecipe, type Recipe, type RecipeInput } from '../methods/recipe.ts';
import type { Method, ModelShape } from '../methods/types.ts';
import { createTokenizer } from '../model/tokenizer.ts';
import type { ModelConfig, ModelFile, Tokenizer } from '../model/types.ts';
import { Forward } from './forward.ts';
import type { Platform } from './platform.ts';
import { Program } from './program/program.ts';
import { Scheduler } from './scheduler.ts';
import type { Session } from './session.ts';
import type { EngineOptions, LoadOptions, LoadProgress, ModelInfo } from './types.ts';

/** Recipes made ready; more are made again. */
const MAX_PROGRAMS = 256;

/** Rows beyond this make no product faster and cost work space; deterministic runs need at most 256. */
const DEFAULT_TILE = 256;

export interface Surroundings {
  platform: Platform;
  kernels: Kernels;
  engine: Required<EngineOptions>;
  /** Unloads others until this many bytes of weights fit. */
  makeRoom(bytes: number): Promise<void>;
  sessions: ReadonlyMap<string, Session>;
  onProgress: ((progress: LoadProgress) => void) | undefined;
}

/** A model in memory with its cache and its queue of requests. */
export class LoadedModel {
  readonly info: ModelInfo;
  readonly tokenizer: Tokenizer;
  readonly cache: KvCache;
  readonly forward: Forward;
  readonly scheduler: Scheduler;
  usedAt = performance.now();
  readonly #dense: DenseModel;
  readonly #file: ModelFile;
  readonly #shape: ModelShape;
  readonly #kv: RecipeInput | undefined;
  readonly #profiles: Map<string, unknown>;
  readonly #programs = new Map<string, Program>();

  static async open(options: LoadOptions, around: Surroundings): Promise<LoadedModel> {
    const started = performance.now();
    const file = await around.platform.openModel(options.path);
    try {
      await around.makeRoom(weightBytes(file));
      const provider = await around.platform.denseProvider(options.provider ?? 'auto');
      const { onProgress } = around;
      const dense = await provider.load(file, around.kernels.memory, {
        mode: options.mode ?? 'fast',
        threads: around.engine.threads,
        deterministic: options.deterministic ?? false,
        ...(around.engine.cacheDir && { cacheDir: around.engine.cacheDir }),
        ...(onProgress && { onProgress: (fraction: number, what: string) => onProgress({ fraction, what }) }),
      });
      const profiles = new Map<string, unknown>();
      for (const kind of new Set(METHODS.flatMap(({ profile }: Method) => profile ?? []))) {
        const profile = await around.platform.profile?.(options.path, file.fingerprint, kind);
        if (profile !== undefined) profiles.set(kind, profile);
      }
      return new LoadedModel(options, around, file, dense, profiles, started);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  private constructor(
    options: LoadOptions,
    around: Surroundings,
    file: ModelFile,
    dense: DenseModel,
    profiles: Map<string, unknown>,
    started: number,
  ) {
    const { config } = file;
    const tile = options.deterministic
      ? Math.min(options.tile ?? DEFAULT_TILE, DEFAULT_TILE)
      : (options.tile ?? DEFAULT_TILE);
    const format = options.cache ?? 'f32';
    this.#file = file;
    this.#profiles = profiles;
    this.#kv = options.kv;
    this.#shape = shapeOf(file);
    this.#dense = dense;
    this.tokenizer = createTokenizer(file.tokenizer);
    const parkFile = around.platform.parkFile?.();
    this.cache = new KvCache({
      ...(parkFile && { parkFile }),
      memory: around.kernels.memory,
      kernels: around.kernels,
      shape: {
        slots: config.layers,
        kvHeads: config.kvHeads,
        headDim: config.headDim,
        rotary: config.ropes[0]!.inverseFrequencies.length * 2,
      },
      limit: Math.max(0, Math.min(around.engine.cacheLimit, around.engine.memoryLimit - dense.bytes)),
    });
    this.forward = new Forward(dense, around.kernels, { tile, deterministic: options.deterministic ?? false });
    const { sessions } = around;
    this.scheduler = new Scheduler({
      forward: this.forward,
      cache: this.cache,
      tokenizer: this.tokenizer,
      options: {
        vocab: config.vocab,
        tile,
        maxRunning: around.engine.maxRunning,
        maxWaiting: around.engine.maxWaiting,
        defaultFormat: format,
      },
      idleSessions: () =>
        [...sessions.values()].filter(s => s.model === options.name && !s.busy).sort((a, b) => a.usedAt - b.usedAt),
    });
    this.info = {
      name: options.name,
      source: file.source,
      architecture: config.architecture,
      parameters: parameterCount(file),
      context: Math.min(config.context, options.context ?? config.context),
      layers: config.layers,
      hidden: config.hidden,
      heads: config.heads,
      kvHeads: config.kvHeads,
      headDim: config.headDim,
      vocab: config.vocab,
      hasChatTemplate: file.tokenizer.chatTemplate !== null,
      mode: options.mode ?? 'fast',
      provider: dense.provider,
      cache: format,
      recipe: formatRecipe(parseRecipe(options.kv)),
      weightBytes: dense.bytes,
      kvBytesPerToken: kvBytesPerToken(config),
      fingerprint: file.fingerprint,
      loadMs: performance.now() - started,
    };
  }

  get idle(): boolean {
    return this.scheduler.running + this.scheduler.waiting === 0;
  }

  /** The program of a recipe (default: the model's own), null for the full cache. Raises `invalid_recipe` or `invalid_request`. */
  program(kv: RecipeInput | Recipe | undefined): Program | null {
    const recipe = parseRecipe(kv ?? this.#kv);
    if (recipe.length === 0) return null;
    const text = formatRecipe(recipe);
    let program = this.#programs.get(text);
    if (!program) {
      const policies = createPolicies(recipe, this.#shape, this.#profiles);
      const parts = policies.map((policy, i) => ({ name: recipe[i]!.method, policy }));
      const tokenize = (passage: string) => this.tokenizer.encode(passage);
      program = new Program(text, parts, this.#shape, prefixStable(recipe), tokenize);
      if (this.#programs.size >= MAX_PROGRAMS) this.#programs.clear();
      this.#programs.set(text, program);
    }
    return program;
  }

  /**
   * Can a sequence under a recipe grow to `tokens` tokens? Where entries are renumbered as others go, no position is beyond
   * what a view holds.
   */
  reaches(tokens: number, program: Program | null): boolean {
    const { context } = this.info;
    if (tokens <= context) return true;
    return program !== null && renumbers(parseRecipe(program.text)) && program.most(tokens) < context;
  }

  /** What recipes know of this model. */
  get shape(): ModelShape {
    return this.#shape;
  }

  /** Adds a profile that methods of this model need; see Method.profile. */
  setProfile(kind: string, profile: unknown): void {
    this.#profiles.set(kind, profile);
    this.#programs.clear();
  }

  async dispose(): Promise<void> {
    this.forward.dispose();
    this.cache.dispose();
    await this.#dense.dispose();
    await this.#file.close();
  }
}

function shapeOf({ config, fingerprint }: ModelFile): ModelShape {
  const { layers, heads, kvHeads, headDim, context, layerWindow } = config;
  const rotary = config.ropes[0]!.inverseFrequencies.length * 2;
  return { layers, heads, kvHeads, group: heads / kvHeads, headDim, rotary, context, layerWindow, fingerprint };
}

function weightBytes(file: ModelFile): number {
  let bytes = 0;
  for (const tensor of file.tensors.values()) bytes += tensor.byteLength;
  return bytes;
}

function parameterCount(file: ModelFile): number {
  let count = 0;
  for (const tensor of file.tensors.values()) count += tensor.rows * tensor.columns;
  return count;
}

/** Page bytes of full pages; the scales of int8 counted. */
export function kvBytesPerToken(config: ModelConfig): Record<FormatName, number> {
  const heads = config.layers * config.kvHeads * 2;
  const bytes = { f32: config.headDim * 4, f16: config.headDim * 2, int8: config.headDim + 4 };
  return Object.fromEntries(FORMAT_NAMES.map(name => [name, heads * bytes[name]])) as Record<FormatName, number>;
}
