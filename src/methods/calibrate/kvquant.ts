import { PAGE_TOKENS } from '../../../kernels/abi.ts';
import { outlierSlots } from '../../cache/plane-layout.ts';
import type { KvquantProfile } from '../profiles.ts';
import { codebook, qNorm, type Samples } from './codebook.ts';

/** Key rows before RoPE and value rows of one layer over calibration text: f32 [tokens][channels], head by head. */
export interface CalibrationRows {
  readonly k: Float32Array;
  readonly v: Float32Array;
  /** Sensitivity of each element (squared gradient, or attention its token received), as k and v; default: all alike. */
  readonly weightsK?: Float32Array;
  readonly weightsV?: Float32Array;
}

export interface CalibrationOptions {
  readonly fingerprint: string;
  readonly kvHeads: number;
  readonly headDim: number;
  /** Share of elements outside of the ranges, both sides together. Default 0.01. */
  readonly outliers?: number;
  /** Rounds of k-means at most. Default 50. */
  readonly rounds?: number;
}

const WIDTHS = [2, 3, 4] as const;
/** A range needs a width that f16 can hold. */
const LEAST_WIDTH = 1e-4;
const LEAST_GAP = 1e-6;

/**
 * The calibration of KVQuant (arXiv 2401.18079, sections 3.2 to 3.5) but for gradients, which are the caller's: ranges of key
 * channels at percentiles, codebooks by weighted k-means over normalised inliers, Q-Norm at 2 bits. Leave sinks out of the rows.
 */
export function calibrateKvquant(layers: readonly CalibrationRows[], options: CalibrationOptions): KvquantProfile {
  const { fingerprint, kvHeads, headDim, outliers = 0.01, rounds = 50 } = options;
  const width = kvHeads * headDim;
  return {
    kind: 'kvquant',
    fingerprint,
    outliers,
    layers: layers.map(({ k, v, weightsK, weightsV }) => {
      const { least, greatest } = channelRanges(k, width, outliers);
      const keys = normaliseChannels(k, least, greatest, weightsK);
      const values = normaliseTokens(v, width, headDim, outliers, weightsV);
      return { k: { least, greatest, ...codebooks(keys, rounds) }, v: codebooks(values, rounds) };
    }),
  };
}

/** Percentiles share / 2 and 1 - share / 2 of each channel (linear between ranks). x: f32 [tokens][width]. */
export function channelRanges(x: Float32Array, width: number, share: number) {
  const tokens = x.length / width;
  const column = new Float64Array(tokens);
  const least: number[] = [];
  const greatest: number[] = [];
  for (let c = 0; c < width; c++) {
    for (let t = 0; t < tokens; t++) column[t] = x[t * width + c]!;
    column.sort();
    const low = percentile(column, share / 2);
    const high = percentile(column, 1 - share / 2);
    const missing = Math.max(0, LEAST_WIDTH - (high - low));
    least.push(low - missing / 2);
    greatest.push(high + missing / 2);
  }
  return { least, greatest };
}

function percentile(sorted: Float64Array, share: number): number {
  const at = share * (sorted.length - 1);
  const low = Math.floor(at);
  const next = sorted[Math.min(low + 1, sorted.length - 1)]!;
  return sorted[low]! + (at - low) * (next - sorted[low]!);
}

/** Inliers of keys, each channel's range taken to [-1, 1]. */
export function normaliseChannels(
  x: Float32Array,
  least: readonly number[],
  greatest: readonly number[],
  weights?: Float32Array,
): Samples {
  return collect(x.length, weights, add => {
    for (let i = 0; i < x.length; i++) {
      const c = i % least.length;
      const y = (2 * x[i]! - greatest[c]! - least[c]!) / (greatest[c]! - least[c]!);
      if (y >= -1 && y <= 1) add(y, i);
    }
  });
}

/**
 * Inliers of values: each token and KV head to [-1, 1], without what a page of 64 tokens of a head stores apart (OutlierRule,
 * `token`). x: f32 [tokens][width], head by head.
 */
export function normaliseTokens(
  x: Float32Array,
  width: number,
  headDim: number,
  share: number,
  weights?: Float32Array,
): Samples {
  const tokens = x.length / width;
  return collect(x.length, weights, add => {
    for (let first = 0; first < tokens; first += PAGE_TOKENS) {
      for (let head = 0; head < width; head += headDim) {
        const rows = Array.from({ length: Math.min(PAGE_TOKENS, tokens - first) }, (_, t) => {
          const from = (first + t) * width + head;
          return Uint32Array.from({ length: headDim }, (_, c) => from + c).sort((a, b) => x[a]! - x[b]! || a - b);
        });
        for (const inside of withoutOutliers(x, rows, share, headDim)) {
          const [low, high] = [x[inside[0]!]!, x[inside.at(-1)!]!];
          if (high > low) for (const i of inside) add((2 * x[i]! - high - low) / (high - low), i);
        }
      }
    }
  });
}

/** Rows of indices in the order of their elements, less those that a page stores apart: ends, where ranges narrow the most. */
export function withoutOutliers(
  x: Float32Array,
  rows: readonly Uint32Array[],
  share: number,
  headDim: number,
): Uint32Array[] {
  // Of rows that fill no page, their part of its slots.
  const slots = Math.round((outlierSlots({ share, per: 'token' }, headDim) * rows.length) / PAGE_TOKENS);
  const each = Math.floor(slots / (2 * rows.length));
  const from = rows.map(() => each);
  const to = rows.map(row => row.length - each);
  const span = (r: number, a: number, b: number) => (b > a ? (x[rows[r]![b]!]! - x[rows[r]![a]!]!) ** 2 : 0);
  for (let left = slots - each * 2 * rows.length; left > 0; left--) {
    let [most, row, high] = [0, -1, false];
    for (let r = 0; r < rows.length; r++) {
      const [a, b] = [from[r]!, to[r]! - 1];
      const whole = span(r, a, b);
      for (const end of [true, false]) {
        const gain = whole - (end ? span(r, a, b - 1) : span(r, a + 1, b));
        if (gain > most) [most, row, high] = [gain, r, end];
      }
    }
    if (row < 0) break;
    if (high) to[row]!--;
    else from[row]!++;
  }
  return rows.map((row, r) => row.subarray(from[r]!, Math.max(from[r]!, to[r]!)));
}

function collect(most: number, given: Float32Array | undefined, run: (add: (y: number, i: number) => void) => void) {
  const values = new Float64Array(most);
  const weights = given && new Float64Array(most);
  let count = 0;
  run((y, i) => {
    if (weights) weights[count] = given![i]!;
    values[count++] = y;
  });
  return { values: values.subarray(0, count), ...(weights && { weights: weights.subarray(0, count) }) };
}

function codebooks(samples: Samples, rounds: number) {
  const [two, three, four] = WIDTHS.map(bits => codebook(samples, bits, rounds));
  return {
    luts: { 2: apart(qNorm(two!, samples)), 3: apart(three!), 4: apart(four!) },
    borders: { 2: two!.slice(1).map((high, i) => (two![i]! + high) / 2) },
  };
}

/** Formats want strictly ascending values, also where there were fewer different samples than centroids. */
function apart(lut: readonly number[]): number[] {
  let previous = Number.NEGATIVE_INFINITY;
  return lut.map(x => {
    previous = Math.max(x, previous + LEAST_GAP);
    return previous;
  });
}
