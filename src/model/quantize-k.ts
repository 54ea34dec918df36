import { floatToHalf, halfToFloat } from './float16.ts';

/** Encodes the 256-element blocks of ggml ("K-quants"); layouts as in dequantize-k.ts. */
export function quantizeKBlocks(
  type: 'Q4_K' | 'Q5_K' | 'Q6_K',
  x: Float32Array,
  out: Uint8Array,
  blocks: number,
): void {
  const size = out.length / Math.max(1, blocks);
  for (let b = 0; b < blocks; b++) {
    const block = x.subarray(b * 256, b * 256 + 256);
    const target = out.subarray(b * size, b * size + size);
    if (type === 'Q6_K') encodeQ6(block, target);
    else encodeAffine(type === 'Q5_K', block, target);
  }
}

function encodeAffine(five: boolean, x: Float32Array, out: Uint8Array): void {
  const top = five ? 31 : 15;
  const fits = Array.from({ length: 8 }, (_, j) => fitAffine(x.subarray(j * 32, j * 32 + 32), top));
  const d = storeHalf(out, 0, Math.max(...fits.map(f => f.scale)) / 63);
  const dmin = storeHalf(out, 2, Math.max(...fits.map(f => f.minimum)) / 63);
  const codes = five ? 48 : 16;
  for (let j = 0; j < 8; j++) {
    const scale = sixBits(fits[j].scale, d);
    const minimum = sixBits(fits[j].minimum, dmin);
    packScale(out, 4, j, scale, minimum);
    for (let l = 0; l < 32; l++) {
      const step = d * scale;
      const code = step === 0 ? 0 : clamp(Math.round((x[j * 32 + l] + dmin * minimum) / step), 0, top);
      out[codes + (j >> 1) * 32 + l] |= (code & 15) << ((j & 1) * 4);
      if (five) out[16 + l] |= (code >> 4) << j;
    }
  }
}

/**
 * Scale and (subtracted, never negative) minimum with the least squared error over codes 0..top:
 * several trial scales, each refitted by least squares to the codes that it gives.
 */
function fitAffine(x: Float32Array, top: number): { scale: number; minimum: number } {
  let low = 0;
  let high = Number.NEGATIVE_INFINITY;
  for (const value of x) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (high <= low) return { scale: 0, minimum: -low };
  let best = { scale: (high - low) / top, minimum: -low };
  let bestError = affineError(x, best.scale, best.minimum, top);
  for (let trial = 0; trial <= 20; trial++) {
    const step = (high - low) / (top - 1 + trial * 0.1);
    let n = 0;
    let sumCode = 0;
    let sumSquare = 0;
    let sumX = 0;
    let sumProduct = 0;
    for (const value of x) {
      const code = clamp(Math.round((value - low) / step), 0, top);
      n++;
      sumCode += code;
      sumSquare += code * code;
      sumX += value;
      sumProduct += value * code;
    }
    const determinant = n * sumSquare - sumCode * sumCode;
    if (determinant <= 0) continue;
    let scale = (n * sumProduct - sumX * sumCode) / determinant;
    let minimum = (sumCode * sumProduct - sumSquare * sumX) / determinant;
    if (minimum < 0) {
      minimum = 0;
      scale = sumSquare > 0 ? sumProduct / sumSquare : 0;
    }
    if (!(scale > 0)) continue;
    const error = affineError(x, scale, minimum, top);
    if (error < bestError) {
      bestError = error;
      best = { scale, minimum };
    }
  }
  return best;
}

function affineError(x: Float32Array, scale: number, minimum: number, top: number): number {
  let error = 0;
  for (const value of x) {
    const code = clamp(Math.round((value + minimum) / scale), 0, top);
    error += (code * scale - minimum - value) ** 2;
  }
  return error;
}

function encodeQ6(x: Float32Array, out: Uint8Array): void {
  const scales = Array.from({ length: 16 }, (_, s) => fitCentred(x.subarray(s * 16, s * 16 + 16), 32));
  let extreme = 0;
  for (const scale of scales) if (Math.abs(scale) > Math.abs(extreme)) extreme = scale;
  const d = storeHalf(out, 208, extreme / -128);
  for (let s = 0; s < 16; s++) {
    const scale = d === 0 ? 0 : clamp(Math.round(scales[s] / d), -128, 127);
    out[192 + s] = scale;
    for (let l = 0; l < 16; l++) {
      const step = d * scale;
      const code = 32 + (step === 0 ? 0 : clamp(Math.round(x[s * 16 + l] / step), -32, 31));
      const at = s * 16 + l;
      const half = at >> 7;
      const quarter = (at >> 5) & 3;
      const lane = at & 31;
      out[half * 64 + (quarter & 1) * 32 + lane] |= (code & 15) << ((quarter >> 1) * 4);
      out[128 + half * 32 + lane] |= (code >> 4) << (quarter * 2);
    }
  }
}

/** A signed scale with the least squared error over codes -reach .. reach - 1. */
function fitCentred(x: Float32Array, reach: number): number {
  let extreme = 0;
  for (const value of x) if (Math.abs(value) > Math.abs(extreme)) extreme = value;
  if (extreme === 0) return 0;
  let best = 0;
  let bestGain = 0;
  for (let trial = -9; trial <= 9; trial++) {
    const step = extreme / -(reach + trial * 0.1);
    let sumProduct = 0;
    let sumSquare = 0;
    for (const value of x) {
      const code = clamp(Math.round(value / step), -reach, reach - 1);
      sumProduct += value * code;
      sumSquare += code * code;
    }
    // With the best scale for these codes the squared error falls by sumProduct^2 / sumSquare.
    const gain = sumSquare > 0 ? sumProduct ** 2 / sumSquare : 0;
    if (gain > bestGain) {
      bestGain = gain;
      best = sumProduct / sumSquare;
    }
  }
  return best;
}

function storeHalf(out: Uint8Array, at: number, value: number): number {
  const half = floatToHalf(value);
  out[at] = half & 255;
  out[at + 1] = half >> 8;
  return halfToFloat(half);
}

function sixBits(value: number, unit: number): number {
  return unit === 0 ? 0 : clamp(Math.round(value / unit), 0, 63);
}

function packScale(out: Uint8Array, at: number, j: number, scale: number, minimum: number): void {
  if (j < 4) {
    out[at + j] |= scale;
    out[at + j + 4] |= minimum;
    return;
  }
  out[at + j + 4] |= (scale & 15) | ((minimum & 15) << 4);
  out[at + j - 4] |= (scale >> 4) << 6;
  out[at + j] |= (minimum >> 4) << 6;
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(high, Math.max(low, value));
}
