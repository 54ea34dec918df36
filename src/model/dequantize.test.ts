import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { checkFinite, dequantizeRows } from './dequantize.ts';
import { bfloatToFloat, floatToBfloat, floatToHalf, halfToFloat } from './float16.ts';
import { ggufName } from './gguf.ts';
import { openModel } from './open.node.ts';
import { quantizeRows } from './quantize.ts';
import { BLOCKS, rowBytes } from './tensor-type.ts';
import { randomValues, seeded } from './tiny-files.ts';
import { TENSOR_TYPES, type TensorType } from './types.ts';

const testPath = (path: string) => fileURLToPath(new URL(`../../test/${path}`, import.meta.url));
const digests: Record<string, string> = JSON.parse(readFileSync(testPath('golden/dequantized.json'), 'utf8'));

test.each(Object.entries(digests))('%s.gguf dequantizes to the bits of the gguf package', async (name, expected) => {
  const model = await openModel(testPath(`models/gguf/${name}.gguf`));
  const digest = createHash('sha256');
  const byStoredName = [...model.tensors.values()].sort((a, b) => (ggufName(a.name) < ggufName(b.name) ? -1 : 1));
  for (const { name: tensor, type, columns } of byStoredName) {
    digest.update(new Uint8Array(dequantizeRows(type, await model.read(tensor), columns).buffer));
  }
  await model.close();
  expect(digest.digest('hex')).toBe(expected);
});

// Largest error of a value, as a share of the largest magnitude of its block.
const BOUNDS: Record<TensorType, number> = {
  F32: 0, F16: 2 ** -11, BF16: 2 ** -8,
  Q4_0: 0.13, Q4_1: 0.07, Q5_0: 0.065, Q5_1: 0.035, Q8_0: 0.005, Q4_K: 0.16, Q5_K: 0.08, Q6_K: 0.05,
}; // biome-ignore format: one line a family

describe.each(TENSOR_TYPES.map(type => ({ type })))('$type', ({ type }) => {
  const { elements } = BLOCKS[type];

  test.each([1, 3])('encodes what it decodes, %d blocks a row', perRow => {
    const columns = elements * perRow;
    const values = randomValues(columns * 5, seeded(perRow));
    values.fill(0, 0, elements);
    const bytes = quantizeRows(type, values, columns);
    expect(bytes.length).toBe(5 * rowBytes(type, columns));
    const decoded = dequantizeRows(type, bytes, columns);
    for (let i = 0; i < values.length; i++) expect(Math.abs(decoded[i] - values[i])).toBeLessThanOrEqual(BOUNDS[type]);
    expect([...decoded.subarray(0, elements)].every(v => v === 0)).toBe(true);
  });

  test('reads unaligned bytes and into a given array', () => {
    const values = randomValues(elements * 2, seeded(9));
    const bytes = quantizeRows(type, values, elements * 2);
    const moved = new Uint8Array(bytes.length + 3).fill(255);
    moved.set(bytes, 1);
    const out = new Float32Array(elements * 2 + 1).fill(7);
    dequantizeRows(type, moved.subarray(1, 1 + bytes.length), elements * 2, out);
    expect(out.subarray(0, -1)).toEqual(dequantizeRows(type, bytes, elements * 2));
    expect(out[elements * 2]).toBe(7);
  });

  test('no rows are no values', () => {
    expect(dequantizeRows(type, new Uint8Array(0), elements).length).toBe(0);
  });

  test('part of a row is refused', () => {
    const bytes = new Uint8Array(BLOCKS[type].bytes * 2 - 1);
    expect(() => dequantizeRows(type, bytes, elements)).toThrow(expect.objectContaining({ code: 'bad_model_file' }));
  });
});

test('K-quants spread their error evenly: root mean square within a third of a step', () => {
  const values = randomValues(256 * 64, seeded(3));
  for (const [type, bound] of [
    ['Q4_K', 0.045],
    ['Q5_K', 0.022],
    ['Q6_K', 0.012],
  ] as const) {
    const decoded = dequantizeRows(type, quantizeRows(type, values, 256), 256);
    const square = values.reduce((sum, v, i) => sum + (v - decoded[i]) ** 2, 0);
    expect(Math.sqrt(square / values.length)).toBeLessThan(bound);
  }
});

test('every half survives the way to float32 and back', () => {
  for (let half = 0; half < 65536; half++) {
    const value = halfToFloat(half);
    if (Number.isNaN(value)) expect(Number.isNaN(halfToFloat(floatToHalf(value)))).toBe(true);
    else if (floatToHalf(value) !== half) expect.fail(`${half}: ${value} came back as ${floatToHalf(value)}`);
  }
});

test('halves and bfloats round to nearest, ties to even', () => {
  const random = seeded(4);
  const nearest = (value: number, from: (bits: number) => number, bits: number) => {
    const error = Math.abs(from(bits) - value);
    for (const other of [bits - 1, bits + 1]) {
      const theirs = Math.abs(from(other) - value);
      if (theirs < error || (theirs === error && bits % 2 === 1)) return false;
    }
    return true;
  };
  for (let i = 0; i < 20_000; i++) {
    const value = Math.fround((random() + 0.01) * 2 ** (random() * 38 - 23));
    if (value < 65_504) expect(nearest(value, halfToFloat, floatToHalf(value))).toBe(true);
    expect(nearest(value, bfloatToFloat, floatToBfloat(value))).toBe(true);
  }
  expect(halfToFloat(floatToHalf(65_519))).toBe(65_504);
  expect(halfToFloat(floatToHalf(65_520))).toBe(Number.POSITIVE_INFINITY);
  expect(floatToHalf(2 ** -25)).toBe(0);
  expect(floatToHalf(2 ** -25 * 1.0001)).toBe(1);
  expect(floatToHalf(-0)).toBe(0x8000);
});

test('values that are not finite are reported with their place', () => {
  checkFinite('t', Float32Array.of(1, -0, 3e38));
  expect(() => checkFinite('blk', Float32Array.of(1, Number.NaN), 100)).toThrow(/"blk" holds NaN at element 101/);
  expect(() => checkFinite('blk', Float32Array.of(Number.NEGATIVE_INFINITY))).toThrow(/-Infinity/);
});
