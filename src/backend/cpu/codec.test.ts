import { afterAll, beforeAll, expect, it } from 'vitest';
import {
  COPY_BYTES,
  COPY_COUNT,
  COPY_FROM,
  COPY_LAYOUT,
  COPY_LAYOUTS,
  COPY_PAIRS,
  COPY_TO,
  KIND_COPY,
  LAYOUT_BIAS,
  LAYOUT_CELL_BYTES,
  LAYOUT_K,
  LAYOUT_K_SCALE,
  LAYOUT_V,
  LAYOUT_V_SCALE,
} from '../../../kernels/abi.ts';
import { decodeHalf, encodeHalf } from '../../../kernels/reference/half.ts';
import { encodeInt8 } from '../../../kernels/reference/int8.ts';
import { turnRow } from '../../../kernels/reference/turn.ts';
import { Scene } from '../../../test/helpers/scene.ts';
import { type CpuKernels, createKernels } from './kernels.ts';

let kernels: CpuKernels;
beforeAll(async () => {
  kernels = await createKernels({ limit: 2 ** 28 });
});
afterAll(() => kernels.dispose());

/** The stored number of a row's channel, straight from the layout in abi.ts. */
function stored(scene: Scene, layout: number, cell: number, plane: 'k' | 'v', row: number, channel: number): number {
  const { u8, u16, f32 } = kernels.memory;
  const format = scene.specs[layout]![plane];
  const isKey = plane === 'k';
  const at = cell + scene.layoutField(layout, isKey ? LAYOUT_K : LAYOUT_V);
  const index = isKey ? channel * 64 + row : row * scene.headDim + channel;
  if (format === 'f32') return f32[at / 4 + index]!;
  if (format === 'f16') return decodeHalf(u16[at / 2 + index]!);
  const code = isKey
    ? u8[at + (channel >> 1) * 128 + row * 2 + (channel & 1)]!
    : u8[at + (row >> 1) * 2 * scene.headDim + channel * 2 + (row & 1)]!;
  const scales = cell + scene.layoutField(layout, isKey ? LAYOUT_K_SCALE : LAYOUT_V_SCALE);
  return ((code << 24) >> 24) * f32[scales / 4 + row]!;
}

function expected(format: string, row: Float64Array | Float32Array): number[] {
  if (format === 'f32') return Array.from(row, Math.fround);
  if (format === 'f16') return Array.from(row, x => decodeHalf(encodeHalf(Math.fround(x))));
  const { codes, scale } = encodeInt8(row);
  return Array.from(codes, code => code * scale);
}

/** f32 arithmetic before the encoding may move a number across a rounding border: one step of the format. */
function step(format: string, top: number, x: number): number {
  if (format === 'int8') return (top / 127) * 1.01;
  return format === 'f16' ? Math.max(Math.abs(x) * 2 ** -10, 2 ** -24) : top * 1e-6;
}

function topOf(row: ArrayLike<number>): number {
  let top = 0;
  for (let i = 0; i < row.length; i++) top = Math.max(top, Math.abs(row[i]!));
  return top;
}

it.each(['f32', 'f16', 'int8'] as const)('appends, stores and reads %s rows', format => {
  const wrong: string[] = [];
  for (const [headDim, rotary] of [
    [8, 8],
    [24, 12],
    [64, 64],
    [80, 80],
    [256, 128],
  ] as const) {
    for (const unrotated of [false, true]) {
      const scene = new Scene(kernels, headDim, [{ k: format, v: format, unrotated, bias: true }], headDim, rotary);
      const cell = scene.alloc(scene.layoutField(0, LAYOUT_CELL_BYTES));
      for (const [first, count] of [
        [0, 0],
        [0, 1],
        [1, 62],
        [63, 1],
        [0, 64],
        [17, 5],
      ] as const) {
        const positions = Array.from({ length: count }, (_, i) => 1000 + 3 * i);
        const k = scene.normals(count * headDim);
        const v = scene.normals(count * headDim);
        if (count > 2) k.fill(0, 0, headDim);
        if (count > 2) v.fill(0, headDim, 2 * headDim);
        scene.append(0, cell, first, positions, k, v);
        const back = scene.read(0, cell, first, count);
        const bias = (cell + scene.layoutField(0, LAYOUT_BIAS)) / 4;
        for (let r = 0; r < count; r++) {
          const key = k.subarray(r * headDim, (r + 1) * headDim);
          const turned = unrotated ? key : turnRow(key, positions[r]!, scene.frequencies);
          const value = v.subarray(r * headDim, (r + 1) * headDim);
          const wantedKey = expected(format, turned);
          const wantedValue = expected(format, value);
          for (let c = 0; c < headDim; c++) {
            const atKey = back.k[r * headDim + c]!;
            const atValue = back.v[r * headDim + c]!;
            const right =
              Math.abs(atKey - wantedKey[c]!) <= step(format, topOf(turned), wantedKey[c]!) &&
              Math.abs(atValue - wantedValue[c]!) <= step(format, topOf(value), wantedValue[c]!) &&
              atKey === Math.fround(stored(scene, 0, cell, 'k', first + r, c)) &&
              atValue === Math.fround(stored(scene, 0, cell, 'v', first + r, c));
            if (!right) wrong.push(`head size ${headDim}, row ${first + r}, channel ${c}: ${atKey}, ${atValue}`);
          }
          expect(kernels.memory.f32[bias + first + r]).toBe(0);
        }
      }
      scene.dispose();
    }
  }
  expect(wrong).toEqual([]);
});

it('rounds every half to nearest, ties to even, and saturates', () => {
  const scene = new Scene(kernels, 256, [{ k: 'f16', v: 'f16', unrotated: true }], 1);
  const cell = scene.alloc(scene.layoutField(0, LAYOUT_CELL_BYTES));
  const values: number[] = [
    0,
    -0,
    65504,
    65519.99,
    65520,
    1e9,
    -1e9,
    Infinity,
    -Infinity,
    NaN,
    2 ** -24,
    2 ** -25,
    3e-8,
  ];
  for (let i = 0; i < 1200; i++) {
    const code = scene.random.int(0x7bff);
    const low = decodeHalf(code);
    const high = decodeHalf(code + 1);
    values.push(low, -low, (low + high) / 2, low + (high - low) * 0.499, -(low + (high - low) * 0.501));
  }
  for (let from = 0; from < values.length; from += 256) {
    const row = new Float32Array(256);
    row.set(values.slice(from, from + 256));
    scene.append(0, cell, 5, [0], row, row);
    const back = scene.read(0, cell, 5, 1);
    const wanted = Array.from(row, x => decodeHalf(encodeHalf(x)));
    expect(Array.from(back.v)).toEqual(wanted);
    expect(Array.from(back.k)).toEqual(wanted);
  }
  scene.dispose();
});

it('stores no infinity and no NaN in int8', () => {
  const scene = new Scene(kernels, 8, [{ k: 'int8', v: 'int8', unrotated: true }], 2);
  const cell = scene.alloc(scene.layoutField(0, LAYOUT_CELL_BYTES));
  const row = Float32Array.of(NaN, Infinity, -Infinity, 1, 0, -0, NaN, 3e38);
  scene.append(0, cell, 9, [0], row, row);
  const { k, v } = scene.read(0, cell, 9, 1);
  expect(k).toEqual(v);
  expect(k.every(Number.isFinite)).toBe(true);
  expect([k[0], k[6]]).toEqual([0, 0]);
  expect(k[1]).toBeGreaterThan(3e38);
  expect(k[2]).toBeLessThan(-3e38);
  const nothing = new Float32Array(8).fill(NaN);
  scene.append(0, cell, 9, [0], nothing, nothing);
  expect(scene.read(0, cell, 9, 1).k.every(x => x === 0)).toBe(true);
  scene.dispose();
});

it.each(['f32', 'f16', 'int8'] as const)('copies %s rows with their parameters and columns', format => {
  const other = format === 'int8' ? 'f32' : 'int8';
  for (const [k, v] of [
    [format, format],
    [format, other],
  ] as const) {
    const scene = new Scene(kernels, 16, [{ k, v, bias: true }], 3);
    const positions = Array.from({ length: 64 }, (_, i) => i);
    const from = scene.page({ layout: 0, positions });
    const to = scene.page({ layout: 0, positions });
    const pairs = [
      [0, 5],
      [63, 0],
      [7, 63],
      [8, 8],
      [9, 6],
    ] as const;
    const copy = (source: number, target: number, list: readonly (readonly [number, number])[]) => {
      const bytes = scene.alloc(list.length * 2);
      kernels.memory.u8.set(list.flat(), bytes);
      const at = scene.alloc(COPY_BYTES);
      const set = (field: number, value: number) => {
        kernels.memory.i32[(at + field) / 4] = value;
      };
      set(COPY_FROM, source);
      set(COPY_TO, target);
      set(COPY_LAYOUT, 0);
      set(COPY_PAIRS, bytes);
      set(COPY_COUNT, list.length);
      set(COPY_LAYOUTS, scene.layouts);
      kernels.run(KIND_COPY, at, 1);
    };
    const row = (rows: Float32Array, i: number) => rows.slice(i * 16, i * 16 + 16);
    const biasOf = (cell: number) => (cell + scene.layoutField(0, LAYOUT_BIAS)) / 4;
    copy(from.cell, to.cell, pairs);
    const after = scene.read(0, to.cell, 0, 64);
    for (let i = 0; i < 64; i++) {
      const source = pairs.find(pair => pair[1] === i)?.[0];
      const page = source === undefined ? to : from;
      expect(row(after.k, i)).toEqual(row(page.k, source ?? i));
      expect(row(after.v, i)).toEqual(row(page.v, source ?? i));
      const { f32 } = kernels.memory;
      if (source !== undefined) expect(f32[biasOf(to.cell) + i]).toBe(f32[biasOf(from.cell) + source]);
    }
    // Compacting in place, rows ascending.
    copy(from.cell, from.cell, [
      [3, 0],
      [4, 1],
      [20, 2],
      [63, 3],
    ]);
    const compact = scene.read(0, from.cell, 0, 4);
    for (const [i, source] of [3, 4, 20, 63].entries()) {
      expect(row(compact.k, i)).toEqual(row(from.k, source));
      expect(row(compact.v, i)).toEqual(row(from.v, source));
    }
    scene.dispose();
  }
});
