import { KvasirError } from '../errors.ts';
import { dequantizeRows } from './dequantize.ts';
import { Fingerprint } from './fingerprint.ts';
import { huggingFaceConfig, languageConfig } from './huggingface-config.ts';
import { huggingFaceTokenizer } from './huggingface-tokenizer.ts';
import { isObject, type JsonObject, readObject } from './json.ts';
import { matchTensors } from './layout.ts';
import { rowRange } from './rows.ts';
import { readSafetensors, type SafeTensor } from './safetensors.ts';
import { type FileFolder, readWhole } from './source.ts';
import type { ByteSource, ModelFile, TensorInfo } from './types.ts';

const MAX_CONFIG = 16 << 20;
const MAX_TOKENIZER = 256 << 20;
const MAX_SHARDS = 4096;
/** Where the decoder's tensors may hang: alone, or inside a model that also sees images. */
const PREFIXES = ['model.', 'language_model.model.', 'model.language_model.'];
const HEADS = ['lm_head.weight', 'language_model.lm_head.weight'];

const LAYER_NAMES: Record<string, string> = {
  attn_norm: 'input_layernorm.weight',
  q: 'self_attn.q_proj.weight',
  k: 'self_attn.k_proj.weight',
  v: 'self_attn.v_proj.weight',
  o: 'self_attn.o_proj.weight',
  q_bias: 'self_attn.q_proj.bias',
  k_bias: 'self_attn.k_proj.bias',
  v_bias: 'self_attn.v_proj.bias',
  q_norm: 'self_attn.q_norm.weight',
  k_norm: 'self_attn.k_norm.weight',
  mlp_norm: 'post_attention_layernorm.weight',
  gate: 'mlp.gate_proj.weight',
  up: 'mlp.up_proj.weight',
  down: 'mlp.down_proj.weight',
};
const GEMMA_NAMES: Record<string, string> = {
  ...LAYER_NAMES,
  post_attn_norm: 'post_attention_layernorm.weight',
  mlp_norm: 'pre_feedforward_layernorm.weight',
  post_mlp_norm: 'post_feedforward_layernorm.weight',
};

/**
 * Opens a Hugging Face folder: config.json, tokenizer.json, model.safetensors or its shards, and where present
 * generation_config.json, tokenizer_config.json and chat_template.jinja. Reads no weights but samples for the
 * fingerprint. Raises `bad_model_file`, `unknown_architecture`, `unknown_tensor_type` or `unsupported`,
 * naming the file, field or tensor.
 */
export async function openHuggingFace(folder: FileFolder): Promise<ModelFile> {
  const fingerprint = new Fingerprint();
  const opened: ByteSource[] = [];
  try {
    return await openFolder(folder, fingerprint, opened);
  } catch (error) {
    for (const source of opened) await source.close();
    throw error;
  }
}

async function openFolder(folder: FileFolder, fingerprint: Fingerprint, opened: ByteSource[]): Promise<ModelFile> {
  const object = async (file: string, limit: number, needed: boolean): Promise<JsonObject> => {
    const source = await folder.open(file);
    if (source === null && needed) throw missing(folder, file);
    if (source === null) return {};
    const { bytes, json } = await readObject(source, limit);
    await fingerprint.add(bytes);
    return json;
  };
  const config = await object('config.json', MAX_CONFIG, true);
  const generationConfig = await object('generation_config.json', MAX_CONFIG, false);
  const tokenizerConfig = await object('tokenizer_config.json', MAX_TOKENIZER, false);
  const tokenizerJson = await object('tokenizer.json', MAX_TOKENIZER, true);
  const templateFile = await folder.open('chat_template.jinja');
  let template: string | null = null;
  if (templateFile !== null) {
    const bytes = await readWhole(templateFile, MAX_CONFIG).finally(() => templateFile.close());
    await fingerprint.add(bytes);
    template = new TextDecoder().decode(bytes);
  }

  const language = languageConfig(config);
  const skip = (name: string) =>
    name.endsWith('rotary_emb.inv_freq') || (language !== config && /vision_tower|multi_modal_projector/.test(name));
  const all = await readShards(folder, skip, fingerprint, opened);
  const prefix = PREFIXES.find(candidate => all.has(`${candidate}embed_tokens.weight`)) ?? PREFIXES[0];
  const head = HEADS.find(candidate => all.has(candidate));
  const modelConfig = huggingFaceConfig(
    language,
    head !== undefined,
    all.has(`${prefix}layers.0.self_attn.q_proj.bias`),
  );
  const gemma = modelConfig.architecture === 'gemma3';
  const names = gemma ? GEMMA_NAMES : LAYER_NAMES;
  const nameOf = (canonical: string) => {
    const [, layer, name] = /^layers\.(\d+)\.(.+)$/.exec(canonical) ?? [];
    if (layer !== undefined) return `${prefix}layers.${layer}.${names[name]}`;
    if (canonical === 'lm_head') return head ?? HEADS[0];
    return canonical === 'embed' ? `${prefix}embed_tokens.weight` : `${prefix}norm.weight`;
  };
  const stored = matchTensors(modelConfig, all, nameOf, name => modelConfig.tiedEmbeddings && name === head);
  await fingerprint.addSamples(stored.values());

  const tensors = new Map<string, TensorInfo>();
  for (const [name, { type, rows, columns, byteLength }] of stored) {
    tensors.set(
      name,
      gemma && isNorm(name)
        ? { name, type: 'F32', rows, columns, byteLength: rows * columns * 4 }
        : { name, type, rows, columns, byteLength },
    );
  }
  return {
    config: modelConfig,
    tokenizer: huggingFaceTokenizer({
      tokenizer: tokenizerJson,
      tokenizerConfig,
      config: language,
      generationConfig,
      template,
      vocab: modelConfig.vocab,
    }),
    tensors,
    fingerprint: fingerprint.toString(),
    source: folder.name,
    async read(name, from = 0, to) {
      const tensor = rowRange(stored, name, from, to);
      const { rowBytes, offset, source } = tensor;
      const bytes = await source.read(offset + tensor.from * rowBytes, (tensor.to - tensor.from) * rowBytes);
      return gemma && isNorm(name) ? plusOne(tensor, bytes) : bytes;
    },
    async close() {
      for (const source of opened) await source.close();
    },
  };
}

/** Headers of all weight files, merged; each tensor knows its file. */
async function readShards(
  folder: FileFolder,
  skip: (name: string) => boolean,
  fingerprint: Fingerprint,
  opened: ByteSource[],
): Promise<Map<string, SafeTensor>> {
  const tensors = new Map<string, SafeTensor>();
  for (const file of await shardNames(folder)) {
    const source = await folder.open(file);
    if (source === null) throw missing(folder, file);
    opened.push(source);
    const shard = await readSafetensors(source, skip);
    await fingerprint.addText(`${file} ${source.size}`);
    await fingerprint.add(shard.header);
    for (const [name, tensor] of shard.tensors) {
      if (tensors.has(name)) {
        throw new KvasirError('bad_model_file', `Tensor "${name}" is in two files, ${file} one of them.`, {
          field: name,
        });
      }
      tensors.set(name, tensor);
    }
  }
  return tensors;
}

async function shardNames(folder: FileFolder): Promise<string[]> {
  const index = await folder.open('model.safetensors.index.json');
  if (index === null) return ['model.safetensors'];
  const { json } = await readObject(index, MAX_TOKENIZER);
  const files = isObject(json.weight_map) ? [...new Set(Object.values(json.weight_map))] : [];
  if (files.length > 0 && files.length <= MAX_SHARDS && files.every(file => typeof file === 'string'))
    return files.sort();
  throw new KvasirError('bad_model_file', 'model.safetensors.index.json: "weight_map" names no files.', {
    field: 'weight_map',
    allowed: `names of 1 to ${MAX_SHARDS} files by tensor`,
  });
}

function isNorm(name: string): boolean {
  return name.endsWith('norm');
}

/** Gemma stores norm weights less one. */
function plusOne(tensor: SafeTensor, bytes: Uint8Array): Uint8Array {
  const values = dequantizeRows(tensor.type, bytes, tensor.columns);
  for (let i = 0; i < values.length; i++) values[i] += 1;
  return new Uint8Array(values.buffer);
}

function missing(folder: FileFolder, file: string): KvasirError {
  return new KvasirError('bad_model_file', `${folder.name} has no ${file}.`, { field: file });
}
