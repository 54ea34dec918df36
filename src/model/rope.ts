import { KvasirError } from '../errors.ts';
import type { RopeTable } from './types.ts';

/** How the frequencies are stretched for contexts longer than the model was first trained on. */
export type RopeScaling =
  | { type: 'default' }
  /** Position interpolation: every frequency divided by `factor`. */
  | { type: 'linear'; factor: number }
  /** Llama 3.1: long wavelengths divided, short ones kept, a ramp between. Contexts in tokens. */
  | { type: 'llama3'; factor: number; lowFrequency: number; highFrequency: number; originalContext: number }
  /** YaRN (Peng et al. 2023, section 3): a ramp over channels between interpolated and kept frequencies. */
  | {
      type: 'yarn';
      factor: number;
      originalContext: number;
      betaFast: number;
      betaSlow: number;
      /** Round the ramp's borders to whole channels. */
      truncate: boolean;
      /** Factor on q and on k; computed from `factor` where absent. */
      attentionFactor?: number;
    };

/**
 * @param theta base of the geometric series
 * @param channels rotary channels, even
 * @param divisors length channels / 2: each frequency is divided by its entry (GGUF's `rope_freqs.weight`)
 */
export function ropeTable(theta: number, channels: number, scaling: RopeScaling, divisors?: Float32Array): RopeTable {
  const plain = new Float64Array(channels / 2);
  for (let i = 0; i < plain.length; i++) plain[i] = theta ** ((-2 * i) / channels);
  const { inverseFrequencies, magnitude } = scale(plain, theta, channels, scaling);
  if (divisors) for (let i = 0; i < divisors.length; i++) inverseFrequencies[i] /= divisors[i];
  for (const frequency of inverseFrequencies) {
    if (Number.isFinite(frequency) && frequency >= 0) continue;
    throw new KvasirError('bad_model_file', `RoPE settings give a frequency of ${frequency}.`, { field: 'rope' });
  }
  return { inverseFrequencies, magnitude };
}

function scale(plain: Float64Array, theta: number, channels: number, scaling: RopeScaling): RopeTable {
  switch (scaling.type) {
    case 'default':
      return { inverseFrequencies: plain, magnitude: 1 };
    case 'linear':
      return { inverseFrequencies: plain.map(f => f / scaling.factor), magnitude: 1 };
    case 'llama3':
      return { inverseFrequencies: plain.map(f => llama3(f, scaling)), magnitude: 1 };
    case 'yarn': {
      const ramp = yarnRamp(theta, channels, scaling);
      return {
        inverseFrequencies: plain.map((f, i) => (f / scaling.factor) * ramp[i] + f * (1 - ramp[i])),
        magnitude: scaling.attentionFactor ?? yarnMagnitude(scaling.factor),
      };
    }
  }
}

/** 0.1 ln(factor) + 1: the square root of YaRN's temperature (equation 22). */
export function yarnMagnitude(factor: number, weight = 1): number {
  return factor <= 1 ? 1 : 0.1 * weight * Math.log(factor) + 1;
}

function llama3(frequency: number, s: Extract<RopeScaling, { type: 'llama3' }>): number {
  const wavelength = (2 * Math.PI) / frequency;
  if (wavelength < s.originalContext / s.highFrequency) return frequency;
  if (wavelength > s.originalContext / s.lowFrequency) return frequency / s.factor;
  const kept = (s.originalContext / wavelength - s.lowFrequency) / (s.highFrequency - s.lowFrequency);
  return ((1 - kept) * frequency) / s.factor + kept * frequency;
}

/** Share of interpolation per channel pair, 0 (kept) to 1 (divided). */
function yarnRamp(theta: number, channels: number, s: Extract<RopeScaling, { type: 'yarn' }>): Float64Array {
  // The channel whose wave turns `turns` times over the original context.
  const channel = (turns: number) =>
    (channels * Math.log(s.originalContext / (turns * 2 * Math.PI))) / (2 * Math.log(theta));
  let low = channel(s.betaFast);
  let high = channel(s.betaSlow);
  if (s.truncate) {
    low = Math.floor(low);
    high = Math.ceil(high);
  }
  low = Math.max(low, 0);
  high = Math.min(high, channels - 1);
  if (low === high) high += 0.001;
  return Float64Array.from({ length: channels / 2 }, (_, i) => Math.min(1, Math.max(0, (i - low) / (high - low))));
}
