/** A tiny Hugging Face folder made in memory, for tests. */

import { quantizeRows } from './quantize.ts';
import { randomValues, seeded, TINY, writeSafetensors } from './tiny-files.ts';
import { BYTE_OF_CHARACTER } from './token-bytes.ts';
import type { TensorType } from './types.ts';

export interface FolderOptions {
  modelType?: 'llama' | 'mistral' | 'qwen2' | 'qwen3' | 'gemma3_text';
  type?: TensorType;
  /** Replaces, adds or (undefined) removes fields of config.json. */
  config?: Record<string, unknown>;
  /** Changes the tensors before they are written. */
  tensors?: (tensors: FolderTensors) => FolderTensors;
  /** Replaces or adds files. */
  files?: Record<string, unknown>;
}

export type FolderTensors = Record<string, { dtype: string; shape: number[]; data: Uint8Array }>;

const encode = (value: unknown) => new TextEncoder().encode(typeof value === 'string' ? value : JSON.stringify(value));

/** tokenizer.json of 256 bytes, two merges and three special tokens from id 258 on. */
export function byteLevelTokenizer(): Record<string, unknown> {
  const vocab: Record<string, number> = Object.create(null);
  for (const token of [...BYTE_OF_CHARACTER.keys(), 'he', 'll']) vocab[token] = Object.keys(vocab).length;
  const special = ['<|endoftext|>', '<|im_start|>', '<|im_end|>'];
  return {
    version: '1.0',
    added_tokens: special.map((content, i) => ({
      id: 258 + i,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: null,
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: { type: 'BPE', unk_token: null, byte_fallback: false, ignore_merges: false, vocab, merges: ['h e', 'l l'] },
  };
}

/** Valid files of random weights with the sizes of TINY, by name. */
export function tinyFolder(options: FolderOptions = {}): Map<string, Uint8Array> {
  const { modelType = 'llama', type = 'F32' } = options;
  const { hidden, heads, kvHeads, headDim, intermediate, layers } = TINY;
  const gemma = modelType === 'gemma3_text';
  const random = seeded(5);
  const tensors: FolderTensors = {};
  const add = (name: string, ...shape: number[]) => {
    const values = randomValues(
      shape.reduce((product, size) => product * size),
      random,
    );
    tensors[`model.${name}`] = { dtype: type, shape, data: quantizeRows(type, values, shape.at(-1)!) };
  };
  add('embed_tokens.weight', 261, hidden);
  for (let l = 0; l < layers; l++) {
    const layer = (name: string, ...shape: number[]) => add(`layers.${l}.${name}`, ...shape);
    layer('input_layernorm.weight', hidden);
    for (const [name, count] of [
      ['q', heads],
      ['k', kvHeads],
      ['v', kvHeads],
    ] as const) {
      layer(`self_attn.${name}_proj.weight`, count * headDim, hidden);
      if (modelType === 'qwen2') layer(`self_attn.${name}_proj.bias`, count * headDim);
    }
    layer('self_attn.o_proj.weight', hidden, heads * headDim);
    if (gemma || modelType === 'qwen3') {
      layer('self_attn.q_norm.weight', headDim);
      layer('self_attn.k_norm.weight', headDim);
    }
    layer('post_attention_layernorm.weight', hidden);
    if (gemma) {
      layer('pre_feedforward_layernorm.weight', hidden);
      layer('post_feedforward_layernorm.weight', hidden);
    }
    layer('mlp.gate_proj.weight', intermediate, hidden);
    layer('mlp.up_proj.weight', intermediate, hidden);
    layer('mlp.down_proj.weight', hidden, intermediate);
  }
  add('norm.weight', hidden);
  const config: Record<string, unknown> = {
    model_type: modelType,
    vocab_size: 261,
    hidden_size: hidden,
    intermediate_size: intermediate,
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: kvHeads,
    head_dim: headDim,
    max_position_embeddings: 128,
    rms_norm_eps: 1e-5,
    rope_theta: 10_000,
    tie_word_embeddings: true,
    eos_token_id: 258,
    ...(gemma && { query_pre_attn_scalar: 16, sliding_window: 16, sliding_window_pattern: 2 }),
    ...options.config,
  };
  const files: Record<string, unknown> = {
    'model.safetensors': writeSafetensors(options.tensors?.(tensors) ?? tensors),
    'config.json': config,
    'generation_config.json': { eos_token_id: [258, 260] },
    'tokenizer.json': byteLevelTokenizer(),
    'tokenizer_config.json': {
      bos_token: '<|endoftext|>',
      eos_token: { content: '<|im_end|>' },
      chat_template: '{{ messages[0].content }}',
    },
    ...options.files,
  };
  const present = Object.entries(files).filter(([, content]) => content !== undefined);
  return new Map(present.map(([name, content]) => [name, content instanceof Uint8Array ? content : encode(content)]));
}
