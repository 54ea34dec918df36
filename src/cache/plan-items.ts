/** What plans are made of: the items of each kind, and what preparing them gives (docs/architecture.md, "Words"). */
import type { JointFormat, LatentFormat, PlaneFormat, ScalarFormat } from './format.ts';

/** Ranges [from, to) of entry indices of one view, ascending, disjoint: what `keep` keeps. */
export type Ranges = readonly (readonly [from: number, to: number])[];

/** One value an entry of a view; see CacheSequence.prepareColumns. */
export interface ColumnItem {
  readonly slot: number;
  readonly head: number;
  readonly name: string;
  /** f32 [entries] */
  readonly values: Float32Array;
}

export interface KeepItem {
  readonly slot: number;
  readonly head: number;
  /** What stays; a Uint32Array holds pairs (from, to) one after the other. */
  readonly ranges: Ranges | Uint32Array;
}

export interface KeepOptions {
  /**
   * Pages are packed (rows moved together, pages freed) where that frees at least one page and at most this share of the
   * stretch of pages is live. 0..1; default 1: always, so that ceil(kept / 64) pages remain; 0 only masks.
   */
  readonly threshold?: number;
}

/** A checked plan; exactly one of apply and discard ends it. */
export interface PreparedKeep {
  /** Entries that stay in the named views. */
  readonly kept: number;
  /** Applies the whole plan; cannot fail unless the sequence has changed since (`invalid_request`). */
  apply(): void;
  discard(): void;
}

/** A plan that has been checked and has its space; exactly one of apply and discard ends it. apply cannot fail unless the sequence has changed since. */
export interface PreparedPlan {
  apply(): void;
  discard(): void;
}

/** See CacheSequence.prepareEncode. */
export type EncodeItem = EncodeFormats & (EncodedRange | EncodedEntries);

/** Entries [from, to) of the view. */
export interface EncodedRange {
  readonly from: number;
  readonly to: number;
}

/** Single entries of the view, ascending. */
export interface EncodedEntries {
  readonly entries: Uint32Array;
}

export interface EncodeFormats {
  readonly slot: number;
  readonly head: number;
  /** Absent: the plane stays as it is; the range must then be all live rows of whole pages. */
  readonly k?: PlaneFormat;
  readonly v?: PlaneFormat;
  readonly sharedK?: SharedBlock;
  readonly sharedV?: SharedBlock;
  /** Rows of scalar planes are decoded and encoded once more. */
  readonly again?: boolean;
  /** Columns that the new pages do not have: they read 0, what is written there is lost. */
  readonly without?: readonly string[];
}

/** Parameters used by many pages, f16 in memory. Equal (sequence, key): one block; freed with its last page. */
export interface SharedBlock {
  readonly key: string;
  readonly values: Float32Array;
}

/** See CacheSequence.prepareMerge; arrays as in MergeAction (src/methods/types.ts). */
export interface MergeItem {
  readonly slot: number;
  readonly head: number;
  readonly targets: Uint32Array;
  readonly starts: Uint32Array;
  readonly members: Uint32Array;
  readonly weightsK: Float32Array;
  readonly weightsV: Float32Array;
  readonly key?: 'sum' | 'direction';
  readonly bias?: Float32Array;
}

/** See CacheSequence.prepareMap. */
export interface MapItem {
  readonly slot: number;
  readonly head: number;
  /** Entries that get new rows; each once in a plan. */
  readonly targets: Uint32Array;
  /** Where the rows come from: entry i of each goes with target i. */
  readonly sources: readonly MapSource[];
  readonly by: RowMap;
}

export interface MapSource {
  readonly slot: number;
  readonly head: number;
  readonly entries: Uint32Array;
}

export type RowMap =
  /** Weighted sums of the sources' rows: weights f32 [targets][sources]; `key` as in MergeItem. */
  | {
      readonly kind: 'blend';
      readonly weightsK: Float32Array;
      readonly weightsV: Float32Array;
      readonly key?: 'sum' | 'direction';
    }
  /** The key of one source turned: cosines and sines f32 [targets][rotary], no magnitude; its value as it is. */
  | { readonly kind: 'rotate'; readonly turns: Float32Array }
  | RowNet;

/** [k, v] = W2 silu(W1 x + b1) + b2, x the rows of the sources side by side: k, v of the first, k, v of the next, ... */
export interface RowNet {
  readonly kind: 'net';
  /** f32 [hidden][sources * 2 * headDim] */
  readonly weights1: Float32Array;
  /** f32 [hidden] */
  readonly bias1: Float32Array;
  /** f32 [2 * headDim][hidden] */
  readonly weights2: Float32Array;
  /** f32 [2 * headDim] */
  readonly bias2: Float32Array;
}

/** See CacheSequence.prepareJoin. */
export interface JoinItem {
  readonly views: readonly { readonly slot: number; readonly head: number }[];
  /** Entries in each view that become the shared rows, ascending; all arrays have the same length and positions. */
  readonly entries: readonly Uint32Array[];
  readonly k: JoinedPlane | OwnPlane;
  readonly v: JoinedPlane | OwnPlane;
}

/**
 * A plane that keeps the views' own rows, which must be exact: `scalar` in each view's cell, `joint` in the page for all of
 * them, which are the format's heads in order. No shared parameters.
 */
export interface OwnPlane {
  readonly format: ScalarFormat | JointFormat;
}

export interface JoinedPlane {
  readonly format: LatentFormat;
  /** f32 [entries, rank] */
  readonly rows: Float32Array;
  /** One a view, f32 [entries], where the format has norms. */
  readonly norms?: readonly Float32Array[];
  /** One a view, f32 [rank, headDim], where the format has a basis. */
  readonly bases?: readonly SharedBlock[];
}

/** See CacheSequence.preparePark. */
export interface ParkItem {
  readonly slot: number;
  readonly head: number;
  /** Entries of each unit, ascending; no entry in two units. */
  readonly units: readonly Uint32Array[];
  readonly place: 'memory' | 'file';
  /** Share of the view's rows in a file that may also lie in memory: the newest, then those used last. Default 0. */
  readonly memory?: number;
  /** Default `mean`; the same for all units of a view. */
  readonly index?: UnitIndexItem;
}

export type UnitIndexItem =
  | { readonly kind: 'mean' }
  /** A unit is halved so often at most; the bounds of its halves lie where its rows do. */
  | { readonly kind: 'bounds'; readonly halvings?: number }
  /** f32 [units][headDim] */
  | { readonly kind: 'given'; readonly keys: Float32Array };
