import type { CacheSequence } from '../../cache/sequence.ts';
import type { SignalRequest, SignalValue } from '../../methods/types.ts';

/** Query rows of a prompt at one layer. */
export interface QueryRows {
  /** Address of f32 [rows][heads * headDim], before RoPE. */
  readonly address: number;
  readonly rows: number;
  /** i32 [rows] */
  readonly positions: Int32Array;
  /** Which rows of the prompt these are, ascending, and how many it has; absent: all. */
  readonly numbers?: Uint32Array;
  readonly of?: number;
}

export interface HiddenRows {
  readonly address: number;
  readonly rows: number;
  position(row: number): number;
}

/** What signals are asked about: one layer of a sequence, and the rows that ran through it. */
export interface SensePoint {
  readonly sequence: CacheSequence;
  readonly layer: number;
  /** Rows of the prompt, all among them that any request asks for. null: nobody asks for queries. */
  readonly queries: QueryRows | null;
  /** Decides which rows are sampled. Default 0. */
  readonly seed?: number;
  /** f32 [rows][hidden] that entered the layer, and the positions of the rows. null: nobody asks for it. */
  readonly hidden: HiddenRows | null;
}

/** The value of a request that was among those asked (an equal one will do); raises `invalid_request` for others. */
export type Signals = <S extends SignalRequest>(request: S) => SignalValue<S>;

/** What one decoding row looked at: the probability that query head h gives to entry i of its view is values[offsets[h] + i]. */
export interface StepAttention {
  /** Over the kernels' memory; valid until the next call of `step` or until the memory grows. */
  readonly values: Float32Array;
  /** [heads] */
  readonly offsets: Uint32Array;
  /** [kvHeads] */
  readonly entries: Uint32Array;
}

/** How much was computed, so that a test can tell what a method costs. */
export interface SenseCounts {
  /** Query rows whose softmax was computed, layer by layer. */
  rows: number;
  /** The same for decoding steps. */
  steps: number;
  /** Entries whose key or value was decoded. */
  decoded: number;
  /** Hidden rows that were looked at. */
  hidden: number;
  grams: number;
  clusters: number;
}
