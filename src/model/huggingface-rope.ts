import { KvasirError } from '../errors.ts';
import { isObject, type JsonObject } from './json.ts';
import { positive } from './layout.ts';
import { type RopeScaling, yarnMagnitude } from './rope.ts';

export interface RopeSettings {
  readonly theta: number;
  readonly scaling: RopeScaling;
}

/**
 * RoPE of a config.json, in the older spelling (`rope_theta`, `rope_scaling`, Gemma's `rope_local_base_freq`) or the
 * newer (`rope_parameters`, for Gemma one per kind of layer). Semantics: transformers' modeling_rope_utils.
 * Raises `unsupported` naming a type that depends on the length (dynamic, longrope) or is not known.
 */
export function ropeSettings(config: JsonObject, gemma: boolean): { full: RopeSettings; sliding?: RopeSettings } {
  const parameters = objectOr(config.rope_parameters, 'rope_parameters');
  if (gemma) {
    const sliding = objectOr(parameters.sliding_attention, 'rope_parameters.sliding_attention');
    const full = isObject(parameters.full_attention) ? parameters.full_attention : parameters;
    const scaling = objectOr(config.rope_scaling, 'rope_scaling');
    return {
      full: settings(config, { ...scaling, ...full }, config.rope_theta ?? 1_000_000),
      sliding: settings(config, sliding, config.rope_local_base_freq ?? 10_000),
    };
  }
  const scaling = objectOr(config.rope_scaling, 'rope_scaling');
  return { full: settings(config, { ...scaling, ...parameters }, config.rope_theta ?? 10_000) };
}

function settings(config: JsonObject, rope: JsonObject, theta: unknown): RopeSettings {
  const partial = rope.partial_rotary_factor ?? config.partial_rotary_factor ?? 1;
  if (partial !== 1) throw unsupported('partial_rotary_factor', partial, '1');
  return { theta: positive(rope.rope_theta ?? theta, 'rope_theta'), scaling: scalingOf(config, rope) };
}

function scalingOf(config: JsonObject, rope: JsonObject): RopeScaling {
  const number = (field: string, otherwise?: number) => positive(rope[field] ?? otherwise, field);
  const type = String(rope.rope_type ?? rope.type ?? 'default');
  switch (type) {
    case 'default':
      return { type };
    case 'linear':
      return { type, factor: number('factor') };
    case 'llama3': {
      const lowFrequency = number('low_freq_factor');
      const highFrequency = number('high_freq_factor');
      if (highFrequency <= lowFrequency) {
        throw new KvasirError('bad_model_file', 'config.json: "high_freq_factor" is not above "low_freq_factor".', {
          field: 'high_freq_factor',
          value: highFrequency,
          allowed: `above ${lowFrequency}`,
        });
      }
      const originalContext = number('original_max_position_embeddings');
      return { type, factor: number('factor'), lowFrequency, highFrequency, originalContext };
    }
    case 'yarn': {
      const context = positive(config.max_position_embeddings, 'max_position_embeddings');
      const originalContext = number('original_max_position_embeddings', context);
      const factor = number('factor', context / originalContext);
      return {
        type,
        factor,
        originalContext,
        betaFast: number('beta_fast', 32),
        betaSlow: number('beta_slow', 1),
        truncate: rope.truncate !== false,
        attentionFactor: attentionFactor(rope, factor),
      };
    }
    default:
      throw unsupported('rope_type', type, 'default, linear, llama3, yarn');
  }
}

function attentionFactor(rope: JsonObject, factor: number): number {
  if (rope.attention_factor != null) return positive(rope.attention_factor, 'attention_factor');
  if (rope.mscale && rope.mscale_all_dim) {
    return (
      yarnMagnitude(factor, positive(rope.mscale, 'mscale')) /
      yarnMagnitude(factor, positive(rope.mscale_all_dim, 'mscale_all_dim'))
    );
  }
  return yarnMagnitude(factor);
}

function objectOr(value: unknown, field: string): JsonObject {
  if (value === undefined || value === null) return {};
  if (isObject(value)) return value;
  throw new KvasirError('bad_model_file', `config.json: "${field}" is no object.`, { field, allowed: 'an object' });
}

function unsupported(field: string, value: unknown, allowed: string): KvasirError {
  return new KvasirError('unsupported', `config.json: "${field}" is ${String(value)}; Kvasir runs ${allowed}.`, {
    field,
    value: String(value),
    allowed,
  });
}
