import type { JointFormat, PlaneFormat, ScalarFormat } from '../cache/format.ts';
import type { RowNet } from '../cache/types.ts';

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
