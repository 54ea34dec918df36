import { KvasirError } from '../errors.ts';
import { ARCHITECTURES, completeConfig, GEMMA_PATTERN } from './architecture.ts';
import { type GgufHeader, type MetadataValue, required } from './gguf-header.ts';
import { positive } from './layout.ts';
import { type RopeScaling, ropeTable, yarnMagnitude } from './rope.ts';
import type { Architecture, ModelConfig } from './types.ts';

const GEMMA_WINDOW_THETA = 10_000;
// The one Gemma 3 whose softmax scale is not 1 / sqrt(head dimension); files do not state the scale.
const GEMMA_27B_LAYERS = 62;

/**
 * The configuration that a GGUF file states.
 *
 * @param ropeDivisors content of the tensor `rope_freqs.weight` (Llama 3 scaling)
 *
 * Raises `unknown_architecture`, `unsupported` or `bad_model_file`, naming the metadata key.
 */
export function ggufConfig(header: GgufHeader, ropeDivisors?: Float32Array): ModelConfig {
  const { metadata, tensors } = header;
  const name = required(metadata, 'general.architecture', isString, 'a string');
  const architecture = ARCHITECTURES.find(known => known === name);
  if (architecture === undefined) {
    throw new KvasirError('unknown_architecture', `Architecture "${name}" is not known.`, {
      field: 'general.architecture',
      value: name,
      allowed: ARCHITECTURES,
    });
  }
  const number = (key: string, otherwise?: number): number => {
    const value = metadata.get(`${architecture}.${key}`);
    if (value === undefined && otherwise !== undefined) return otherwise;
    return required(metadata, `${architecture}.${key}`, isNumber, 'a number');
  };
  if (number('expert_count', 0) > 0) throw unsupported(`${architecture}.expert_count`, number('expert_count'), '0');
  for (const softcap of ['attn_logit_softcapping', 'final_logit_softcapping']) {
    if (number(softcap, 0) > 0) throw unsupported(`${architecture}.${softcap}`, number(softcap), '0');
  }

  const layers = number('block_count');
  const hidden = number('embedding_length');
  const heads = sameForAllLayers(metadata, `${architecture}.attention.head_count`);
  const kvHeads = metadata.has(`${architecture}.attention.head_count_kv`)
    ? sameForAllLayers(metadata, `${architecture}.attention.head_count_kv`)
    : heads;
  const headDim = number('attention.key_length', hidden / heads);
  if (number('attention.value_length', headDim) !== headDim) {
    throw unsupported(`${architecture}.attention.value_length`, number('attention.value_length'), `${headDim}`);
  }
  const rotary = number('rope.dimension_count', headDim);
  if (rotary !== headDim) throw unsupported(`${architecture}.rope.dimension_count`, rotary, `${headDim}`);
  const tokens = metadata.get('tokenizer.ggml.tokens');
  const embed = tensors.get('token_embd.weight');
  const vocab = number('vocab_size', embed?.rows ?? (Array.isArray(tokens) ? tokens.length : 0));

  const gemma = architecture === 'gemma3';
  const window = number('attention.sliding_window', 0);
  const pattern = number('attention.sliding_window_pattern', GEMMA_PATTERN);
  const theta = positive(number('rope.freq_base', 10_000), `${architecture}.rope.freq_base`);
  const windowTheta = positive(number('rope.freq_base_swa', GEMMA_WINDOW_THETA), `${architecture}.rope.freq_base_swa`);
  const channels = rotaryChannels(headDim);
  const rope = ropeTable(theta, channels, ggufScaling(architecture, metadata), checkedDivisors(ropeDivisors, channels));
  const perHead = gemma && layers === GEMMA_27B_LAYERS ? hidden / heads : headDim;
  return completeConfig({
    architecture,
    layers,
    hidden,
    heads,
    kvHeads,
    headDim,
    intermediate: sameForAllLayers(metadata, `${architecture}.feed_forward_length`),
    vocab,
    context: number('context_length'),
    normEpsilon: number('attention.layer_norm_rms_epsilon'),
    attentionScale: positive(number('attention.scale', 1 / Math.sqrt(perHead)), `${architecture}.attention.scale`),
    qkvBias: architecture === 'qwen2' || tensors.has('blk.0.attn_q.bias'),
    tiedEmbeddings: !tensors.has('output.weight'),
    rope,
    ...(gemma && window > 0 && { windowRope: ropeTable(windowTheta, channels, { type: 'default' }) }),
    window: layer => (gemma && (layer + 1) % pattern === 0 ? 0 : window),
  });
}

function ggufScaling(architecture: Architecture, metadata: ReadonlyMap<string, MetadataValue>): RopeScaling {
  const key = `${architecture}.rope.scaling.`;
  const number = (name: string, otherwise: number): number => {
    const value = metadata.get(key + name);
    return value === undefined ? otherwise : positive(value, key + name);
  };
  const type = metadata.get(`${key}type`) ?? 'none';
  switch (type) {
    case 'none':
      return { type: 'default' };
    case 'linear':
      return { type: 'linear', factor: number('factor', 1) };
    case 'yarn': {
      const factor = number('factor', 1);
      return {
        type: 'yarn',
        factor,
        originalContext: number(
          'original_context_length',
          positive(metadata.get(`${architecture}.context_length`), 'context_length'),
        ),
        betaFast: number('yarn_beta_fast', 32),
        betaSlow: number('yarn_beta_slow', 1),
        truncate: true,
        attentionFactor: number('attn_factor', 1) * yarnMagnitude(factor),
      };
    }
    default:
      throw unsupported(`${key}type`, type, 'none, linear, yarn');
  }
}

// The table must not be sized before the head is known to be a sane one; completeConfig reports the rest.
function rotaryChannels(headDim: number): number {
  if (Number.isInteger(headDim) && headDim >= 2 && headDim <= 1024 && headDim % 2 === 0) return headDim;
  throw new KvasirError('bad_model_file', `The head dimension is ${headDim}.`, {
    field: 'headDim',
    value: headDim,
    allowed: 'an even integer from 2 to 1024',
  });
}

function checkedDivisors(divisors: Float32Array | undefined, channels: number): Float32Array | undefined {
  if (divisors === undefined) return undefined;
  if (divisors.length === channels / 2 && divisors.every(d => Number.isFinite(d) && d > 0)) return divisors;
  throw new KvasirError('bad_model_file', 'Tensor "rope_freqs.weight" does not fit the rotary channels.', {
    field: 'rope_freqs.weight',
    value: divisors.length,
    allowed: `${channels / 2} numbers above 0`,
  });
}

/** Some files give one number per layer; Kvasir runs models where all are the same. */
function sameForAllLayers(metadata: ReadonlyMap<string, MetadataValue>, key: string): number {
  const value = metadata.get(key);
  if (!Array.isArray(value)) return required(metadata, key, isNumber, 'a number');
  const first = value[0];
  if (!isNumber(first))
    throw new KvasirError('bad_model_file', `Metadata key "${key}" holds no numbers.`, { field: key });
  if (value.some(other => other !== first)) throw unsupported(key, 'different numbers per layer', 'one number');
  return first;
}

function unsupported(key: string, value: MetadataValue, allowed: string): KvasirError {
  return new KvasirError('unsupported', `Metadata key "${key}" is ${String(value)}; Kvasir runs ${allowed}.`, {
    field: key,
    value,
    allowed,
  });
}

export function isNumber(value: MetadataValue): value is number {
  return typeof value === 'number';
}

export function isString(value: MetadataValue): value is string {
  return typeof value === 'string';
}
