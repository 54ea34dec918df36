import type { FormatName } from './types.ts';

/**
 * How one plane (K or V) of a page is stored.
 *   exact   f32, f16, int8: rows can be appended and moved one by one
 *   scalar  codes and parameters: x = side[c] * (LUT[code] * scale + offset), plus outliers, plus a low-rank pair
 *   latent  rows of width `rank` that several views share: x = norm[row] * (C[row] . B), B and norm each view's own
 *   joint   rows of several KV heads, rotated together and then stored as scalar parts; each view reads its own channels back
 * Pages with a scalar, latent or joint plane are immutable: entries can be masked out, never moved or written again.
 */
export type PlaneFormat = FormatName | ScalarFormat | LatentFormat | JointFormat;

/** The one-rule scalar format. Bits an element: sum over parts of bits + 16 * params / group, 32 an outlier, 16 an element of A and B. */
export interface ScalarFormat {
  readonly kind: 'scalar';
  /** Disjoint channel sets that cover all channels. */
  readonly parts: readonly ScalarPart[];
  /** Sparse slots a page: what each of the elements farthest from the decoded value lacks is stored (u16 index, f16 value). Default 0. */
  readonly outliers?: OutlierRule;
  /** Rank of a pair A [64, rank], B [rank, headDim] a page, fitted to what codes and outliers leave (f16). Default 0. */
  readonly lowRank?: LowRankRule;
}

export type ScalarBits = 1 | 2 | 3 | 4 | 8 | 16;

export interface ScalarPart {
  /** Channel numbers, in the order in which they are stored; default all, in order. */
  readonly channels?: readonly number[];
  /** 16: f16 numbers, no parameters. */
  readonly bits: ScalarBits;
  /**
   * Which elements share a scale and an offset: `token` runs along tokens within one channel ("per channel"),
   * `channel` along channels within one token ("per token").
   */
  readonly along: 'token' | 'channel';
  /** Elements that share parameters: 16, 32 or 64 along tokens; along channels it divides the part's width. Default: the whole stretch in a page. */
  readonly group?: number;
  /**
   * `minmax` (default): scale = (max - min) / levels, offset = min (asymmetric, real-valued minimum).
   * `absmax`: 2 to 8 bits, offset 0, scale = max |x| / (2^(bits - 1) - 1), codes around the middle. `sign`: 1 bit, scale =
   * mean |x|, codes -1 and +1. `deviation`: 1 bit, the mean less and plus the mean absolute deviation from it (signs around
   * the mean). `ternary`: 2 bits, codes -1, 0 and +1, offset 0: 0 below `threshold`, scale = mean |x| of the others. Scale and
   * offset are rounded to f16 before codes are taken.
   */
  readonly range?: 'minmax' | 'absmax' | 'sign' | 'deviation' | 'ternary';
  /** `minmax`: share of a group's range, about its middle, that codes span; what lies outside gets the nearest code. Default 1. */
  readonly clip?: number;
  /** `ternary`: as a share of the group's mean |x|. Default 0.5. */
  readonly threshold?: number;
  /** 2^bits ascending values in place of the codes; `lutRange` is then stretched over [min, max] of the group. */
  readonly lut?: readonly number[];
  /** 2^bits - 1 ascending values at which the code changes; default half way between neighbouring values of the LUT. */
  readonly borders?: readonly number[];
  /**
   * Least and greatest value that the LUT stands for, also the bounds of the shared range (OutlierRule); values of the LUT
   * may lie inside it, as the centroids of a codebook do. Default [lut[0], lut[last]].
   */
  readonly lutRange?: readonly [least: number, greatest: number];
  /** Applied to the part's channels of each row before encoding, undone on read; the width is a power of two. */
  readonly transform?: 'hadamard';
  /**
   * `page` (default): parameters are found from the rows and lie in the page. `shared`: they come with a parameter block
   * (f16 scale[width], then for `minmax` f16 offset[width], one a channel) that many pages use; only along tokens.
   */
  readonly scope?: 'page' | 'shared';
  /**
   * The shared parameter block also has f16 side[width], a factor a channel (after scale and offset where those are shared).
   * Rows are divided by it before the transform, and multiplied after it is undone.
   */
  readonly side?: boolean;
}

/** Elements left out of a group's range and stored beside the codes. */
export interface OutlierRule {
  /** Share of the elements of a page, 0..0.25, rounded up to a multiple of 8 slots a page (4 bytes each). */
  readonly share: number;
  /**
   * Which elements: `channel` the greatest and the least of each channel of the page, as many each as the slots suffice for;
   * the slots that are left (all of them where a share of a channel is less than two elements) go, one after the other,
   * where a channel's squared range falls the most without its greatest or its least element. `token` likewise within
   * tokens. `range` those outside the shared range, farthest first (KVQuant); what finds no slot gets the nearest code, and
   * CacheStats counts it.
   */
  readonly per: 'channel' | 'token' | 'range';
}

export interface LowRankRule {
  readonly rank: number;
  /** Rounds of the power iteration. Default 3. */
  readonly rounds?: number;
}

/** Rows shared by several views (MiniCache directions, xKV latents). */
export interface LatentFormat {
  readonly kind: 'latent';
  /** Width of the shared rows; without a basis it is headDim. */
  readonly rank: number;
  /** 16: f16. 8, 4: codes with an f16 scale and offset a row. */
  readonly bits: 16 | 8 | 4;
  /** Each view has a parameter block f16 [rank, headDim]. */
  readonly basis: boolean;
  /** Each view has an f32 factor a row, in its cell. */
  readonly norms: boolean;
}

/**
 * Keys of several KV heads side by side, under one orthonormal Hadamard transform (RotateKV). The parts cover the
 * heads * headDim transformed channels; a view undoes the transform for its own channels when it reads. K planes only.
 */
export interface JointFormat {
  readonly kind: 'joint';
  /** KV heads: a power of two; so is headDim, and their product is at most 1024. */
  readonly heads: number;
  /** At most 128 channels each; no transform, side factors or shared parameters. */
  readonly parts: readonly ScalarPart[];
}

export function isExact(format: PlaneFormat): format is FormatName {
  return typeof format === 'string';
}
