import type { FormatName } from '../../src/cache/types.ts';
import type { LoadProgress } from '../../src/engine/types.ts';
import type { LiveEvent } from '../../src/eval/live.ts';
import type { Measured } from '../../src/methods/measured.ts';
import type { Paper } from '../../src/methods/types.ts';
import type { ChatMessage } from '../../src/model/types.ts';

/** What the page needs of an engine, wherever it runs: behind HTTP or in this browser. */
export interface ChatClient {
  models(): Promise<ModelList>;
  /** What recipes are made of. */
  methods(): Promise<Library>;
  /** One text under several recipes, beside the full cache. Leaving the loop or aborting stops the work. */
  compare(request: CompareAsk, signal: AbortSignal): AsyncIterable<LiveEvent>;
  load(model: string, onProgress: (progress: LoadProgress) => void): Promise<PageModel>;
  /** Leaving the loop or aborting stops the work. The last part has the figures. */
  chat(request: ChatAsk, signal: AbortSignal): AsyncIterable<ChatPart>;
  countTokens(model: string, messages: readonly ChatMessage[]): Promise<number>;
  /** KV cache bytes that the engine holds now, for all that it runs. */
  cacheBytes(): Promise<number>;
}

export interface ModelList {
  readonly models: readonly PageModel[];
  /** The command that gets a better model; null where none helps. */
  readonly pullCommand: string | null;
}

export interface PageModel {
  readonly name: string;
  readonly state: 'available' | 'loading' | 'loaded';
  readonly bundled: boolean;
  readonly bytes: number;
  /** While loaded. */
  readonly info?: {
    readonly parameters: number;
    readonly context: number;
    readonly kvBytesPerToken: Readonly<Record<FormatName, number>>;
  };
}

/** The methods that recipes are made of, and what they did on the bundled model (null: not known). */
export interface Library {
  readonly methods: readonly PageMethod[];
  readonly measured: Measured | null;
}

export interface PageMethod {
  readonly name: string;
  readonly title: string;
  readonly family: string;
  readonly summary: string;
  readonly claim: string;
  readonly paper: Paper | null;
  readonly profile: string | null;
  readonly profileOptional: boolean;
  /** Names of its options. */
  readonly options: readonly string[];
  readonly worksWith: readonly string[];
}

export interface CompareAsk {
  readonly model: string;
  readonly messages: readonly ChatMessage[];
  readonly recipes: readonly string[];
  readonly maxTokens: number;
}

export interface ChatAsk {
  readonly model: string;
  readonly messages: readonly ChatMessage[];
  readonly temperature: number;
  readonly maxTokens: number;
  readonly cache: FormatName;
  /** The recipe; absent: the model's. */
  readonly kv?: string;
}

export interface ChatPart {
  readonly text: string;
  /** How many tokens this part accounts for. */
  readonly tokens: number;
  readonly finishReason?: string;
  readonly figures?: Figures;
}

export interface Figures {
  readonly promptTokens: number;
  readonly completionTokens: number;
  readonly firstTokenMs: number;
  readonly tokensPerSecond: number;
  readonly cacheBytes: number;
  readonly cachePeak: number;
  /** The recipe that ran. */
  readonly recipe: string;
  /** Entries that a layer and KV head holds at the end, averaged. */
  readonly kept: number;
}

/** The server does not do what it was asked, and says why; `field` is what is wrong in the request, where it is known. */
export class Refused extends Error {
  override readonly name = 'Refused';
  readonly field: string | null;

  constructor(message: string, field: string | null) {
    super(message);
    this.field = field;
  }
}

/** The server wants an API key. */
export class KeyRequired extends Error {
  override readonly name = 'KeyRequired';
}
