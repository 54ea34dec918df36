import type { NumericMode } from '../backend/types.ts';
import type { ByteItems, CacheStats, FormatName } from '../cache/types.ts';
import type { ErrorJSON } from '../errors.ts';
import type { RecipeInput } from '../methods/recipe.ts';
import type { Segment, SegmentKind } from '../methods/types.ts';
import type { Architecture, ChatMessage } from '../model/types.ts';

/** Everything a caller (library, server, command line) may ask of an engine; the same in-process and across a thread. */
export interface EngineApi {
  /** Loads a model (idempotent by `name`); other models that are idle are unloaded, least recently used first, to stay under the memory limit. */
  load(options: LoadOptions, onProgress?: (progress: LoadProgress) => void): Promise<ModelInfo>;
  /** Waits for the model's running requests, then frees it. */
  unload(model: string): Promise<void>;
  models(): Promise<ModelInfo[]>;
  /**
   * Streams the answer(s). Leaving the loop or aborting the signal stops the work and frees its cache.
   * Raises KvasirError before the first part where the request is refused.
   */
  generate(request: GenerateRequest, signal?: AbortSignal): AsyncIterable<GeneratePart>;
  /** Forced decoding: how likely the given continuation is, token by token. */
  score(
    request: ScoreRequest,
    signal?: AbortSignal,
    onProgress?: (progress: LoadProgress) => void,
  ): Promise<ScoreResult>;
  tokenize(model: string, input: string | readonly PromptMessage[], options?: { addBos?: boolean }): Promise<number[]>;
  detokenize(model: string, ids: readonly number[]): Promise<string>;
  /** Opens a session: its cache is kept between turns. Returns an id for GenerateRequest.session. */
  openSession(model: string): Promise<string>;
  closeSession(session: string): Promise<void>;
  stats(): Promise<EngineStats>;
  dispose(): Promise<void>;
}

/** Limits of one engine; every queue and buffer in it is bounded by one of these. */
export interface EngineOptions {
  /** Threads of dense math and attention. Default: the machine's cores, at most 8. */
  threads?: number;
  /** Bytes for weights, caches and work space together. Default: half of the machine's memory. */
  memoryLimit?: number;
  /** Bytes for KV caches, within the memory limit. Default: what fits, at most 3 GiB. */
  cacheLimit?: number;
  /** Requests that run at once; more wait. Default 16. */
  maxRunning?: number;
  /** Requests that wait; one more raises `queue_full`. Default 256. */
  maxWaiting?: number;
  /** Folder for repacked weights and downloads. */
  cacheDir?: string;
}

export interface LoadOptions {
  /** How requests name it. */
  name: string;
  /** A GGUF file, a Hugging Face folder, or in a browser a URL. */
  path: string;
  /** Default `fast`. */
  mode?: NumericMode;
  /** Bit-equal results whatever the batch and the tiles. Default false. */
  deterministic?: boolean;
  /** `auto` (default): the native runtime where installed, else WASM. */
  provider?: 'auto' | 'native' | 'wasm';
  /** Rows of a prefill tile, 1..4096. Default 256, which is also the most in deterministic mode. */
  tile?: number;
  /** Page format of requests that name none. Default f32. */
  cache?: FormatName;
  /** Recipe of requests that name none: text, a step or a list of steps. Default: the full cache. */
  kv?: RecipeInput;
  /** Shortens the context, tokens. */
  context?: number;
}

export interface LoadProgress {
  readonly fraction: number;
  readonly what: string;
}

export interface ModelInfo {
  readonly name: string;
  readonly source: string;
  readonly architecture: Architecture;
  readonly parameters: number;
  readonly context: number;
  readonly layers: number;
  readonly hidden: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly vocab: number;
  readonly hasChatTemplate: boolean;
  readonly mode: NumericMode;
  readonly provider: string;
  readonly cache: FormatName;
  /** The recipe of requests that name none, as text. */
  readonly recipe: string;
  readonly weightBytes: number;
  /** KV bytes a token with each page format. */
  readonly kvBytesPerToken: Readonly<Record<FormatName, number>>;
  readonly fingerprint: string;
  readonly loadMs: number;
}

export interface SamplingOptions {
  /** 0 is greedy. Default 1 for HTTP parity with OpenAI; 0..2. */
  temperature?: number;
  /** 0 is off. */
  topK?: number;
  /** (0, 1]. */
  topP?: number;
  /** [0, 1]: keeps tokens at least this share as likely as the best one. */
  minP?: number;
  /** > 0; 1 is off. Divides (multiplies, where negative) logits of tokens seen in prompt or answer. */
  repetitionPenalty?: number;
  /** -2..2, OpenAI's definitions, over the answer. */
  frequencyPenalty?: number;
  presencePenalty?: number;
  /** Token id -> -100..100. */
  logitBias?: Readonly<Record<number, number>>;
  /** Same seed, same request, same engine settings: same answer. Default: random. */
  seed?: number;
}

export interface GenerateOptions extends SamplingOptions {
  /** Default: what the context leaves. */
  maxTokens?: number;
  /** At most 16 strings; the answer ends before the first that appears, also across token borders. */
  stop?: readonly string[];
  /** Report the log-probability of each token and of this many alternatives, 0..20. */
  logprobs?: number;
  /** Answers to one prompt, 1..16; they share the prompt's cache. Default 1. */
  n?: number;
  /** Page format of this request. */
  cache?: FormatName;
  /** What is done to the cache: `snapkv(keep=0.25) + kivi(bits=2)`, a step or a list of steps. `full`: nothing. Default: the model's. */
  kv?: RecipeInput;
  /** Order of prefill: tiles of tokens through all layers, or all tokens through one layer at a time. Default `token`. */
  prefill?: 'token' | 'layer';
  /** Say in parts of their own how far the prompt is. */
  progress?: boolean;
  /** Do not end at end tokens. */
  ignoreEnd?: boolean;
}

/** A message of a chat. It becomes a segment of the prompt (`system` or `turn`) by itself, less what its parts name (docs/segments.md). */
export interface PromptMessage {
  readonly role: ChatMessage['role'];
  readonly content: string | readonly PromptPart[];
}

/** A piece of a message's text; the parts of a message are one text to the template. */
export interface PromptPart {
  readonly text: string;
  /** Names the part: a document, an image in text form. */
  readonly segment?: { readonly kind: SegmentKind; readonly label?: string };
}

export interface GenerateRequest extends GenerateOptions {
  model: string;
  /** Exactly one of messages, text and tokens. `text` gets a BOS token where the model wants one. */
  messages?: readonly PromptMessage[];
  text?: string;
  tokens?: readonly number[];
  /**
   * Named parts of `tokens`, by token, or of `text`, by UTF-16 offset as in `text.slice(from, to)`: ascending, disjoint, none
   * empty. A part of a text takes every token that begins within it. Messages name theirs themselves.
   */
  segments?: readonly Segment[];
  /** From openSession: reuses the longest common prefix of what the session holds. */
  session?: string;
}

export interface TokenLogprob {
  readonly token: number;
  readonly text: string;
  readonly bytes: readonly number[];
  readonly logprob: number;
  readonly top: readonly {
    readonly token: number;
    readonly text: string;
    readonly bytes: readonly number[];
    readonly logprob: number;
  }[];
}

export type FinishReason = 'stop' | 'length';

export interface GeneratePart {
  /** Which of the n answers. */
  readonly index: number;
  /** New text; whole UTF-8 characters only, never any of a stop string. May be empty. */
  readonly text: string;
  /** Tokens that this part accounts for. */
  readonly tokens: readonly number[];
  readonly logprobs?: readonly TokenLogprob[];
  /** On an answer's last part. */
  readonly finishReason?: FinishReason;
  /** In a part without tokens, where `progress` was asked for. */
  readonly prompt?: PromptProgress;
  /** On the last part of the whole request. */
  readonly usage?: Usage;
}

/** How far a prompt is. A reader that lags behind misses some, never the last one. */
export interface PromptProgress {
  readonly fraction: number;
  /** At its end: what the cache holds of the prompt, before any token is written. */
  readonly cache?: Usage['cache'];
}

export interface Usage {
  readonly promptTokens: number;
  /** Prompt tokens whose cache entries were reused (session). */
  readonly cachedTokens: number;
  /** Why no more of the session's cache was, where more might have been expected. */
  readonly whyNotCached?: string;
  readonly completionTokens: number;
  readonly timings: Timings;
  readonly cache: {
    /** Format of exact pages. */
    readonly format: FormatName;
    /** The recipe, as text; `full` without one. */
    readonly recipe: string;
    /** Entries a view (layer, KV head) holds at the end, averaged over views. */
    readonly kept: number;
    /** In the arena at the end: of all answers together, what they share counted once. */
    readonly bytes: number;
    /** What `bytes` is made of. */
    readonly items: ByteItems;
    /** Entries in ordinary memory or a file at the end: not part of `bytes`. */
    readonly parked: number;
    /** The most bytes in the arena at any moment; of several answers the greatest one's alone, or `bytes`. */
    readonly peak: number;
  };
}

export interface Timings {
  /** Milliseconds: waiting for admission, prompt, from arrival to the first token, decoding. */
  readonly queueMs: number;
  readonly prefillMs: number;
  readonly firstTokenMs: number;
  readonly decodeMs: number;
  readonly prefillTokensPerSecond: number;
  readonly decodeTokensPerSecond: number;
}

export interface ScoreRequest {
  model: string;
  prompt: string | readonly number[];
  /** Empty: score the prompt itself from its second token on. */
  continuation: string | readonly number[];
  /** Alternatives a position, 0..20. */
  top?: number;
  cache?: FormatName;
  kv?: RecipeInput;
  prefill?: 'token' | 'layer';
  /** What methods draw by. Default 0. */
  seed?: number;
}

export interface ScoreResult {
  readonly tokens: readonly number[];
  /** Natural log; one a token. */
  readonly logprobs: Float64Array;
  /** The most likely token at each place. */
  readonly best: Int32Array;
  readonly top: readonly (readonly { token: number; logprob: number }[])[];
}

export interface EngineStats {
  readonly running: number;
  readonly waiting: number;
  readonly models: readonly { readonly name: string; readonly cache: CacheStats }[];
  /** KV bytes of all models together. */
  readonly cacheBytes: number;
  readonly cachePeak: number;
  readonly cacheLimit: number;
  readonly weightBytes: number;
  readonly memoryLimit: number;
  readonly sessions: number;
  readonly totals: { readonly requests: number; readonly promptTokens: number; readonly completionTokens: number };
}

/** What crosses between a caller's thread and the engine's. */
export type EngineMessage =
  | { type: 'call'; id: number; method: string; args: unknown[] }
  | { type: 'abort'; id: number }
  | { type: 'pull'; id: number }
  | { type: 'result'; id: number; value: unknown }
  | { type: 'part'; id: number; part: GeneratePart }
  | { type: 'progress'; id: number; progress: LoadProgress }
  | { type: 'end'; id: number }
  | { type: 'error'; id: number; error: ErrorJSON };
