import type { Kernels } from '../../backend/types.ts';
import type { CacheSequence } from '../../cache/sequence.ts';
import type { SignalRequest, SignalValue } from '../../methods/types.ts';
import type { ModelConfig } from '../../model/types.ts';
import type { RotaryTable } from '../rotary.ts';

/** Query rows of a prompt at one layer. */
export interface QueryRows {
  /** Address of f32 [rows][heads * headDim], before RoPE. */
  readonly address: number;
  readonly rows: number;
  /** i32 [rows] */
  readonly positions: Int32Array;
}

/** What signals are asked about: one layer of a sequence, and the rows that ran through it. */
export interface SensePoint {
  readonly sequence: CacheSequence;
  readonly layer: number;
  /** The prompt's last rows: at least as many as any request asks for, or all there are. null: nobody asks for attention. */
  readonly queries: QueryRows | null;
  /** f32 [rows][hidden] that entered the layer. null: nobody asks for it. */
  readonly hidden: { readonly address: number; readonly rows: number } | null;
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
  /** Hidden rows whose norm was computed. */
  hidden: number;
  grams: number;
  clusters: number;
}

/** Computes signals (src/methods/types.ts) on the kernels: heavy parts once for all who ask, nothing that nobody asks for. */
export class Sensor {
  readonly counts: SenseCounts = { rows: 0, steps: 0, decoded: 0, hidden: 0, grams: 0, clusters: 0 };

  constructor(kernels: Kernels, config: ModelConfig, ropes: readonly RotaryTable[], deterministic: boolean) {
    void kernels;
    void config;
    void ropes;
    void deterministic;
  }

  /** All requests of one layer at once. Changes nothing in the sequence; work space is given back before it returns. */
  answer(at: SensePoint, requests: readonly SignalRequest[]): Signals {
    void at;
    void requests;
    throw new Error('not yet');
  }

  /**
   * Probabilities of one decoding row at a layer, its own entry included.
   * @param query row `row` of f32 [rows][heads * headDim] at `address`, before RoPE
   */
  step(
    sequence: CacheSequence,
    layer: number,
    query: { readonly address: number; readonly row: number },
    position: number,
  ): StepAttention {
    void [sequence, layer, query, position];
    throw new Error('not yet');
  }

  /** Gives its work space back. */
  dispose(): void {}
}
