import { KvasirError } from '../errors.ts';
import { checkSizes } from './layout.ts';
import type { Architecture, ModelConfig, RopeTable } from './types.ts';

export const ARCHITECTURES: readonly Architecture[] = ['llama', 'qwen2', 'qwen3', 'gemma3'];

/** Gemma 3's default: every sixth layer attends to the whole context. */
export const GEMMA_PATTERN = 6;

/** What a file states; the rest of a ModelConfig follows from the architecture. */
export interface StatedConfig {
  readonly architecture: Architecture;
  readonly layers: number;
  readonly hidden: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly intermediate: number;
  readonly vocab: number;
  readonly context: number;
  readonly normEpsilon: number;
  readonly attentionScale: number;
  readonly qkvBias: boolean;
  readonly tiedEmbeddings: boolean;
  readonly rope: RopeTable;
  /** Table of the layers with a window, where it differs (Gemma 3). */
  readonly windowRope?: RopeTable;
  /** Window per layer, 0 for the whole context; called for each layer. */
  readonly window: (layer: number) => number;
}

/** Raises `bad_model_file` where sizes are out of range or contradict each other. */
export function completeConfig(stated: StatedConfig): ModelConfig {
  checkSizes(stated);
  const { rope, windowRope, window, ...sizes } = stated;
  if (!(stated.normEpsilon >= 0 && stated.normEpsilon < 1)) {
    throw new KvasirError('bad_model_file', `The norm epsilon is ${stated.normEpsilon}.`, {
      field: 'normEpsilon',
      value: stated.normEpsilon,
      allowed: 'a number from 0 to 1',
    });
  }
  const gemma = stated.architecture === 'gemma3';
  const layerWindow = Array.from({ length: stated.layers }, (_, l) => window(l));
  for (const size of layerWindow) {
    if (Number.isInteger(size) && size >= 0) continue;
    throw new KvasirError('bad_model_file', `The sliding window is ${size}.`, {
      field: 'slidingWindow',
      value: size,
      allowed: 'an integer of at least 0',
    });
  }
  return {
    ...sizes,
    activation: gemma ? 'gelu_tanh' : 'silu',
    embeddingScale: gemma ? Math.sqrt(stated.hidden) : 1,
    qkNorm: gemma || stated.architecture === 'qwen3',
    postNorms: gemma,
    ropes: windowRope ? [rope, windowRope] : [rope],
    layerRope: layerWindow.map(size => (windowRope && size > 0 ? 1 : 0)),
    layerWindow,
  };
}
