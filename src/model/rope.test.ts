import { describe, expect, test } from 'vitest';
import { ropeSettings } from './huggingface-rope.ts';
import { ropeTable } from './rope.ts';

// Computed by transformers 5.23 (ROPE_INIT_FUNCTIONS): a handful of float32 roundings, each of 6e-8, and ten decimals.
// Ours is float64 throughout.
const CASES: { name: string; channels: number; theta: number; context: number; rope: object; expected: number[]; factor: number }[] = [
  {
    name: 'linear', channels: 8, theta: 10_000, context: 4096, factor: 1,
    rope: { rope_type: 'linear', factor: 4 },
    expected: [0.25, 0.0250000004, 0.0024999999, 0.00025],
  },
  {
    name: 'llama3', channels: 16, theta: 500_000, context: 131_072, factor: 1,
    rope: { rope_type: 'llama3', factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 8192 },
    expected: [1.0, 0.1939227581, 0.0376060307, 0.0072926651, 0.000524846, 3.4281e-5, 6.6479e-6, 1.2892e-6],
  },
  {
    name: 'yarn', channels: 16, theta: 10_000, context: 131_072, factor: 1.138629436111989,
    rope: { rope_type: 'yarn', factor: 4, original_max_position_embeddings: 2048 },
    expected: [1.0, 0.3162277639, 0.1000000015, 0.025693506, 0.0062499996, 0.0013834966, 0.00025, 7.90569e-5],
  },
  {
    name: 'yarn, untruncated', channels: 16, theta: 10_000, context: 131_072, factor: 1.138629436111989,
    rope: { rope_type: 'yarn', factor: 4, original_max_position_embeddings: 2048, truncate: false },
    expected: [1.0, 0.3162277639, 0.1000000015, 0.0238701962, 0.0050569717, 0.0008112905, 0.00025, 7.90569e-5],
  },
  {
    name: 'yarn, mscale', channels: 16, theta: 10_000, context: 131_072, factor: 1.1557219901962608,
    rope: { type: 'yarn', factor: 40, original_max_position_embeddings: 4096, mscale: 1, mscale_all_dim: 0.5, beta_fast: 16, beta_slow: 2 },
    expected: [1.0, 0.3162277639, 0.1000000015, 0.0316227786, 0.0067499992, 0.0011067971, 2.5e-5, 7.9057e-6],
  },
  {
    name: 'yarn, attention factor', channels: 16, theta: 10_000, context: 8192, factor: 1.5,
    rope: { rope_type: 'yarn', factor: 8, original_max_position_embeddings: 1024, attention_factor: 1.5 },
    expected: [1.0, 0.3162277639, 0.078125, 0.0177878123, 0.0034375, 0.0003952847, 0.000125, 3.95285e-5],
  },
]; // biome-ignore format: a case reads as a block

describe('frequency tables agree with transformers', () => {
  test.each(CASES)('$name', ({ channels, theta, context, rope, expected, factor }) => {
    for (const config of [
      { max_position_embeddings: context, rope_theta: theta, rope_scaling: rope },
      { max_position_embeddings: context, rope_parameters: { ...rope, rope_theta: theta } },
    ]) {
      const { full } = ropeSettings(config, false);
      const table = ropeTable(full.theta, channels, full.scaling);
      expect(table.inverseFrequencies.length).toBe(channels / 2);
      table.inverseFrequencies.forEach((f, i) => {
        expect(Math.abs(f - expected[i])).toBeLessThan(4e-7 * expected[i] + 6e-11);
      });
      expect(table.magnitude).toBeCloseTo(factor, 12);
    }
  });
});

test('divisors of a GGUF file divide the plain frequencies', () => {
  const table = ropeTable(10_000, 4, { type: 'default' }, Float32Array.of(1, 8));
  expect([...table.inverseFrequencies]).toEqual([1, 0.01 / 8]);
});

test('Gemma has a table for each kind of layer, in both spellings', () => {
  const older = { rope_theta: 1e6, rope_local_base_freq: 1e4, rope_scaling: { rope_type: 'linear', factor: 8 } };
  const newer = {
    rope_parameters: {
      full_attention: { rope_type: 'linear', factor: 8, rope_theta: 1e6 },
      sliding_attention: { rope_type: 'default', rope_theta: 1e4 },
    },
  };
  const expected = {
    full: { theta: 1e6, scaling: { type: 'linear', factor: 8 } },
    sliding: { theta: 1e4, scaling: { type: 'default' } },
  };
  expect(ropeSettings(older, true)).toEqual(expected);
  expect(ropeSettings(newer, true)).toEqual(expected);
});

test.each([
  [{ rope_scaling: { type: 'dynamic', factor: 2 } }, 'rope_type', 'dynamic'],
  [{ rope_parameters: { rope_type: 'longrope', factor: 2 } }, 'rope_type', 'longrope'],
  [{ partial_rotary_factor: 0.5 }, 'partial_rotary_factor', '0.5'],
])('what depends on the length, or turns some channels only, is refused by name: %j', (config, field, value) => {
  expect(() => ropeSettings(config, false)).toThrow(expect.objectContaining({ code: 'unsupported', field, value }));
});

test.each([
  [{ rope_scaling: { type: 'linear' } }, 'factor'],
  [{ rope_scaling: { type: 'linear', factor: -1 } }, 'factor'],
  [{ rope_scaling: { type: 'linear', factor: '4' } }, 'factor'],
  [{ rope_theta: 0 }, 'rope_theta'],
  [
    {
      rope_scaling: {
        rope_type: 'llama3',
        factor: 8,
        low_freq_factor: 4,
        high_freq_factor: 1,
        original_max_position_embeddings: 8,
      },
    },
    'high_freq_factor',
  ],
  [{ rope_scaling: [] }, 'rope_scaling'],
])('bad numbers are refused with the field: %j', (config, field) => {
  expect(() => ropeSettings(config, false)).toThrow(expect.objectContaining({ code: 'bad_model_file', field }));
});
