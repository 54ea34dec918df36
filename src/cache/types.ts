/** The words of the cache (docs/architecture.md, "Words"). This room knows no method and no model. */
import type { UnitIndexItem } from './plan-items.ts';

export type * from './plan-items.ts';

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
  /** Bytes of parked entries, in ordinary memory or a file: not part of `held`. */
  readonly parked: number;
  /** Bytes of parked rows that have been brought back so far. */
  readonly fetched: number;
  /** Elements beyond a shared range that found no outlier slot and so were stored as the end of the range, so far. */
  readonly clamped: number;
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
  /** Bytes of its parked entries, those shared with forks whole: not part of `held`. */
  readonly parked: number;
  /** Bytes of parked rows that it has brought back so far. */
  readonly fetched: number;
  readonly traffic: Readonly<ParkTraffic>;
  /** What `held` is made of; the sum is `held`. */
  readonly bytes: ByteItems;
}

/** What several sequences hold together; see SequenceStats. */
export type TogetherStats = Pick<SequenceStats, 'held' | 'parked' | 'bytes'>;

/** Bytes of a sequence by what they are for. */
export interface ByteItems {
  /** Planes of pages, by kind (cell-layout.ts), columns not counted. */
  readonly exact: number;
  readonly encoded: number;
  readonly joint: number;
  /** Columns in pages: 256 bytes each in a cell. */
  readonly columns: number;
  /** Blocks of positions, their rows in the table included. */
  readonly positions: number;
  /** Lists of references. */
  readonly references: number;
  /** Parameter blocks. */
  readonly shared: number;
  readonly states: number;
  /** The sequence's arrays and the rows of its pages in the page table. */
  readonly tables: number;
}

export interface SequenceOptions {
  /** Who pays in the accounts (tenant, request). */
  readonly owner: string;
  readonly pages: PageOptions;
  /** Other page options for some slots; a page's span must lie within slots of equal options. */
  readonly overrides?: ReadonlyMap<number, PageOptions>;
}

/** A view as the kernels see it: valid until the sequence changes. */
export interface ViewInfo {
  /** Address of REF records (kernels/abi.ts). */
  readonly refs: number;
  readonly refCount: number;
  readonly entries: number;
}

/** Decoded content of one view, in order of entries. */
export interface ReadResult {
  /** f32 [entries, headDim] */
  readonly k: Float32Array;
  readonly v: Float32Array;
  /** i32 [entries], shift included. */
  readonly positions: Int32Array;
  /** f32 [entries] each */
  readonly columns: Readonly<Record<string, Float32Array>>;
}

/** The parked units of one view; see CacheSequence.units. */
export interface ParkedUnits {
  readonly count: number;
  /** How many parts of a unit can be fetched apart: piece p of unit u has the number u * pieces + p. */
  readonly pieces: number;
  /** Entries of each, u32 [count]. */
  readonly lengths: Uint32Array;
  readonly kind: UnitIndexItem['kind'];
  /**
   * f32 [count][headDim]: `mean`, of the keys of each as they are stored, or what was `given`; f32 [count][2 * headDim]: least
   * and then greatest values of their channels (`bounds`).
   */
  readonly index: Float32Array;
}

/** What a sequence has read of its parked entries, by where they lay, in bytes and (arena) rows. */
export interface ParkTraffic {
  /** Rows copied into the arena, and rows that were chosen and there already. */
  rows: number;
  hits: number;
  /** Bytes of rows and of bounds read from ordinary memory and from a file. */
  memory: number;
  file: number;
}
