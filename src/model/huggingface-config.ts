import { KvasirError } from '../errors.ts';
import { completeConfig, GEMMA_PATTERN } from './architecture.ts';
import { type RopeSettings, ropeSettings } from './huggingface-rope.ts';
import { isObject, type JsonObject } from './json.ts';
import { ropeTable } from './rope.ts';
import type { Architecture, ModelConfig } from './types.ts';

const MODEL_TYPES: Record<string, Architecture> = {
  llama: 'llama',
  mistral: 'llama',
  qwen2: 'qwen2',
  qwen3: 'qwen3',
  gemma3_text: 'gemma3',
  gemma3: 'gemma3',
};

/** What each configuration class of transformers assumes where a file is silent. */
const DEFAULTS: Record<Architecture, JsonObject> = {
  llama: { max_position_embeddings: 2048, rms_norm_eps: 1e-6 },
  qwen2: { max_position_embeddings: 32_768, rms_norm_eps: 1e-6 },
  qwen3: { max_position_embeddings: 32_768, rms_norm_eps: 1e-6, head_dim: 128 },
  gemma3: {
    vocab_size: 262_208,
    hidden_size: 2304,
    intermediate_size: 9216,
    num_hidden_layers: 26,
    num_attention_heads: 8,
    num_key_value_heads: 4,
    head_dim: 256,
    max_position_embeddings: 131_072,
    rms_norm_eps: 1e-6,
    query_pre_attn_scalar: 256,
    sliding_window: 4096,
  },
};

/** The part of config.json that describes the language model. */
export function languageConfig(config: JsonObject): JsonObject {
  return isObject(config.text_config) ? { ...config.text_config, model_type: config.model_type } : config;
}

/**
 * The configuration that a config.json states (`languageConfig` of it).
 *
 * @param hasHead whether the files hold an output matrix of their own
 *
 * Raises `unknown_architecture`, `unsupported` or `bad_model_file`, naming the field.
 */
export function huggingFaceConfig(json: JsonObject, hasHead: boolean, qkvBias: boolean): ModelConfig {
  const architecture = MODEL_TYPES[String(json.model_type)];
  if (architecture === undefined) {
    throw new KvasirError('unknown_architecture', `model_type "${String(json.model_type)}" is not known.`, {
      field: 'model_type',
      value: String(json.model_type),
      allowed: Object.keys(MODEL_TYPES),
    });
  }
  const config: JsonObject = { ...DEFAULTS[architecture], ...dropNulls(json) };
  const gemma = architecture === 'gemma3';
  refuse(config, 'quantization_config', value => value !== undefined, 'F32, F16 and BF16 weights');
  refuse(config, 'mlp_bias', value => value === true, 'false');
  refuse(config, 'use_bidirectional_attention', value => value === true, 'false');
  refuse(config, 'attn_logit_softcapping', value => value !== undefined, 'null');
  refuse(config, 'final_logit_softcapping', value => value !== undefined, 'null');
  const activation = config.hidden_activation ?? config.hidden_act ?? (gemma ? 'gelu_pytorch_tanh' : 'silu');
  const expected = gemma ? 'gelu_pytorch_tanh' : 'silu';
  if (activation !== expected) throw unsupported('hidden_act', activation, expected);

  const layers = size(config, 'num_hidden_layers');
  const hidden = size(config, 'hidden_size');
  const heads = size(config, 'num_attention_heads');
  const kvHeads = config.num_key_value_heads === undefined ? heads : size(config, 'num_key_value_heads');
  const headDim = config.head_dim === undefined ? hidden / heads : size(config, 'head_dim');
  const ropes = ropeSettings(config, gemma);
  const table = (settings: RopeSettings) => ropeTable(settings.theta, evenChannels(headDim), settings.scaling);
  const tied = config.tie_word_embeddings;
  return completeConfig({
    architecture,
    layers,
    hidden,
    heads,
    kvHeads,
    headDim,
    intermediate: size(config, 'intermediate_size'),
    vocab: size(config, 'vocab_size'),
    context: size(config, 'max_position_embeddings'),
    normEpsilon: Number(config.rms_norm_eps),
    attentionScale: 1 / Math.sqrt(gemma ? size(config, 'query_pre_attn_scalar') : headDim),
    qkvBias,
    tiedEmbeddings: typeof tied === 'boolean' ? tied : gemma || !hasHead,
    rope: table(ropes.full),
    ...(ropes.sliding && { windowRope: table(ropes.sliding) }),
    window: windows(config, architecture),
  });
}

/** Window of each layer: by `layer_types` where the file lists them, else by the architecture's rule. */
function windows(config: JsonObject, architecture: Architecture): (layer: number) => number {
  const stated = config.sliding_window === undefined ? 0 : size(config, 'sliding_window');
  const types = config.layer_types;
  if (Array.isArray(types)) {
    return layer => {
      if (types[layer] === 'full_attention') return 0;
      if (types[layer] === 'sliding_attention' && stated > 0) return stated;
      throw unsupported('layer_types', types[layer], 'full_attention, sliding_attention with a sliding_window');
    };
  }
  if (architecture === 'gemma3') {
    const pattern = Number(config.sliding_window_pattern ?? config._sliding_window_pattern ?? GEMMA_PATTERN);
    return layer => ((layer + 1) % pattern === 0 ? 0 : stated);
  }
  if (architecture === 'llama') return () => (config.model_type === 'mistral' ? stated : 0);
  const first = Number(config.max_window_layers ?? 28);
  return layer => (config.use_sliding_window === true && layer >= first ? stated : 0);
}

function size(config: JsonObject, field: string): number {
  const value = config[field];
  if (typeof value === 'number' && Number.isInteger(value) && value > 0) return value;
  throw new KvasirError(
    'bad_model_file',
    `config.json: "${field}" is ${value === undefined ? 'missing' : JSON.stringify(value)}.`,
    { field, value: value === undefined ? 'missing' : value, allowed: 'an integer above 0' },
  );
}

// The table must not be sized before the head is known to be a sane one.
function evenChannels(headDim: number): number {
  if (Number.isInteger(headDim) && headDim % 2 === 0 && headDim <= 1024) return headDim;
  throw new KvasirError('bad_model_file', `config.json: the head dimension is ${headDim}.`, {
    field: 'head_dim',
    value: headDim,
    allowed: 'an even integer up to 1024',
  });
}

function refuse(config: JsonObject, field: string, wrong: (value: unknown) => boolean, allowed: string): void {
  if (wrong(config[field])) throw unsupported(field, config[field], allowed);
}

function unsupported(field: string, value: unknown, allowed: string): KvasirError {
  const shown = isObject(value) ? 'set' : String(value);
  return new KvasirError('unsupported', `config.json: "${field}" is ${shown}; Kvasir runs ${allowed}.`, {
    field,
    value: shown,
    allowed,
  });
}

function dropNulls(json: JsonObject): JsonObject {
  return Object.fromEntries(Object.entries(json).filter(([, value]) => value !== null));
}
