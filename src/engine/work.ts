import type { CacheSequence } from '../cache/sequence.ts';

/** Rows of one sequence, on their way through the layers. */
export interface Work {
  readonly sequence: CacheSequence;
  /** Token ids of the rows [from, from + rows). */
  readonly tokens: ArrayLike<number>;
  readonly from: number;
  readonly rows: number;
  /** Index of the first row among the sequence's tokens. Its position at a layer is that slot's next one. */
  readonly position: number;
  /** i32[rows]: positions of rows that do not count on by one (rows were dropped on the way). */
  readonly positions?: Int32Array;
  /** Which rows get logits. */
  readonly logits: 'none' | 'last' | 'all';
  /** A recipe's decisions at each step of decoding; then rows must not have been prepared: each layer does it. */
  readonly hooks?: StepHooks;
  /** What the rows of a prompt read where that is not all. */
  readonly reads?: PartialReads;
}

/** What attention reads of a sequence where that is not all of its entries. */
export interface PartialReads {
  readsPart(layer: number): boolean;
  /** Where part of a layer is read: writes REF records of a view, of which there are at most refCount; returns how many. */
  writeRefs(layer: number, head: number, address: number): number;
}

/** What a decoding row does around the attention of a layer. The row is the last of its sequence, `query` before RoPE. */
export interface StepHooks extends Partial<PartialReads> {
  beforeAttention(layer: number, query: QueryRow): void;
  afterAttention(layer: number, query: QueryRow): void;
}

/** Row `row` of f32 [rows][heads * headDim] at `address`. */
export interface QueryRow {
  readonly address: number;
  readonly row: number;
  readonly position: number;
}

/** A work's hooks or their rows have failed: the others go on, its sequence holds rows of this step in some slots only. */
export type WorkFailure = (work: Work, error: unknown) => void;

/** Called once for each row that asked for logits: [vocab], valid (and free to change) during the call. */
export type LogitSink = (work: Work, row: number, logits: Float32Array) => void;

export function countRows(works: readonly Work[]): number {
  let rows = 0;
  for (const work of works) rows += work.rows;
  return rows;
}
