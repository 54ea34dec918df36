/** The words of the cache (docs/architecture.md, "Words"). This room knows no method and no model. */

export type FormatName = 'f32' | 'f16' | 'int8';
export const FORMAT_NAMES = ['f32', 'f16', 'int8'] as const satisfies readonly FormatName[];

/** Shape of the caches of one model: `slots` is how many layer caches it has (layer id and slot id are different things). */
export interface CacheShape {
  readonly slots: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** Channels that RoPE turns. */
  readonly rotary: number;
}

/** How the pages of a sequence are made. */
export interface PageOptions {
  readonly formatK: FormatName;
  readonly formatV: FormatName;
  /** Layers x KV heads that one page spans; 1 x 1 unless a method needs them joint. */
  readonly span?: { readonly slots: number; readonly kvHeads: number };
  /** Named f32 columns beside `position`; `bias` is added to the scores. */
  readonly columns?: readonly string[];
  /** Keys are stored before RoPE and turned on read. */
  readonly keysUnrotated?: boolean;
}

export interface CacheStats {
  /** Bytes of pages, position blocks, views, columns and states now held. */
  readonly held: number;
  /** Bytes promised to sequences by `reserve` and not yet held. */
  readonly reserved: number;
  readonly peak: number;
  readonly limit: number;
  readonly pages: number;
  readonly sequences: number;
  /** Bytes by slot; a page that spans several counts in equal parts. */
  readonly bySlot: Float64Array;
  /** Bytes by owner name; a shared page counts for its first owner. */
  readonly byOwner: Readonly<Record<string, number>>;
}

export interface SequenceStats {
  /** Next position. */
  readonly position: number;
  /** Bytes reachable from this sequence, shared pages whole. */
  readonly held: number;
  /** Bytes that freeing this sequence alone would give back. */
  readonly unique: number;
  readonly peak: number;
  /** Entries kept per [slot * kvHeads + head]. */
  readonly tokens: Uint32Array;
}

/** Ranges [from, to) of entry indices of one view, ascending, disjoint: what `keep` keeps. */
export type Ranges = readonly (readonly [from: number, to: number])[];
