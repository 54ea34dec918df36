import { KvasirError } from '../errors.ts';
import { dequantizeRows } from './dequantize.ts';
import { Fingerprint } from './fingerprint.ts';
import { ggufConfig } from './gguf-config.ts';
import { type GgufHeader, readGgufHeader, type StoredTensor } from './gguf-header.ts';
import { ggufTokenizer } from './gguf-tokenizer.ts';
import { matchTensors } from './layout.ts';
import { rowRange } from './rows.ts';
import { BLOCKS } from './tensor-type.ts';
import type { ByteSource, ModelConfig, ModelFile, TensorInfo, TokenizerSpec } from './types.ts';

const LAYER_NAMES: Record<string, string> = {
  attn_norm: 'attn_norm.weight',
  q: 'attn_q.weight',
  k: 'attn_k.weight',
  v: 'attn_v.weight',
  o: 'attn_output.weight',
  q_bias: 'attn_q.bias',
  k_bias: 'attn_k.bias',
  v_bias: 'attn_v.bias',
  q_norm: 'attn_q_norm.weight',
  k_norm: 'attn_k_norm.weight',
  post_attn_norm: 'post_attention_norm.weight',
  mlp_norm: 'ffn_norm.weight',
  gate: 'ffn_gate.weight',
  up: 'ffn_up.weight',
  down: 'ffn_down.weight',
  post_mlp_norm: 'post_ffw_norm.weight',
};
const MODEL_NAMES: Record<string, string> = {
  embed: 'token_embd.weight',
  norm: 'output_norm.weight',
  lm_head: 'output.weight',
};
const ROPE_DIVISORS = 'rope_freqs.weight';

/** GGUF's name of a canonical tensor. */
export function ggufName(canonical: string): string {
  const [, layer, name] = /^layers\.(\d+)\.(.+)$/.exec(canonical) ?? [];
  return layer === undefined ? MODEL_NAMES[canonical] : `blk.${layer}.${LAYER_NAMES[name]}`;
}

/**
 * Opens a GGUF file. Reads the header, the few bytes that RoPE needs and samples for the fingerprint; no weights.
 * The model owns the source and closes it. Raises `bad_model_file`, `unknown_architecture`, `unknown_tensor_type`
 * or `unsupported`, naming the section, key or tensor.
 */
export async function openGguf(source: ByteSource): Promise<ModelFile> {
  const header = await readGgufHeader(source);
  const parts = header.metadata.get('split.count');
  if (typeof parts === 'number' && parts > 1) {
    throw new KvasirError(
      'unsupported',
      `${source.name} is one of ${parts} parts; join them first (gguf-split --merge).`,
      {
        field: 'split.count',
        value: parts,
        allowed: '1',
      },
    );
  }
  const config = ggufConfig(header, await readRopeDivisors(source, header));
  const stored = matchTensors(config, header.tensors, ggufName, name => name === ROPE_DIVISORS);
  const tokenizerOf = ggufTokenizer(header.metadata, config.vocab);
  const fingerprint = new Fingerprint();
  await fingerprint.addText(`gguf ${source.size}`);
  await fingerprint.addRange(source, 0, Math.min(header.dataOffset, source.size));
  await fingerprint.addSamples([...stored.values()].map(({ offset, byteLength }) => ({ source, offset, byteLength })));

  const tensors = new Map<string, TensorInfo>();
  for (const [name, { type, rows, columns, byteLength }] of stored) {
    tensors.set(name, { name, type, rows, columns, byteLength });
  }
  let converted: WeakRef<TokenizerSpec> | undefined;
  return {
    config,
    // Converted when asked for, and let go of when nobody holds it: the merges of a large vocabulary take a while to
    // make and much room to keep, and inspecting a file needs none of them.
    get tokenizer() {
      const known = converted?.deref();
      if (known !== undefined) return known;
      const made = tokenizerOf();
      converted = new WeakRef(made);
      return made;
    },
    tensors,
    fingerprint: fingerprint.toString(),
    source: source.name,
    async read(name, from = 0, to) {
      const tensor = rowRange(stored, name, from, to);
      if (config.architecture === 'llama' && /\.[qk]$/.test(name)) return readRotated(source, tensor, config);
      if (config.architecture === 'llama' && /\.[qk]_bias$/.test(name))
        return readRotatedVector(source, tensor, config);
      return source.read(tensor.offset + tensor.from * tensor.rowBytes, (tensor.to - tensor.from) * tensor.rowBytes);
    },
    close: () => source.close(),
  };
}

async function readRopeDivisors(source: ByteSource, header: GgufHeader): Promise<Float32Array | undefined> {
  const tensor = header.tensors.get(ROPE_DIVISORS);
  if (tensor === undefined) return undefined;
  if (tensor.rows * tensor.columns > 4096) {
    throw new KvasirError('bad_model_file', `Tensor "${ROPE_DIVISORS}" has ${tensor.rows * tensor.columns} elements.`, {
      field: ROPE_DIVISORS,
    });
  }
  return dequantizeRows(tensor.type, await source.read(tensor.offset, tensor.byteLength), tensor.columns);
}

type RowRange = ReturnType<typeof rowRange<StoredTensor>>;

/**
 * Rows of q or k of the llama architecture. GGUF stores channel i of a head's first half at row 2i and of the second
 * half at row 2i + 1; canonical order has the halves one after the other. A head's rows are read at a time.
 */
async function readRotated(source: ByteSource, tensor: RowRange, config: ModelConfig): Promise<Uint8Array> {
  const { from, to, rowBytes } = tensor;
  const dim = config.headDim;
  const out = new Uint8Array((to - from) * rowBytes);
  for (let first = from - (from % dim); first < to; first += dim) {
    const begin = Math.max(from, first);
    const end = Math.min(to, first + dim);
    let least = dim;
    let most = 0;
    for (let row = begin; row < end; row++) {
      const at = storedChannel(row - first, dim);
      least = Math.min(least, at);
      most = Math.max(most, at);
    }
    const bytes = await source.read(tensor.offset + (first + least) * rowBytes, (most - least + 1) * rowBytes);
    for (let row = begin; row < end; row++) {
      const at = (storedChannel(row - first, dim) - least) * rowBytes;
      out.set(bytes.subarray(at, at + rowBytes), (row - from) * rowBytes);
    }
  }
  return out;
}

async function readRotatedVector(source: ByteSource, tensor: RowRange, config: ModelConfig): Promise<Uint8Array> {
  const { elements, bytes: size } = BLOCKS[tensor.type];
  if (elements !== 1) {
    throw new KvasirError('unsupported', `Tensor "${tensor.name}" is a rotated bias of type ${tensor.type}.`, {
      field: tensor.name,
      value: tensor.type,
      allowed: ['F32', 'F16', 'BF16'],
    });
  }
  const bytes = await source.read(tensor.offset, (tensor.to - tensor.from) * tensor.rowBytes);
  const out = new Uint8Array(bytes.length);
  for (let i = 0; i * size < bytes.length; i++) {
    const channel = i % config.headDim;
    const at = (i - channel + storedChannel(channel, config.headDim)) * size;
    out.set(bytes.subarray(at, at + size), i * size);
  }
  return out;
}

function storedChannel(channel: number, dim: number): number {
  const half = dim / 2;
  return channel < half ? 2 * channel : 2 * (channel - half) + 1;
}
