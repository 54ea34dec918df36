import { KvasirError } from '../errors.ts';
import { floatToBfloat, floatToHalf, halfToFloat } from './float16.ts';
import { quantizeKBlocks } from './quantize-k.ts';
import { BLOCKS, rowBytes } from './tensor-type.ts';
import type { TensorType } from './types.ts';

/**
 * Encodes whole rows of finite float32 values; the inverse of `dequantizeRows` up to rounding.
 *
 * @param values rows x columns
 */
export function quantizeRows(type: TensorType, values: Float32Array, columns: number): Uint8Array {
  const stride = rowBytes(type, columns);
  const rows = columns === 0 ? 0 : values.length / columns;
  if (!Number.isInteger(rows)) {
    throw new KvasirError('invalid_request', `${values.length} values are no whole number of rows of ${columns}.`);
  }
  const out = new Uint8Array(rows * stride);
  const view = new DataView(out.buffer);
  const blocks = values.length / BLOCKS[type].elements;
  switch (type) {
    case 'F32':
      for (let i = 0; i < values.length; i++) view.setFloat32(4 * i, values[i], true);
      break;
    case 'F16':
      for (let i = 0; i < values.length; i++) view.setUint16(2 * i, floatToHalf(values[i]), true);
      break;
    case 'BF16':
      for (let i = 0; i < values.length; i++) view.setUint16(2 * i, floatToBfloat(values[i]), true);
      break;
    case 'Q8_0':
      for (let b = 0; b < blocks; b++) encodeQ8(values, b * 32, view, b * 34);
      break;
    case 'Q4_0':
    case 'Q5_0':
      for (let b = 0; b < blocks; b++) encodeCentred(type, values, b * 32, view, b * BLOCKS[type].bytes);
      break;
    case 'Q4_1':
    case 'Q5_1':
      for (let b = 0; b < blocks; b++) encodeAffine(type, values, b * 32, view, b * BLOCKS[type].bytes);
      break;
    default:
      quantizeKBlocks(type, values, out, blocks);
  }
  return out;
}

function encodeQ8(x: Float32Array, from: number, view: DataView, at: number): void {
  let largest = 0;
  for (let j = 0; j < 32; j++) largest = Math.max(largest, Math.abs(x[from + j]));
  const half = floatToHalf(largest / 127);
  const d = halfToFloat(half);
  view.setUint16(at, half, true);
  for (let j = 0; j < 32; j++) view.setInt8(at + 2 + j, code(x[from + j], d, 0, -127, 127));
}

/** The value of largest magnitude gets the lowest code, which has no positive twin. */
function encodeCentred(type: 'Q4_0' | 'Q5_0', x: Float32Array, from: number, view: DataView, at: number): void {
  const centre = type === 'Q4_0' ? 8 : 16;
  let extreme = 0;
  for (let j = 0; j < 32; j++) if (Math.abs(x[from + j]) > Math.abs(extreme)) extreme = x[from + j];
  const half = floatToHalf(extreme / -centre);
  const d = halfToFloat(half);
  view.setUint16(at, half, true);
  const codes = new Uint8Array(32);
  for (let j = 0; j < 32; j++) codes[j] = code(x[from + j], d, 0, -centre, centre - 1) + centre;
  packCodes(codes, type === 'Q5_0', view, at + 2);
}

function encodeAffine(type: 'Q4_1' | 'Q5_1', x: Float32Array, from: number, view: DataView, at: number): void {
  const top = type === 'Q4_1' ? 15 : 31;
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  for (let j = 0; j < 32; j++) {
    low = Math.min(low, x[from + j]);
    high = Math.max(high, x[from + j]);
  }
  const minimum = floatToHalf(low);
  const half = floatToHalf((high - low) / top);
  const d = halfToFloat(half);
  view.setUint16(at, half, true);
  view.setUint16(at + 2, minimum, true);
  const codes = new Uint8Array(32);
  for (let j = 0; j < 32; j++) codes[j] = code(x[from + j], d, halfToFloat(minimum), 0, top);
  packCodes(codes, type === 'Q5_1', view, at + 4);
}

/** Codes measured with the scale and minimum as stored, so that their rounding is not paid twice. */
function code(x: number, d: number, minimum: number, low: number, high: number): number {
  if (d === 0) return Math.max(low, 0);
  return Math.min(high, Math.max(low, Math.round((x - minimum) / d)));
}

/** [4 bytes of fifth bits], then codes j and j + 16 in one byte. */
function packCodes(codes: Uint8Array, five: boolean, view: DataView, at: number): void {
  let lows = at;
  if (five) {
    let high = 0;
    for (let j = 0; j < 32; j++) high |= (codes[j] >> 4) << j;
    view.setUint32(at, high >>> 0, true);
    lows += 4;
  }
  for (let j = 0; j < 16; j++) view.setUint8(lows + j, (codes[j] & 15) | ((codes[j + 16] & 15) << 4));
}
