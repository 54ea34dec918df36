import type { CacheSequence } from '../../cache/sequence.ts';
import type { QueryStatistics } from './probe-query.ts';
import { type RunIndex, runIndex } from './runs.ts';

/** What retrieval remembers of a layer. A plain object: it is kept with the sequence and forks with it. */
export interface LayerState {
  /** f32 [heads * headDim]: the last step's query, after RoPE; null before the first step. */
  last: Float32Array | null;
  /** Steps since the last choice. */
  steps: number;
  /** [kvHeads]: the units (pieces) that are read. */
  chosen: Uint32Array[];
  runs: RunIndex[];
  /** Evenness of the scores at the last choices. */
  history: number[];
  statistics: QueryStatistics | null;
  /** f32 [heads * headDim]: the mean query of the probe after the last chunk of a prompt (RetrieveRule.question). */
  question: Float32Array | null;
}

export interface RetrievalState {
  readonly layers: LayerState[];
  /** Units that the layers from this one on may still choose at this step (UnitChoice `entropy`). */
  left: number;
}

const STATE = 'retrieval';
const none = new Uint32Array();

/** Once, before the first step of a sequence. */
export function beginState(sequence: CacheSequence, layers: number, kvHeads: number): void {
  if (sequence.state<RetrievalState>(STATE)) return;
  const layer = (): LayerState => ({
    last: null,
    steps: 0,
    chosen: Array.from({ length: kvHeads }, () => none),
    runs: Array.from({ length: kvHeads }, runIndex),
    history: [],
    statistics: null,
    question: null,
  });
  countState(sequence, { layers: Array.from({ length: layers }, layer), left: 0 });
}

export function stateOf(sequence: CacheSequence): RetrievalState {
  return sequence.state<RetrievalState>(STATE)!;
}

/** Its bytes have changed: they are counted when a state is set. */
export function countState(sequence: CacheSequence, state: RetrievalState): void {
  sequence.setState(STATE, state);
}
