import type { z } from 'zod';
import type { Action } from './actions.ts';
import type { RetrieveRule } from './retrieve-rules.ts';
import type { DistanceSignal, NearestSignal, ResidualSignal, SignalRequest, SignalValue } from './signals.ts';
import type { StepRule } from './step-rules.ts';

export type * from './actions.ts';
export type * from './retrieve-rules.ts';
export type * from './signals.ts';
export type * from './step-rules.ts';

/**
 * What a published KV-cache method is here: sense, decide, act (docs/architecture.md, section 1). A method asks for signals,
 * looks at them, and returns actions; it never touches a cache, a model or a backend. Everything here, and in the files whose
 * types it hands on, is data or a pure function of data, so that one method file serves every backend.
 */

/** A method as users choose it: an entry of the registry. */
export interface Method<O = unknown> {
  /** In recipes: lower case, words joined by "-". */
  readonly name: string;
  /** As the paper writes it. */
  readonly title: string;
  readonly family: Family;
  /** Two sentences: what it does, when to use it. */
  readonly summary: string;
  /** null: a control or a baseline without a paper. */
  readonly paper: Paper | null;
  /** The paper's headline claim in one sentence; '' without a paper. */
  readonly claim: string;
  /** Options with defaults, bounds and descriptions: help, docs and the HTTP schema come from it. */
  readonly options: z.ZodType<O>;
  readonly traits: Traits;
  /** Where options change the traits: these stand in the place of `traits`. */
  traitsOf?(options: O): Traits;
  /** Kinds of profile files that it needs (head profile, calibration); see Profile. */
  readonly profile?: string;
  /** It serves without the profile too, only less well. */
  readonly profileOptional?: true;
  /**
   * One policy a request: options checked, model known. Raises KvasirError(`invalid_request`) where this model cannot use them,
   * with the option as the field; users are told `invalid_recipe` and the step's place in the recipe (createPolicies).
   * The policy itself must not change later: what changes lies in `state`.
   */
  create(options: O, model: ModelShape, profile?: unknown): Policy;
}

export type Family =
  | 'control'
  | 'keep'
  | 'allocate'
  | 'merge'
  | 'format'
  | 'lowrank'
  | 'retrieve'
  | 'reuse'
  | 'schedule'
  | 'skip';

export interface Paper {
  readonly title: string;
  /** Year and month, 2024-04. */
  readonly date: string;
  readonly arxiv: string;
  readonly venue?: string;
}

/** What composition rules look at (composition.ts). */
export interface Traits {
  /** Where in a recipe it acts: stages must not go backwards. */
  readonly stage: 'keep' | 'merge' | 'join' | 'encode' | 'retrieve';
  /** An entry it leaves depends on the tokens before it alone, so a prefix of the cache may be reused under any continuation. */
  readonly prefixStable: boolean;
  /** Which views end up with different entries: `none`, heads of one layer, layers (heads alike), or both. */
  readonly ragged?: 'none' | 'heads' | 'layers' | 'both';
  /** Drops entries while decoding: the oldest ones in order, or any single ones. */
  readonly drops?: 'oldest' | 'single';
  /** Needs keys before RoPE in the pages. */
  readonly keysUnrotated?: boolean;
  /** Needs keys after RoPE in the pages: it compares or combines rows as attention sees them. */
  readonly keysRotated?: boolean;
  /** Gives entries new positions. */
  readonly renumbers?: boolean;
  /** Leaves entries in another order than that of the text; `heads`: in each head of a layer another one. */
  readonly reorders?: boolean | 'heads';
  /** Relies on the positions that tokens had in the text. */
  readonly truePositions?: boolean;
  /** Keeps in a layer, at every turn, what it has chosen in another. */
  readonly sameLayers?: boolean;
  /** Needs all heads of a layer (`heads`), all layers (`layers`) or all layers and heads (`all`) of a group to hold the same entries. */
  readonly needsSame?: 'heads' | 'layers' | 'all';
  /** Reads or writes rows one by one, so that rows must not be encoded before. */
  readonly needsExact?: boolean;
  /** Settles layers in groups (Policy.settles): methods after it see a layer when the rows of the prompt are gone. */
  readonly settlesLate?: boolean;
  /** Chooses what each step reads (Policy.retrieve); so does every method of the stage `retrieve`. */
  readonly selects?: boolean;
  /** Looks at the rows of the prompt while they run: the attention of their queries, or their hidden states. */
  readonly needsPrompt?: boolean;
  /** Turns all of the cache it leaves into pages that nothing after it may change. */
  readonly seals?: boolean;
}

export interface ModelShape {
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  /** heads / kvHeads: query heads that share a KV head. */
  readonly group: number;
  readonly headDim: number;
  /** Channels of keys that RoPE turns. */
  readonly rotary: number;
  readonly context: number;
  /** By layer: 0, or the sliding window of its attention. */
  readonly layerWindow: readonly number[];
  /** Identifies weights; profiles are bound to it. */
  readonly fingerprint: string;
}

/** What one method does for one sequence. All members are optional: a policy without any is the full cache. */
export interface Policy {
  /** What the pages need beside their format. */
  readonly pages?: {
    readonly keysUnrotated?: boolean;
    /** f32 values an entry (`bias` is added to scores); step rules name the ones they keep. */
    readonly columns?: readonly string[];
  };
  /** Signals that `decide` will look at, once this layer has run the whole prompt. */
  sense?(layer: number): readonly SignalRequest[];
  /**
   * Called after all rows of a prompt (or of a chunk of it) have run through a layer, in the order of layers. Attention there
   * was exact. The actions are carried out, all or none (Action), before the next method of the recipe is asked.
   */
  decide?(at: PromptLayer): readonly Action[];
  /** Called for a layer, at rest, when its last page has been filled while decoding (every 64 tokens). */
  filled?(at: FilledLayer): readonly Action[];
  /**
   * Decisions taken every step of decoding, as data. null: none at this layer. Asked at the end of every prompt, after all its
   * actions: limits may depend on `at`.
   */
  step?(layer: number, at: CacheLayer): StepRule | null;
  /**
   * Where every view drops entries at each step: how many it holds at most after each step of decoding, of a sequence of
   * `tokens` tokens in the end. Never falls as `tokens` rises. Absent: nothing is known.
   */
  most?(tokens: number): number;
  /** What is read at a step of decoding; see RetrieveRule. null: all. */
  retrieve?(layer: number): RetrieveRule | null;
  /** Tokens a prompt is cut into; decide is then asked after each chunk (`evict=chunk`). Default: the prompt is one chunk. */
  readonly chunk?: number;
  /**
   * The layer whose `decide` settles this layer, where layers are decided in groups: until then its rows stay exact, and the
   * methods after this one in the recipe are not asked about it. The peak is then a group of layers. Default: the layer itself.
   */
  settles?(layer: number): number;
  /**
   * Before a prompt is read: ranges [from, to) of its tokens whose embeddings `probe` wants to see, none empty. An embedding is
   * the mean of the model's input embeddings of the tokens, of unit length: f32 [hidden].
   */
  passages?(at: PromptText): readonly (readonly [from: number, to: number])[];
  /**
   * Before a prompt is read: token ids of a probe, null: none. After the prompt (after each chunk of it) they run layer by layer
   * as if they came next, and are taken back before `decide` is asked: attention `from` the probe is about their queries.
   * @param embeddings those of `passages`
   */
  probe?(at: PromptText, embeddings: readonly Float32Array[]): ArrayLike<number> | null;
}

/** A prompt as text, before it is read. */
export interface PromptText {
  readonly model: ModelShape;
  /** Ids of all tokens of the sequence, this prompt's last. */
  readonly tokens: ArrayLike<number>;
  /** Where this prompt begins in them: what is before has been read. */
  readonly start: number;
  /** As CacheLayer.segments, of all these tokens. */
  readonly segments: readonly Segment[];
  /** Ids of a text as it stands within other text; nothing in it is taken for a special token. */
  tokenize(text: string): readonly number[];
  /** As CacheLayer.state: the same object. */
  state<T extends object>(init: () => T): T;
}

/**
 * Tokens [from, to) of a sequence that belong together, by their positions in the text. Images are segments of tokens too:
 * screens in text form, or tokens of a model that sees.
 */
export interface Segment {
  readonly kind: SegmentKind;
  readonly from: number;
  readonly to: number;
  readonly label?: string;
}

export type SegmentKind = 'system' | 'turn' | 'document' | 'image' | 'text';

/** A sequence's cache at one layer and the layers before it. Entries are numbered in order within a view (layer, KV head). */
export interface CacheLayer {
  readonly layer: number;
  readonly model: ModelShape;
  /** Tokens that the sequence has seen so far, kept or not. */
  readonly seen: number;
  /** Parts of the text that its sender has named, those seen so far: ascending, disjoint, none empty. */
  readonly segments: readonly Segment[];
  /** Entries of a view now. */
  entries(head: number, layer?: number): number;
  /** i32[entries]: positions. */
  positions(head: number, layer?: number): Int32Array;
  /**
   * Ranges [from, to) of entries that lie in full exact pages (64 live entries) and not yet in the last, growing one. With
   * `plane` that plane alone must be exact: the other may have been encoded before.
   */
  fullPages(head: number, layer?: number, plane?: 'k' | 'v'): readonly (readonly [from: number, to: number])[];
  /** Ranges of entries whose rows are exact. */
  exact(head: number, layer?: number): readonly (readonly [from: number, to: number])[];
  /** f32[entries]: a column that the policy's pages have; 0 where nothing was stored. */
  column(name: string, head: number, layer?: number): Float32Array;
  /** The method's state for this sequence: a plain object, made by `init` at first use; forks with the sequence and counts as bytes. */
  state<T extends object>(init: () => T): T;
  /** Numbers in [0, 1) that depend on the request's seed, the tokens seen, the layer and the method alone. */
  random(): () => number;
}

/** A layer at rest whose last page has just been filled. */
export interface FilledLayer extends CacheLayer {
  signal<S extends DistanceSignal | NearestSignal | ResidualSignal>(request: S): SignalValue<S>;
}

export interface PromptLayer extends CacheLayer {
  /** Rows of the prompt (chunk) that ran through this layer; fewer than tokens where rows were dropped before. */
  readonly rows: number;
  /** Is this the last chunk of the prompt? */
  readonly last: boolean;
  /** One of the signals that `sense` asked for. */
  signal<S extends SignalRequest>(request: S): SignalValue<S>;
}
