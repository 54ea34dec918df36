import { describe, expect, test } from 'vitest';
import { dequantizeRows } from '../../../model/dequantize.ts';
import { quantizeRows } from '../../../model/quantize.ts';
import { BLOCKS, rowBytes } from '../../../model/tensor-type.ts';
import { seededRandom } from '../../../model/testing.ts';
import { TENSOR_TYPES, type TensorInfo, type TensorType } from '../../../model/types.ts';
import { type AreaBytes, encodeRows } from './encode.ts';
import { type Form, formOf } from './form.ts';

const seed = Math.floor(Math.random() * 2 ** 31);
const FLOATS: readonly TensorType[] = ['F32', 'F16', 'BF16'];

/** What MatMulNBits and the offsets say that the areas mean. */
function decode(areas: AreaBytes, form: Form, rows: number, columns: number): Float64Array {
  if (form.kind === 'floats') return Float64Array.from(floats(areas.floats!));
  const { bits, block } = form;
  const blocks = Math.ceil(columns / block);
  const scales = floats(areas.scales!);
  const offsets = form.offsets ? floats(areas.offsets!) : null;
  const out = new Float64Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    for (let i = 0; i < columns; i++) {
      const b = row * blocks + Math.floor(i / block);
      const at = row * blocks * block + i;
      const code = bits === 8 ? areas.codes![at] : (areas.codes![at >> 1] >> ((at & 1) * 4)) & 15;
      out[row * columns + i] = (code - 2 ** (bits - 1)) * scales[b] + (offsets?.[b] ?? 0);
    }
  }
  return out;
}

function floats(bytes: Uint8Array): Float32Array {
  return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
}

function info(type: TensorType, rows: number, columns: number): TensorInfo {
  return { name: 'layers.0.q', type, rows, columns, byteLength: rows * rowBytes(type, columns) };
}

function encoded(type: TensorType, rows: number, columns: number, form = formOf(type, 'fast')) {
  const random = seededRandom(seed);
  const values = Float32Array.from({ length: rows * columns }, () => random() * 0.2 + 0.05);
  const raw = quantizeRows(type, values, columns);
  return {
    expected: dequantizeRows(type, raw, columns),
    actual: decode(encodeRows(info(type, rows, columns), 0, raw, form), form, rows, columns),
  };
}

describe('encoded rows', () => {
  test.each(TENSOR_TYPES.filter(type => !FLOATS.includes(type)))('keep the values of %s', type => {
    const { expected, actual } = encoded(type, 3, 2 * BLOCKS[type].elements);
    for (const [i, value] of expected.entries()) expect(Math.abs(actual[i] - value), `seed ${seed}`).toBeLessThan(1e-6);
  });

  test.each(FLOATS)('round %s to 255 levels a block', type => {
    const { expected, actual } = encoded(type, 3, 72);
    for (const [i, value] of expected.entries()) {
      expect(Math.abs(actual[i] - value), `seed ${seed}`).toBeLessThan((0.26 / 254) * 1.001);
    }
  });

  test.each(TENSOR_TYPES)('in exact mode are the float32 values of %s', type => {
    const { expected, actual } = encoded(type, 2, BLOCKS[type].elements * 2, { kind: 'floats' });
    expect([...actual]).toEqual([...expected]);
  });

  test('take a block of zeros, and of values too small for a scale', () => {
    const values = new Float32Array(64).fill(1e-42, 32);
    const raw = quantizeRows('F32', values, 64);
    const form = formOf('F32', 'fast');
    expect([...decode(encodeRows(info('F32', 1, 64), 0, raw, form), form, 1, 64)]).toEqual(new Array(64).fill(0));
  });

  test.each(TENSOR_TYPES)('refuse a value of %s that is not finite', type => {
    const columns = BLOCKS[type].elements === 1 ? 32 : BLOCKS[type].elements;
    const raw = quantizeRows(type, new Float32Array(2 * columns).fill(0.5), columns);
    poison(raw, type, columns);
    for (const mode of ['fast', 'exact'] as const) {
      expect(() => encodeRows(info(type, 2, columns), 6, raw, formOf(type, mode))).toThrowError(
        expect.objectContaining({ code: 'bad_model_file', field: 'layers.0.q' }),
      );
    }
  });
});

/** Makes the first scale (or value) of the second row an infinity. */
function poison(raw: Uint8Array, type: TensorType, columns: number): void {
  const row = rowBytes(type, columns);
  const view = new DataView(raw.buffer, raw.byteOffset + row);
  if (type === 'F32') view.setFloat32(0, Number.NaN, true);
  else if (type === 'BF16') view.setUint16(0, 0x7f80, true);
  else view.setUint16(type === 'Q6_K' ? 208 : 0, 0x7c00, true);
}
