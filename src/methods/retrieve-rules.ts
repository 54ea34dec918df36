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
