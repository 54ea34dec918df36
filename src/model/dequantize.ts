import { KvasirError } from '../errors.ts';
import { dequantizeKBlocks } from './dequantize-k.ts';
import { HALF_TO_FLOAT } from './float16.ts';
import { BLOCKS, rowBytes } from './tensor-type.ts';
import type { TensorType } from './types.ts';

/**
 * Rows of any tensor type as float32, exactly as ggml's reference decoders define each block:
 * products and sums are exact in float64 and rounded once.
 *
 * @param bytes whole rows, as `ModelFile.read` gives them
 * @param columns elements of a row
 * @param out room for rows x columns; made where absent
 */
export function dequantizeRows(type: TensorType, bytes: Uint8Array, columns: number, out?: Float32Array): Float32Array {
  const stride = rowBytes(type, columns);
  const rows = stride === 0 ? 0 : bytes.length / stride;
  if (!Number.isInteger(rows)) {
    throw new KvasirError(
      'bad_model_file',
      `${bytes.length} bytes are no whole number of ${type} rows of ${columns}.`,
      {
        value: bytes.length,
        allowed: `a multiple of ${stride}`,
      },
    );
  }
  const count = rows * columns;
  const values = out ?? new Float32Array(count);
  if (values.length < count) {
    throw new KvasirError('bad_model_file', `${count} elements do not fit in ${values.length}.`);
  }
  const blocks = count / BLOCKS[type].elements;
  switch (type) {
    case 'F32':
      copyFloats(bytes, values, count);
      break;
    case 'F16':
      for (let i = 0; i < count; i++) values[i] = HALF_TO_FLOAT[bytes[2 * i] | (bytes[2 * i + 1] << 8)];
      break;
    case 'BF16':
      expandBfloat(bytes, values, count);
      break;
    case 'Q4_0':
    case 'Q4_1':
      dequantizeQ4(type === 'Q4_1', bytes, values, blocks);
      break;
    case 'Q5_0':
    case 'Q5_1':
      dequantizeQ5(type === 'Q5_1', bytes, values, blocks);
      break;
    case 'Q8_0':
      dequantizeQ8(bytes, values, blocks);
      break;
    default:
      dequantizeKBlocks(type, bytes, values, blocks);
  }
  return values;
}

/** Raises `bad_model_file` at the first NaN or infinity. */
export function checkFinite(tensor: string, values: Float32Array, firstElement = 0): void {
  for (let i = 0; i < values.length; i++) {
    if (values[i] - values[i] === 0) continue;
    throw new KvasirError('bad_model_file', `Tensor "${tensor}" holds ${values[i]} at element ${firstElement + i}.`, {
      field: tensor,
      value: String(values[i]),
      allowed: 'finite numbers',
    });
  }
}

function half(bytes: Uint8Array, at: number): number {
  return HALF_TO_FLOAT[bytes[at] | (bytes[at + 1] << 8)];
}

function copyFloats(bytes: Uint8Array, out: Float32Array, count: number): void {
  if (bytes.byteOffset % 4 === 0) {
    out.set(new Float32Array(bytes.buffer, bytes.byteOffset, count));
    return;
  }
  new Uint8Array(out.buffer, out.byteOffset, count * 4).set(bytes.subarray(0, count * 4));
}

function expandBfloat(bytes: Uint8Array, out: Float32Array, count: number): void {
  const words = new Uint32Array(out.buffer, out.byteOffset, count);
  for (let i = 0; i < count; i++) words[i] = (bytes[2 * i] << 16) | (bytes[2 * i + 1] << 24);
}

// Minus zero, which leaves the sign of a zero product as it is.
const NO_OFFSET = -0;

/** d (f16), [m (f16)], 16 bytes: element j in the low, j + 16 in the high half of byte j. */
function dequantizeQ4(affine: boolean, bytes: Uint8Array, out: Float32Array, blocks: number): void {
  const size = affine ? 20 : 18;
  for (let b = 0; b < blocks; b++) {
    const at = b * size;
    const d = half(bytes, at);
    const m = affine ? half(bytes, at + 2) : NO_OFFSET;
    const centre = affine ? 0 : 8;
    const codes = at + size - 16;
    for (let j = 0; j < 16; j++) {
      const code = bytes[codes + j];
      out[b * 32 + j] = ((code & 15) - centre) * d + m;
      out[b * 32 + j + 16] = ((code >> 4) - centre) * d + m;
    }
  }
}

/** d (f16), [m (f16)], 32 fifth bits, 16 bytes of low halves as in Q4. */
function dequantizeQ5(affine: boolean, bytes: Uint8Array, out: Float32Array, blocks: number): void {
  const size = affine ? 24 : 22;
  for (let b = 0; b < blocks; b++) {
    const at = b * size;
    const d = half(bytes, at);
    const m = affine ? half(bytes, at + 2) : NO_OFFSET;
    const centre = affine ? 0 : 16;
    const codes = at + size - 16;
    const high = codes - 4;
    for (let j = 0; j < 16; j++) {
      const code = bytes[codes + j];
      const lowBit = (bytes[high + (j >> 3)] >> (j & 7)) & 1;
      const highBit = (bytes[high + 2 + (j >> 3)] >> (j & 7)) & 1;
      out[b * 32 + j] = ((code & 15) + lowBit * 16 - centre) * d + m;
      out[b * 32 + j + 16] = ((code >> 4) + highBit * 16 - centre) * d + m;
    }
  }
}

/** d (f16), 32 signed bytes. */
function dequantizeQ8(bytes: Uint8Array, out: Float32Array, blocks: number): void {
  for (let b = 0; b < blocks; b++) {
    const at = b * 34;
    const d = half(bytes, at);
    for (let j = 0; j < 32; j++) out[b * 32 + j] = ((bytes[at + 2 + j] << 24) >> 24) * d;
  }
}
