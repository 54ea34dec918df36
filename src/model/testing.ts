import { quantizeRows } from './quantize.ts';
import { rowBytes } from './tensor-type.ts';
import type { Architecture, ModelConfig, ModelFile, TensorInfo, TensorType } from './types.ts';

/** Models made in memory, for tests. */

export interface MemoryTensor {
  readonly type: TensorType;
  readonly rows: number;
  readonly columns: number;
  readonly values: Float32Array;
}

/** A model file over tensors held in memory, by canonical name; values are encoded to their tensor's type. */
export function memoryModel(config: ModelConfig, tensors: Readonly<Record<string, MemoryTensor>>): ModelFile {
  const infos = new Map<string, TensorInfo>();
  const bytes = new Map<string, Uint8Array>();
  for (const [name, { type, rows, columns, values }] of Object.entries(tensors)) {
    const raw = quantizeRows(type, values, columns);
    infos.set(name, { name, type, rows, columns, byteLength: raw.length });
    bytes.set(name, raw);
  }
  return {
    config,
    tokenizer: { json: {}, chatTemplate: null, bosToken: null, eosToken: null, addBos: false, endTokens: [] },
    tensors: infos,
    fingerprint: `memory-${crypto.randomUUID()}`,
    source: 'memory',
    async read(name, from = 0, to) {
      const { type, columns, rows } = infos.get(name)!;
      const stride = rowBytes(type, columns, name);
      return bytes.get(name)!.subarray(from * stride, (to ?? rows) * stride);
    },
    async close() {},
  };
}

/** A small config of an architecture, with what sets it apart. */
export function tinyConfig(architecture: Architecture, overrides: Partial<ModelConfig> = {}): ModelConfig {
  const gemma = architecture === 'gemma3';
  const config: ModelConfig = {
    architecture,
    layers: 2,
    hidden: 64,
    heads: 4,
    kvHeads: 2,
    headDim: 16,
    intermediate: 96,
    vocab: 80,
    context: 512,
    normEpsilon: 1e-5,
    activation: gemma ? 'gelu_tanh' : 'silu',
    attentionScale: 0.25,
    embeddingScale: gemma ? 8 : 1,
    qkvBias: architecture === 'qwen2',
    qkNorm: gemma || architecture === 'qwen3',
    postNorms: gemma,
    tiedEmbeddings: gemma || architecture === 'qwen3',
    ropes: [],
    layerRope: [],
    layerWindow: [],
    ...overrides,
  };
  const { headDim, layers } = config;
  const inverseFrequencies = Float64Array.from({ length: headDim / 2 }, (_, i) => 10000 ** ((-2 * i) / headDim));
  const perLayer = Array.from({ length: layers }, () => 0);
  return { ...config, ropes: [{ inverseFrequencies, magnitude: 1 }], layerRope: perLayer, layerWindow: perLayer };
}

/** Uniform random numbers in [-1, 1), the same for the same seed (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 31 - 1;
  };
}

/** Random tensors for every name that a config asks for; matrices get the type of `typeOf`, vectors float32. */
export function randomTensors(
  config: ModelConfig,
  random: () => number,
  typeOf: (name: string) => TensorType = () => 'F32',
): Record<string, MemoryTensor> {
  const { hidden, heads, kvHeads, headDim, intermediate, vocab, layers } = config;
  const tensors: Record<string, MemoryTensor> = {};
  const matrix = (name: string, rows: number, columns: number) => {
    const scale = Math.sqrt(3 / columns);
    const values = Float32Array.from({ length: rows * columns }, () => random() * scale);
    tensors[name] = { type: typeOf(name), rows, columns, values };
  };
  const vector = (name: string, columns: number, centre: number) => {
    const values = Float32Array.from({ length: columns }, () => centre + random() * 0.3);
    tensors[name] = { type: 'F32', rows: 1, columns, values };
  };
  matrix('embed', vocab, hidden);
  vector('norm', hidden, 1);
  if (!config.tiedEmbeddings) matrix('lm_head', vocab, hidden);
  for (let l = 0; l < layers; l++) {
    const name = (tensor: string) => `layers.${l}.${tensor}`;
    vector(name('attn_norm'), hidden, 1);
    matrix(name('q'), heads * headDim, hidden);
    matrix(name('k'), kvHeads * headDim, hidden);
    matrix(name('v'), kvHeads * headDim, hidden);
    matrix(name('o'), hidden, heads * headDim);
    if (config.qkvBias) {
      vector(name('q_bias'), heads * headDim, 0);
      vector(name('k_bias'), kvHeads * headDim, 0);
      vector(name('v_bias'), kvHeads * headDim, 0);
    }
    if (config.qkNorm) {
      vector(name('q_norm'), headDim, 1);
      vector(name('k_norm'), headDim, 1);
    }
    vector(name('mlp_norm'), hidden, 1);
    matrix(name('gate'), intermediate, hidden);
    matrix(name('up'), intermediate, hidden);
    matrix(name('down'), hidden, intermediate);
    if (config.postNorms) {
      vector(name('post_attn_norm'), hidden, 1);
      vector(name('post_mlp_norm'), hidden, 1);
    }
  }
  return tensors;
}
