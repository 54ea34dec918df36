import { expect, test } from 'vitest';
import * as abi from '../../kernels/abi.ts';
import { checkShape, LayoutTable } from './layout.ts';
import { PlainMemory } from './testing.ts';
import { FORMAT_NAMES, type PageOptions } from './types.ts';

const shape = { slots: 2, kvHeads: 3, headDim: 64, rotary: 64 };

function table() {
  const memory = new PlainMemory(1 << 20);
  const layouts = new LayoutTable(memory, shape);
  const field = (id: number, at: number) => memory.u32[(layouts.address + id * abi.LAYOUT_BYTES + at) >>> 2]!;
  return { memory, layouts, field };
}

test('an f32 page of one head of 64 is 32 KiB', () => {
  const { layouts } = table();
  expect(layouts.intern({ formatK: 'f32', formatV: 'f32' }).cellBytes).toBe(32 * 1024);
  expect(layouts.intern({ formatK: 'int8', formatV: 'int8' }).cellBytes).toBe(2 * (64 * 64 + 64 * 4));
});

test('planes are aligned, apart from one another and within the cell, in every pair of formats', () => {
  const { layouts, field } = table();
  const bytes = { f32: 4, f16: 2, int8: 1 };
  for (const formatK of FORMAT_NAMES) {
    for (const formatV of FORMAT_NAMES) {
      const layout = layouts.intern({ formatK, formatV, columns: ['score', 'bias'] });
      const planes: [number, number][] = [
        [field(layout.id, abi.LAYOUT_K), 64 * 64 * bytes[formatK]],
        [field(layout.id, abi.LAYOUT_V), 64 * 64 * bytes[formatV]],
        ...[...layout.columns.values()].map((at): [number, number] => [at, 256]),
      ];
      if (formatK === 'int8') planes.push([field(layout.id, abi.LAYOUT_K_SCALE), 256]);
      if (formatV === 'int8') planes.push([field(layout.id, abi.LAYOUT_V_SCALE), 256]);
      planes.sort((a, b) => a[0] - b[0]);
      let end = 0;
      for (const [at, size] of planes) {
        expect(at).toBe(end);
        expect(at % 64).toBe(0);
        end = at + size;
      }
      expect(layout.cellBytes).toBe(end);
      expect(field(layout.id, abi.LAYOUT_CELL_BYTES)).toBe(end);
      expect(field(layout.id, abi.LAYOUT_BIAS)).toBe(layout.columns.get('bias'));
    }
  }
});

test('equal options give the same record, others another', () => {
  const { layouts, field } = table();
  const base: PageOptions = { formatK: 'int8', formatV: 'f16' };
  const first = layouts.intern(base);
  expect(layouts.intern({ ...base, columns: [] })).toBe(first);
  expect(layouts.intern({ ...base, span: { slots: 2, kvHeads: 1 } })).toBe(first);
  const unrotated = layouts.intern({ ...base, keysUnrotated: true });
  expect(unrotated.id).not.toBe(first.id);
  expect(field(unrotated.id, abi.LAYOUT_KEYS_UNROTATED)).toBe(1);
  expect(field(first.id, abi.LAYOUT_BIAS)).toBe(0);
});

test.each([
  [{ formatK: 'f8', formatV: 'f32' }, 'pages.formatK'],
  [{ formatK: 'f32', formatV: undefined }, 'pages.formatV'],
  [{ formatK: 'f32', formatV: 'f32', columns: ['a', 'a'] }, 'pages.columns'],
  [{ formatK: 'f32', formatV: 'f32', columns: ['position'] }, 'pages.columns'],
  [{ formatK: 'f32', formatV: 'f32', columns: ['no spaces'] }, 'pages.columns'],
  [{ formatK: 'f32', formatV: 'f32', columns: Array.from({ length: 17 }, (_, i) => `c${i}`) }, 'pages.columns'],
])('refuses %o, naming %s', (options, field) => {
  const { layouts } = table();
  expect(() => layouts.intern(options as PageOptions)).toThrow(
    expect.objectContaining({ code: 'invalid_request', field }),
  );
});

test('refuses more layouts than the table holds, and keeps serving those it has', () => {
  const { layouts } = table();
  for (let i = 0; i < 256; i++) layouts.intern({ formatK: 'f32', formatV: 'f32', columns: [`c${i}`] });
  expect(() => layouts.intern({ formatK: 'f16', formatV: 'f32' })).toThrow(
    expect.objectContaining({ code: 'unsupported' }),
  );
  expect(layouts.intern({ formatK: 'f32', formatV: 'f32', columns: ['c7'] }).id).toBe(7);
});

test.each(['slots', 'kvHeads', 'headDim', 'rotary'] as const)('refuses a shape with bad %s', field => {
  for (const value of [-1, 1.5, Number.NaN, 1e9]) {
    expect(() => checkShape({ ...shape, [field]: value })).toThrow(
      expect.objectContaining({ field: `shape.${field}`, value }),
    );
  }
  expect(() => checkShape(shape)).not.toThrow();
});
