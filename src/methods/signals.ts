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
