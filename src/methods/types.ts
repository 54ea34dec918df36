import type { z } from 'zod';
import type { JointFormat, PlaneFormat, ScalarFormat } from '../cache/format.ts';
import type { RowNet } from '../cache/types.ts';

/**
 * What a published KV-cache method is here: sense, decide, act (docs/architecture.md, section 1). A method asks for signals,
 * looks at them, and returns actions; it never touches a cache, a model or a backend. Everything in this file is data or a
 * pure function of data, so that one method file serves every backend.
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

/** f32 arrays, one a KV head (or a query head where a request asks for no group reduction). */
export type PerHead = readonly Float32Array[];

/**
 * Heavy things to find out, reduced on the backend. The same request by several methods is computed once; what nobody asks
 * for is not computed.
 */
export type SignalRequest =
  | AttentionSignal
  | RowSignal
  | HiddenPeakSignal
  | SimilaritySignal
  | DistanceSignal
  | NearestSignal
  | ResidualSignal
  | GramSignal
  | PrincipalSignal
  | RangeSignal
  | ClusterSignal;

/**
 * Softmax probabilities of the last `rows` rows of the prompt, or of a share of its rows, over the entries of the layer
 * (causal, after RoPE, scaled by the model's factor), reduced over the rows, then pooled along entries and reduced over the
 * query heads of a group. PerHead, [entries] each.
 */
export interface AttentionSignal {
  readonly signal: 'attention';
  /**
   * Whose rows: default the prompt's. Those of the probe (Policy.probe) look at what is cached and not at each other: their
   * softmax is over the entries alone. Without a probe nothing can be answered.
   */
  readonly from?: 'probe';
  readonly rows: number | 'all' | RowShares;
  /**
   * `variance` is the unbiased one; `entropy` is the sum over rows of -p ln(p + 1e-10); `seen-mean` divides the sum of an entry
   * by how many of the rows can see it (0 where none can).
   */
  readonly reduce: 'sum' | 'mean' | 'max' | 'variance' | 'entropy' | 'seen-mean';
  /**
   * Same length, stride 1. `mean` divides by the width at the borders too (zeros are padded). Pooling and then reducing is the
   * order unless `after` says `group`.
   */
  readonly pool?: { readonly kind: 'mean' | 'max'; readonly width: number; readonly after?: 'group' };
  /** Leave out the last `drop` entries before pooling (the observation window): arrays are that much shorter. Default 0. */
  readonly drop?: number;
  /** Default: none, one array a query head. */
  readonly group?: 'mean' | 'sum' | 'max';
}

/**
 * Rows that stand for all of the prompt (chunk): shares of its rows, 0 to 1, each rounded up to whole rows; all rows where
 * there are fewer than 20. Which ones are sampled depends on the request's seed and on how many rows there are.
 */
export interface RowShares {
  /** The last ones. */
  readonly last: number;
  /** Drawn evenly from the others, none twice. */
  readonly sampled: number;
}

/** L2 norms: of keys or values by entry (PerHead), of hidden rows entering the layer by prompt row (one array of `rows`). */
export interface RowSignal {
  readonly signal: 'key-norm' | 'value-norm' | 'hidden-norm';
}

/**
 * Which tokens of the prompt own the `count` elements of greatest magnitude of all hidden rows that enter the layer (massive
 * activations): their positions, i32, ascending, each once. Of equal elements the earlier ones count.
 */
export interface HiddenPeakSignal {
  readonly signal: 'hidden-peaks';
  /** At least 1. */
  readonly count: number;
}

/** Cosines, PerHead: of neighbouring entries i and i + 1 ([entries - 1]); or of the same entry at an earlier layer ([entries]). */
export interface SimilaritySignal {
  readonly signal: 'neighbour-cosine' | 'layer-cosine';
  readonly of: 'k' | 'v';
  /** `layer-cosine`: the other layer. */
  readonly layer?: number;
}

/**
 * Squared Euclidean distances of pairs of entries, PerHead [pairs]. Which pairs is found out in `decide`, so this one signal
 * is asked for there without having been announced by `sense`.
 */
export interface DistanceSignal {
  readonly signal: 'distance';
  readonly of: 'k' | 'v';
  /** [kvHeads]: entry numbers a0, b0, a1, b1, ... */
  readonly pairs: readonly Uint32Array[];
}

/**
 * For each of some entries, which of others has the row most like its own, anywhere in the view: the one of the greatest cosine.
 * Asked for where it is looked at, as DistanceSignal is.
 */
export interface NearestSignal {
  readonly signal: 'nearest';
  readonly of: 'k' | 'v';
  /** [kvHeads]: entry numbers; at least one where the head has members. */
  readonly centres: readonly Uint32Array[];
  /** [kvHeads]: entry numbers. */
  readonly members: readonly Uint32Array[];
}

/** Of one KV head. */
export interface Nearest {
  /** u32 [members]: the place in `centres` of the one that is most alike; the first among equals. */
  readonly place: Uint32Array;
  /** f32 [members], from -1 to 1; 0 where a row is zero. */
  readonly cosine: Float32Array;
}

/**
 * What the span of some entries leaves of others: the norm of x - QQ'x, Q an orthonormal basis of the span. Asked for where it
 * is looked at, as DistanceSignal is. PerHead, [members] each.
 */
export interface ResidualSignal {
  readonly signal: 'residual';
  readonly of: 'k' | 'v';
  /** [kvHeads]: entry numbers; none span nothing. */
  readonly basis: readonly Uint32Array[];
  /** [kvHeads]: entry numbers. */
  readonly members: readonly Uint32Array[];
  /** Entries of `basis` that span, at most: from 1. */
  readonly rank: number;
  /** first: the first ones; pivot: one after the other that of which the others leave most. */
  readonly choose: 'first' | 'pivot';
}

/**
 * Exact rows of several layers side by side, X [entries, sum over layers of kvHeads * headDim] (layer by layer, head by head):
 * its Gram matrix X^T X, f64 row-major. All views must hold the same entries; only the first `entries` of them count.
 */
export interface GramSignal {
  readonly signal: 'gram';
  readonly of: 'k' | 'v';
  readonly layers: readonly number[];
  readonly entries?: number;
}

/**
 * The `rank` directions that hold most of the energy of the rows of GramSignal: f32 [width][rank], orthonormal columns, greatest
 * first; rank a multiple of 8. Between directions of nearly equal energy the choice is free.
 */
export interface PrincipalSignal {
  readonly signal: 'principal';
  readonly of: 'k' | 'v';
  readonly layers: readonly number[];
  readonly rank: number;
}

/**
 * Least and greatest value of each channel, PerHead: [2 * headDim], minima first. `k` and `v`: over the entries, keys as they
 * are stored. `q`: over all rows of the prompt (chunk) and the query heads of the group, after RoPE.
 */
export interface RangeSignal {
  readonly signal: 'ranges';
  readonly of: 'k' | 'v' | 'q';
}

/** k-means of keys (mean key taken off, Lloyd steps from strided centroids, within blocks of 8,192 entries). */
export interface ClusterSignal {
  readonly signal: 'clusters';
  /** Mean entries a cluster. */
  readonly size: number;
  readonly rounds: number;
  /** Entries [from, entries - to) take part. */
  readonly skipFirst: number;
  readonly skipLast: number;
}

export interface Clusters {
  /** Cluster number of each entry that takes part. */
  readonly assignment: Uint32Array;
  readonly count: number;
}

export type SignalValue<S extends SignalRequest> = S extends GramSignal
  ? Float64Array
  : S extends NearestSignal
    ? readonly Nearest[]
    : S extends ClusterSignal
      ? readonly Clusters[]
      : S extends HiddenPeakSignal
        ? Int32Array
        : S extends { signal: 'hidden-norm' | 'principal' }
          ? Float32Array
          : PerHead;

/**
 * What a decision asks the cache to do. Neighbours of one kind are one plan: checked and given room together, entry numbers are
 * those before it. Plans follow one another; each sees what those before it have left, numbers included. All that a decision
 * returns holds, or none of it: where one plan is refused or finds no room, the ones before are taken back.
 */
export type Action =
  | KeepAction
  | MergeAction
  | MapAction
  | EncodeAction
  | JoinAction
  | RowsAction
  | ParkAction
  | RenumberAction
  | ColumnAction;

/** Keeps the given entries of each KV head (ascending), drops the others. Any layer up to this one: finished ones can be kept again. */
export interface KeepAction {
  readonly do: 'keep';
  readonly layer: number;
  /** [kvHeads] */
  readonly entries: readonly Uint32Array[];
}

/**
 * Replaces groups of entries by one each: entry `targets[g]` (one of the members) becomes the weighted sum of members
 * [starts[g], starts[g + 1]); the other members are dropped. The target keeps its position.
 */
export interface MergeAction {
  readonly do: 'merge';
  readonly layer: number;
  readonly head: number;
  readonly targets: Uint32Array;
  /** [groups + 1] */
  readonly starts: Uint32Array;
  readonly members: Uint32Array;
  /** Weights of the members, for K and V. */
  readonly weightsK: Float32Array;
  readonly weightsV: Float32Array;
  /** `sum` (default): K = sum of w k. `direction`: K = (sum of w k / |k|, normalised) * (sum of w |k| / sum of w). */
  readonly key?: 'sum' | 'direction';
  /** What the target's column `bias`, a log-weight added to its scores, becomes; default 0. */
  readonly bias?: Float32Array;
}

/**
 * Writes rows of entries anew: each becomes f(rows of its sources), f from a fixed list. All sources are read before any row is
 * written. Entries stay where they are, with their positions and columns; what they share with forks is copied first.
 */
export interface MapAction {
  readonly do: 'map';
  readonly layer: number;
  readonly head: number;
  /** Entries that get new rows, each once in a plan; their rows must be exact. */
  readonly targets: Uint32Array;
  /** Entry i of each source goes with target i. Rows of sources may be encoded. */
  readonly sources: readonly MapSource[];
  readonly by: MapFunction;
}

export interface MapSource {
  /** Default: those of the action. */
  readonly layer?: number;
  readonly head?: number;
  readonly entries: Uint32Array;
}

export type MapFunction =
  /** Weighted sums, weights f32 [targets][sources] for K and for V; `key` as in MergeAction. */
  | {
      readonly kind: 'blend';
      readonly weightsK: Float32Array;
      readonly weightsV: Float32Array;
      readonly key?: 'sum' | 'direction';
    }
  /** The key of the one source, turned by i32 [targets] positions; its value as it is. Needs keys after RoPE. */
  | { readonly kind: 'rotate'; readonly by: Int32Array }
  | RowNet;

/**
 * Stores entries in another format; rows are packed into pages of their own, of which the last may have fewer than 64. Exact
 * rows only, unless `again`. Several may name one view; their entries are disjoint.
 */
export type EncodeAction = EncodeFormats & (EncodedRange | EncodedEntries);

export interface EncodeFormats {
  readonly do: 'encode';
  readonly layer: number;
  readonly head: number;
  /** Absent: that plane stays as it is; then a range must be whole pages, and single entries cannot be named. */
  readonly k?: PlaneFormat;
  readonly v?: PlaneFormat;
  /** Name of a parameter block (Policy state `shared`): f16 values; see ScalarPart.scope and ScalarPart.side. The same name is the same block. */
  readonly sharedK?: SharedParams;
  readonly sharedV?: SharedParams;
  /** Scalar rows are decoded and encoded once more; an encoding that would change them adds its error to theirs. */
  readonly again?: boolean;
  /** Columns that the new pages go without: they read 0 there, and what is written there is lost. */
  readonly without?: readonly string[];
}

/** Entries [from, to); their pages stand where they stood. */
export interface EncodedRange {
  readonly from: number;
  readonly to: number;
}

/**
 * Single entries (ascending): a class of tokens. The pages of all classes of a view that one plan makes come, action by action,
 * before the page that holds the first entry any of them takes; what is left of the view follows in its order.
 */
export interface EncodedEntries {
  readonly entries: Uint32Array;
}

/** Values kept once and used by many pages; stored as f16, counted as bytes while any page uses them. */
export interface SharedParams {
  /** Equal keys in one sequence mean the same block. */
  readonly key: string;
  readonly values: Float32Array;
}

/**
 * Moves entries of several views into pages that the views share: `latent` planes. All views must hold exactly the given
 * entries at the same positions. The joined entries come before the others in each view.
 */
export interface JoinAction {
  readonly do: 'join';
  readonly views: readonly { readonly layer: number; readonly head: number }[];
  /** Entry numbers in each view (the same tokens), ascending. */
  readonly entries: readonly Uint32Array[];
  readonly k: JoinPlane;
  readonly v: JoinPlane;
}

export type JoinPlane =
  /**
   * Spherical mean of two views' directions (towards the second by `t`), each view's own norms: MiniCache.
   */
  | { readonly kind: 'directions'; readonly t: number; readonly bits: 16 | 8 | 4 }
  /**
   * Rows X (all views side by side) projected: C = X P, P f32 [views * headDim, rank]; view i reads C times rows
   * [i * headDim, ...) of P, transposed: xKV with P the leading right singular vectors.
   */
  | {
      readonly kind: 'project';
      readonly basis: Float32Array;
      readonly rank: number;
      readonly bits: 16 | 8 | 4;
      readonly key: string;
    }
  /**
   * The views' own rows, which must be exact: `scalar` in each view's cell, `joint` once for all of them, which are then the
   * KV heads that are rotated together, in order (keys only): RotateKV.
   */
  | { readonly kind: 'own'; readonly format: ScalarFormat | JointFormat };

/** Prompt rows that go on to the next layer (indices into this layer's rows, ascending; the last row must be among them). */
export interface RowsAction {
  readonly do: 'rows';
  readonly rows: Uint32Array;
}

/** Gives the entries of a layer the positions 0, 1, 2, ... in order, of all heads; needs keys before RoPE. Later rows count on. */
export interface RenumberAction {
  readonly do: 'renumber';
  readonly layer: number;
}

/** Stores a column of the entries of each KV head; values move with their entries. */
export interface ColumnAction {
  readonly do: 'column';
  readonly layer: number;
  readonly name: string;
  /** [kvHeads], f32[entries] each */
  readonly values: readonly Float32Array[];
}

/**
 * Moves entries out of the arena, in units that are fetched when a RetrieveRule chooses them. `units[u]` are entry numbers;
 * entries in no unit stay.
 */
export interface ParkAction {
  readonly do: 'park';
  readonly layer: number;
  readonly head: number;
  readonly units: readonly Uint32Array[];
  /** Ordinary memory outside the arena, or a file. */
  readonly place: 'memory' | 'file';
  /** Share of the view's parked rows of which a file's units are also held in memory, those used last. Default 0. */
  readonly memory?: number;
  /** What units are known by; the same in all plans of a view. Default: `mean`. */
  readonly index?: UnitIndex;
}

export type UnitIndex =
  /** The mean of its keys. */
  | { readonly kind: 'mean' }
  /** The mean of some of its keys, position taken off: `entries[u]` of unit u. */
  | { readonly kind: 'representatives'; readonly entries: readonly Uint32Array[] }
  /**
   * Least and greatest value of each channel of its keys. With `halvings`, those of its halves, their halves and so on lie
   * beside its rows, and the smallest pieces, 2^halvings of a unit, can be fetched apart.
   */
  | { readonly kind: 'bounds'; readonly halvings?: number };

/** Decisions of every decoding step at one layer, evaluated by the backend after its attention. */
export interface StepRule {
  /** New values of columns, in order, before eviction. */
  readonly columns?: readonly { readonly name: string; readonly value: Expression }[];
  readonly evict?: EvictRule;
  /** Entries of the view get positions 0, 1, 2, ... after an eviction. */
  readonly renumber?: boolean;
  /** Holds at steps only whose number (tokens seen, the newest included) modulo `period` is among `steps`. Default: every step. */
  readonly within?: { readonly period: number; readonly steps: readonly number[] };
}

/** While a view holds more than `over` entries: drops the one with the lowest value among those not protected (ties: the earliest). */
export interface EvictRule {
  /** Entries, or a share of the tokens seen so far, the newest included. */
  readonly over: number | { readonly share: number };
  /** `oldest`: the first unprotected one. `neighbours`: the lower of entries c and c + 1, c the view's cursor, which goes on cyclically (TreeKV). */
  readonly choose: 'lowest' | 'oldest' | 'neighbours';
  /** [kvHeads]: where cursors stand after the prompt. Default: where they stood before it, 0 at first. */
  readonly cursors?: readonly number[];
  readonly value?: Expression;
  /** Entries at the start and at the end that are never dropped. */
  readonly first: number;
  readonly last: number;
  /** One choice a head, or one for the layer (the value is then the mean over its heads; views must be alike). */
  readonly per: 'head' | 'layer';
  /** KV heads that it holds for; default all. */
  readonly heads?: readonly number[];
  /** What is dropped goes into the running mean of entry `first` - 1, a compensation entry with bias ln(count) (RazorAttention). */
  readonly compensate?: boolean;
}

/** An f32 value an entry. Arrays are those of one view; the newest entry is the last. */
export type Expression =
  /** Probabilities that the step's query gave to the entries, reduced over the group's query heads. */
  | { readonly op: 'attention'; readonly group: 'mean' | 'sum' | 'max' }
  | { readonly op: 'column'; readonly name: string }
  | { readonly op: 'constant'; readonly value: number }
  | { readonly op: 'add' | 'multiply' | 'divide' | 'max'; readonly a: Expression; readonly b: Expression }
  | { readonly op: 'pool'; readonly kind: 'mean' | 'max'; readonly width: number; readonly of: Expression };

/**
 * Which ranges of a view a decoding step reads, decided before its attention: units are scored by the step's query, and the
 * chosen ones are read with the entries that are in no unit. State is kept by sequence and layer and forks with the sequence.
 */
export interface RetrieveRule {
  /**
   * `parked`: what ParkActions have moved out; the chosen units are copied back. `size`: runs of so many entries of the view,
   * in order, which stay where they are; what is left over at the end is read. Runs have bounds as their index.
   */
  readonly units: 'parked' | { readonly size: number };
  readonly score: UnitScore;
  /** Each KV head chooses by its own scores, or a layer's heads by the mean of theirs (all hold units alike then). */
  readonly per: 'head' | 'layer';
  readonly choose: UnitChoice;
  /** So many units at the start and at the end of a view are read beside the chosen ones. Default 0. */
  readonly always?: { readonly first: number; readonly last: number };
  /** The numbers of the units that this earlier layer has read at this step are taken over; there is nothing to choose. */
  readonly adopt?: number;
  /**
   * Choose anew where the mean over query heads of cos(q of the last step, q of this one) is below `cosine`, and at least every
   * `most` steps; otherwise the last choice stays. Default: at every step.
   */
  readonly renew?: { readonly cosine: number; readonly most: number };
  /** Rows fetched before that may stay in the arena unread, chosen ones counted; the least recently chosen units go. Default 0. */
  readonly resident?: number;
  /**
   * What rows of a prompt read that has units before it. With one probe query, all rows of a chunk read the units of one
   * choice: the mean of their queries, or one in which queries that stand out weigh more. With windows, so many rows after
   * another choose by all of their queries. Absent: they read what is resident.
   */
  readonly prompt?: 'mean' | ActivationProbe | WindowProbe;
  /**
   * While a prompt is read, so much times the score by the mean query of the policy's probe is added to a unit's own. The probe
   * has run after the chunk before, so the first chunk of a prompt goes without. `cosine` only. Default 0.
   */
  readonly question?: number;
}

export type UnitScore =
  /** q . index / sqrt(headDim), softmax over units, mean over the query heads of a group: units with mean keys. */
  | { readonly by: 'mean' }
  /**
   * The most that q . k can be for a key within the unit's bounds, sum over c of max(q_c least_c, q_c greatest_c); the maximum
   * over the group's query heads. `linear` in its place: q . (linear * greatest + (1 - linear) * least).
   */
  | { readonly by: 'bounds'; readonly linear?: number }
  /** Cosine of the query, turned as if so many positions after it, and the index, all heads side by side: `per` is `layer`. */
  | { readonly by: 'cosine'; readonly distance: number };

/** `share`: of entries or units of the view that could be chosen. Ties go to the earlier unit. */
export type UnitChoice =
  /** Best first, each while `tokens` have room for it. */
  | { readonly by: 'tokens'; readonly tokens: number }
  /**
   * Levels, coarse to fine: of groups of `units` neighbours within what the level before has left, the best ones, so many that
   * they are ceil(share * groups) of all groups; `always` beside them at each level. The last level has `units` 1.
   */
  | { readonly by: 'levels'; readonly levels: readonly { readonly units: number; readonly share: number }[] }
  /**
   * Best first by upper bound, where a unit whose turn comes is split in two, `halvings` times at most, and its halves take
   * part instead; not where its lower bound is above all that is left. Until min(share of the entries, most) tokens are chosen.
   */
  | { readonly by: 'halving'; readonly share: number; readonly most: number }
  /**
   * `mean` units a layer, in all. A layer's part of what the layers before it have left follows the normalised entropy of its
   * scores, mean over its last `history` choices, against that of the layers after it; equal parts until all have as many. At
   * least `least` and at most `most` units, where there are as many and all layers can have as many.
   */
  | {
      readonly by: 'entropy';
      readonly mean: number;
      readonly least: number;
      readonly most: number;
      readonly history: number;
    };

/**
 * A row weighs the more the farther its query is from the running mean of queries: mean over channels of
 * (q - mean)^2 / (variance + mean variance / 100). Statistics take in each window's with a weight of 1 / windows seen, at
 * least 1 / `horizon`; rows weigh alike in the first `warmup` windows. A decoding step is a window of one row.
 */
export interface ActivationProbe {
  readonly horizon: number;
  readonly warmup: number;
}

/** A unit's score is the mean over the rows of `window` (`bounds`: the maximum), as over query heads. Not for `cosine`. */
export interface WindowProbe {
  readonly window: number;
}
