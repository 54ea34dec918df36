import { KvasirError } from '../../../errors.ts';
import { checkFinite, dequantizeRows } from '../../../model/dequantize.ts';
import { unpackMinimum, unpackScale } from '../../../model/dequantize-k.ts';
import { HALF_TO_FLOAT } from '../../../model/float16.ts';
import { rowBytes } from '../../../model/tensor-type.ts';
import type { TensorInfo, TensorType } from '../../../model/types.ts';
import { type AreaName, areaRowBytes, type Form } from './form.ts';

export type AreaBytes = Partial<Record<AreaName, Uint8Array>>;

/**
 * Whole rows of a tensor (raw blocks, as `ModelFile.read` gives them) as the areas of a form, see form.ts.
 * Raises `bad_model_file` naming the tensor where a value, or the scale of a block, is not finite.
 */
export function encodeRows(tensor: TensorInfo, firstRow: number, raw: Uint8Array, form: Form): AreaBytes {
  const { name, type, columns } = tensor;
  const rows = raw.length / rowBytes(type, columns, name);
  if (form.kind === 'floats') {
    const values = dequantizeRows(type, raw, columns);
    checkFinite(name, values, firstRow * columns);
    return { floats: bytesOf(values) };
  }
  const { codes: codeBytes } = areaRowBytes(form, columns) as { codes: number };
  const blocks = Math.ceil(columns / form.block) * rows;
  const codes = new Uint8Array(codeBytes * rows);
  const scales = new Float32Array(blocks);
  const offsets = new Float32Array(form.offsets ? blocks : 0);
  if (type === 'F32' || type === 'F16' || type === 'BF16') {
    const values = dequantizeRows(type, raw, columns);
    checkFinite(name, values, firstRow * columns);
    quantize8(values, columns, codes, scales);
  } else {
    ENCODERS[type](raw, codes, scales, offsets);
    checkBlocks(name, scales, offsets, firstRow, rows);
  }
  return { codes, scales: bytesOf(scales), ...(form.offsets && { offsets: bytesOf(offsets) }) };
}

type Encoder = (raw: Uint8Array, codes: Uint8Array, scales: Float32Array, offsets: Float32Array) => void;

const ENCODERS: Readonly<Record<Exclude<TensorType, 'F32' | 'F16' | 'BF16'>, Encoder>> = {
  Q4_0: (raw, codes, scales) => {
    for (let b = 0, at = 0; at < raw.length; b++, at += 18) {
      scales[b] = half(raw, at);
      pairNibbles(raw, at + 2, codes, b * 16);
    }
  },
  Q4_1: (raw, codes, scales, offsets) => {
    for (let b = 0, at = 0; at < raw.length; b++, at += 20) {
      scales[b] = half(raw, at);
      offsets[b] = half(raw, at + 2) + 8 * half(raw, at);
      pairNibbles(raw, at + 4, codes, b * 16);
    }
  },
  Q5_0: (raw, codes, scales) => {
    for (let b = 0, at = 0; at < raw.length; b++, at += 22) {
      scales[b] = half(raw, at);
      fiveBits(raw, at + 2, at + 6, codes, b * 32);
    }
  },
  Q5_1: (raw, codes, scales, offsets) => {
    for (let b = 0, at = 0; at < raw.length; b++, at += 24) {
      scales[b] = half(raw, at);
      offsets[b] = half(raw, at + 2) + 16 * half(raw, at);
      fiveBits(raw, at + 4, at + 8, codes, b * 32);
    }
  },
  Q8_0: (raw, codes, scales) => {
    for (let b = 0, at = 0; at < raw.length; b++, at += 34) {
      scales[b] = half(raw, at);
      for (let j = 0; j < 32; j++) codes[b * 32 + j] = raw[at + 2 + j] ^ 0x80;
    }
  },
  Q4_K: (raw, codes, scales, offsets) => {
    for (let b = 0, at = 0; at < raw.length; b += 8, at += 144) {
      subBlockScales(raw, at, 8, scales, offsets, b);
      for (let j = 0; j < 8; j++) {
        const from = at + 16 + (j >> 1) * 32;
        const shift = (j & 1) * 4;
        const to = (b + j) * 16;
        for (let l = 0; l < 16; l++) {
          codes[to + l] = ((raw[from + 2 * l] >> shift) & 15) | (((raw[from + 2 * l + 1] >> shift) & 15) << 4);
        }
      }
    }
  },
  Q5_K: (raw, codes, scales, offsets) => {
    for (let b = 0, at = 0; at < raw.length; b += 8, at += 176) {
      subBlockScales(raw, at, 16, scales, offsets, b);
      for (let j = 0; j < 8; j++) {
        const from = at + 48 + (j >> 1) * 32;
        const shift = (j & 1) * 4;
        const to = (b + j) * 32;
        for (let l = 0; l < 32; l++) {
          codes[to + l] = (((raw[from + l] >> shift) & 15) | (((raw[at + 16 + l] >> j) & 1) << 4)) + 112;
        }
      }
    }
  },
  Q6_K: (raw, codes, scales) => {
    for (let b = 0, at = 0; at < raw.length; b += 16, at += 210) {
      const d = half(raw, at + 208);
      for (let i = 0; i < 16; i++) scales[b + i] = d * ((raw[at + 192 + i] << 24) >> 24);
      for (let quarter = 0; quarter < 8; quarter++) {
        const h = quarter >> 2;
        const q = quarter & 3;
        const low = at + h * 64 + (q & 1) * 32;
        const high = at + 128 + h * 32;
        const to = b * 16 + quarter * 32;
        for (let l = 0; l < 32; l++) {
          const code = ((raw[low + l] >> ((q >> 1) * 4)) & 15) | (((raw[high + l] >> (q * 2)) & 3) << 4);
          codes[to + l] = code + 96;
        }
      }
    }
  },
};

/** GGUF keeps element j and j + 16 in one byte; MatMulNBits 2j and 2j + 1. */
function pairNibbles(raw: Uint8Array, from: number, codes: Uint8Array, to: number): void {
  for (let j = 0; j < 8; j++) {
    const a = raw[from + 2 * j];
    const b = raw[from + 2 * j + 1];
    codes[to + j] = (a & 15) | ((b & 15) << 4);
    codes[to + j + 8] = (a >> 4) | (b & 0xf0);
  }
}

/** Five-bit codes, centre 16, as bytes with centre 128. */
function fiveBits(raw: Uint8Array, high: number, from: number, codes: Uint8Array, to: number): void {
  for (let j = 0; j < 16; j++) {
    const low = raw[from + j];
    const first = (raw[high + (j >> 3)] >> (j & 7)) & 1;
    const second = (raw[high + 2 + (j >> 3)] >> (j & 7)) & 1;
    codes[to + j] = ((low & 15) | (first << 4)) + 112;
    codes[to + j + 16] = ((low >> 4) | (second << 4)) + 112;
  }
}

/** value = scale * code - minimum = scale * (code - centre) + (scale * centre - minimum) */
function subBlockScales(
  raw: Uint8Array,
  at: number,
  centre: number,
  scales: Float32Array,
  offsets: Float32Array,
  to: number,
): void {
  const d = half(raw, at);
  const dmin = half(raw, at + 2);
  for (let j = 0; j < 8; j++) {
    const scale = d * unpackScale(raw, at + 4, j);
    scales[to + j] = scale;
    offsets[to + j] = scale * centre - dmin * unpackMinimum(raw, at + 4, j);
  }
}

/** Nearest of 255 levels per block of 32; the last block of a row may be short. */
function quantize8(values: Float32Array, columns: number, codes: Uint8Array, scales: Float32Array): void {
  codes.fill(128);
  const blocks = Math.ceil(columns / 32);
  for (let row = 0, b = 0; row * columns < values.length; row++) {
    for (let block = 0; block < blocks; block++, b++) {
      const from = row * columns + block * 32;
      const count = Math.min(32, columns - block * 32);
      let most = 0;
      for (let i = 0; i < count; i++) most = Math.max(most, Math.abs(values[from + i]));
      scales[b] = most / 127;
      // A block so small that its scale is no normal float32 counts as zero.
      const inverse = scales[b] < 2 ** -126 ? 0 : 1 / scales[b];
      if (inverse === 0) scales[b] = 0;
      for (let i = 0; i < count; i++) codes[b * 32 + i] = 128 + Math.round(values[from + i] * inverse);
    }
  }
}

function half(bytes: Uint8Array, at: number): number {
  return HALF_TO_FLOAT[bytes[at] | (bytes[at + 1] << 8)];
}

function checkBlocks(name: string, scales: Float32Array, offsets: Float32Array, firstRow: number, rows: number): void {
  for (const values of [scales, offsets]) {
    for (let i = 0; i < values.length; i++) {
      if (values[i] - values[i] === 0) continue;
      const row = firstRow + Math.floor(i / (values.length / rows));
      throw new KvasirError('bad_model_file', `Tensor "${name}" holds a block with scale ${values[i]} in row ${row}.`, {
        field: name,
        value: String(values[i]),
        allowed: 'finite numbers',
      });
    }
  }
}

function bytesOf(values: Float32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}
