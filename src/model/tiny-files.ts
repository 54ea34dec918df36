/** Tiny model files made in memory, for tests. */

import { ggufName } from './gguf.ts';
import { type GgufTensor, meta, type TypedValue, writeGguf } from './gguf-writer.ts';
import { quantizeRows } from './quantize.ts';
import { BYTE_OF_CHARACTER } from './token-bytes.ts';
import type { Architecture, TensorType } from './types.ts';

export const TINY = { hidden: 32, heads: 4, kvHeads: 2, headDim: 8, intermediate: 64, layers: 2 } as const;

export type GgufData = GgufTensor & { data: Uint8Array };

/** A generator of numbers from 0 to 1 that gives the same ones for a seed (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

export function randomValues(count: number, random: () => number): Float32Array {
  return Float32Array.from({ length: count }, () => random() * 2 - 1);
}

/** 256 bytes, two merges and three control tokens. */
export function byteLevelMetadata(pre = 'gpt-2'): Record<string, TypedValue> {
  const tokens = [...BYTE_OF_CHARACTER.keys(), 'he', 'll', '<|endoftext|>', '<|im_start|>', '<|im_end|>'];
  const types = tokens.map((_, id) => (id < 258 ? 1 : 3));
  return {
    'tokenizer.ggml.model': meta.string('gpt2'),
    'tokenizer.ggml.pre': meta.string(pre),
    'tokenizer.ggml.tokens': meta.strings(tokens),
    'tokenizer.ggml.token_type': meta.numbers('i32', types),
    'tokenizer.ggml.merges': meta.strings(['h e', 'l l']),
    'tokenizer.ggml.bos_token_id': meta.u32(258),
    'tokenizer.ggml.eos_token_id': meta.u32(260),
    'tokenizer.chat_template': meta.string(
      "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    ),
  };
}

/** A SentencePiece vocabulary with byte fallback: 3 special tokens, 256 bytes, 13 pieces from id 259 on. */
export function sentencePieceMetadata(addSpacePrefix: boolean): Record<string, TypedValue> {
  const pieces = ['▁he', 'll', '▁hell', '▁hello', '▁h', 'he', 'lo', '▁', 'h', 'e', 'l', 'o', 'w'];
  const bytes = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`);
  const tokens = ['<unk>', '<s>', '</s>', ...bytes, ...pieces];
  const typeOf = (id: number) => (id === 0 ? 2 : id < 3 ? 3 : id < 259 ? 6 : 1);
  const scores = tokens.map((_, id) => (id < 259 ? 0 : 258 - id));
  return {
    'tokenizer.ggml.model': meta.string('llama'),
    'tokenizer.ggml.tokens': meta.strings(tokens),
    'tokenizer.ggml.scores': meta.numbers('f32', scores),
    'tokenizer.ggml.token_type': meta.numbers(
      'i32',
      tokens.map((_, id) => typeOf(id)),
    ),
    'tokenizer.ggml.bos_token_id': meta.u32(1),
    'tokenizer.ggml.eos_token_id': meta.u32(2),
    'tokenizer.ggml.unknown_token_id': meta.u32(0),
    'tokenizer.ggml.add_space_prefix': meta.bool(addSpacePrefix),
  };
}

export interface TinyOptions {
  architecture?: Architecture;
  /** Type of the matrices; norms and biases are F32. */
  type?: TensorType;
  tokenizer?: Record<string, TypedValue>;
  /** Replaces, adds or (undefined) removes metadata. */
  metadata?: Record<string, TypedValue | undefined>;
  /** Changes the tensors before they are written. */
  tensors?: (tensors: GgufData[]) => GgufData[];
  alignment?: number;
  seed?: number;
}

/** A valid GGUF file of random weights with the sizes of TINY. */
export function tinyGguf(options: TinyOptions = {}): Uint8Array {
  const { architecture = 'llama', type = 'F32', tokenizer = byteLevelMetadata(), alignment = 32, seed = 1 } = options;
  const { hidden, heads, kvHeads, headDim, intermediate, layers } = TINY;
  const tokens = (tokenizer['tokenizer.ggml.tokens'].value as string[]).length;
  const metadata: Record<string, TypedValue | undefined> = {
    'general.architecture': meta.string(architecture),
    [`${architecture}.block_count`]: meta.u32(layers),
    [`${architecture}.context_length`]: meta.u32(128),
    [`${architecture}.embedding_length`]: meta.u32(hidden),
    [`${architecture}.feed_forward_length`]: meta.u32(intermediate),
    [`${architecture}.attention.head_count`]: meta.u32(heads),
    [`${architecture}.attention.head_count_kv`]: meta.u32(kvHeads),
    [`${architecture}.attention.layer_norm_rms_epsilon`]: meta.f32(1e-5),
    [`${architecture}.rope.freq_base`]: meta.f32(10_000),
    ...tokenizer,
    ...options.metadata,
  };
  const random = seeded(seed);
  const tensors: GgufData[] = [];
  const add = (canonical: string, rows: number, columns: number) => {
    const stored = rows === 1 ? 'F32' : type;
    const data = quantizeRows(stored, randomValues(rows * columns, random), columns);
    tensors.push({ name: ggufName(canonical), type: stored, rows, columns, data });
  };
  add('embed', tokens, hidden);
  for (let l = 0; l < layers; l++) {
    const layer = (name: string, rows: number, columns: number) => add(`layers.${l}.${name}`, rows, columns);
    layer('attn_norm', 1, hidden);
    layer('q', heads * headDim, hidden);
    layer('k', kvHeads * headDim, hidden);
    layer('v', kvHeads * headDim, hidden);
    layer('o', hidden, heads * headDim);
    if (architecture === 'qwen2') {
      layer('q_bias', 1, heads * headDim);
      layer('k_bias', 1, kvHeads * headDim);
      layer('v_bias', 1, kvHeads * headDim);
    }
    if (architecture === 'qwen3' || architecture === 'gemma3') {
      layer('q_norm', 1, headDim);
      layer('k_norm', 1, headDim);
    }
    if (architecture === 'gemma3') layer('post_attn_norm', 1, hidden);
    layer('mlp_norm', 1, hidden);
    layer('gate', intermediate, hidden);
    layer('up', intermediate, hidden);
    layer('down', hidden, intermediate);
    if (architecture === 'gemma3') layer('post_mlp_norm', 1, hidden);
  }
  add('norm', 1, hidden);
  const kept = Object.entries(metadata).filter((entry): entry is [string, TypedValue] => entry[1] !== undefined);
  return writeGguf(Object.fromEntries(kept), options.tensors?.(tensors) ?? tensors, alignment);
}

/** A valid safetensors file. */
export function writeSafetensors(
  tensors: Readonly<Record<string, { dtype: string; shape: readonly number[]; data: Uint8Array }>>,
): Uint8Array {
  const header: Record<string, unknown> = {};
  let offset = 0;
  for (const [name, { dtype, shape, data }] of Object.entries(tensors)) {
    header[name] = { dtype, shape, data_offsets: [offset, offset + data.length] };
    offset += data.length;
  }
  const json = new TextEncoder().encode(JSON.stringify(header));
  const file = new Uint8Array(8 + json.length + offset);
  new DataView(file.buffer).setBigUint64(0, BigInt(json.length), true);
  file.set(json, 8);
  let at = 8 + json.length;
  for (const { data } of Object.values(tensors)) {
    file.set(data, at);
    at += data.length;
  }
  return file;
}
