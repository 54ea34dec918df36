import { expect, test } from 'vitest';
import * as abi from '../../kernels/abi.ts';
import { CacheBudget } from './budget.ts';
import type { ScalarFormat } from './format.ts';
import { checkShape, LayoutTable } from './layout.ts';
import { Account, Ledger } from './ledger.ts';
import { PlainMemory } from './testing.ts';
import { FORMAT_NAMES, type PageOptions } from './types.ts';

const shape = { slots: 2, kvHeads: 3, headDim: 64, rotary: 64 };

function table(limit = 1 << 24) {
  const memory = new PlainMemory(8 << 20);
  const ledger = new Ledger(new CacheBudget(limit), shape.slots);
  const layouts = new LayoutTable(memory, shape, new Account(ledger, 'cache', LayoutTable.bytes));
  const field = (id: number, at: number) => memory.u32[(layouts.address + id * abi.LAYOUT_BYTES + at) >>> 2]!;
  return { memory, layouts, field, ledger };
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

test('refuses more layouts than can be, and keeps serving those it has', () => {
  const { layouts } = table();
  for (let i = 0; i < 8192; i++) layouts.intern({ formatK: 'f32', formatV: 'f32', columns: [`c${i}`] });
  expect(() => layouts.intern({ formatK: 'f16', formatV: 'f32' })).toThrow(
    expect.objectContaining({ code: 'unsupported' }),
  );
  expect(layouts.intern({ formatK: 'f32', formatV: 'f32', columns: ['c7'] }).id).toBe(7);
});

/** 2 bits with a LUT of its own and its channels in two lists: 2 PART records, a LUT and two lists. */
function withLut(top: number): ScalarFormat {
  const channels = (parity: number) => Array.from({ length: 32 }, (_, i) => 2 * i + parity);
  const lut = [0, 1, 2, top];
  return {
    kind: 'scalar',
    parts: [
      { channels: channels(0), bits: 2, along: 'token', lut },
      { channels: channels(1), bits: 4, along: 'token', scope: 'shared' },
    ],
  };
}

test('layouts of actions are interned by content, grow the table, pay for their tables and go with their last holder', () => {
  const { layouts, memory, ledger, field } = table();
  layouts.intern({ formatK: 'f32', formatV: 'f32' });
  const held = memory.held;
  const made = Array.from({ length: 200 }, (_, i) => layouts.hold({ formatK: withLut(3 + i), formatV: 'f16' }));
  expect(new Set(made.map(({ id }) => id)).size).toBe(200);
  expect(layouts.hold({ formatK: withLut(3), formatV: 'f16' })).toBe(made[0]);
  expect(memory.held).toBe(ledger.held);
  expect(layouts.held).toBe(memory.held);
  const tables = field(made[7]!.id, abi.LAYOUT_PLANE_K + abi.PLANE_PARTS);
  const lut = memory.u32[(tables + abi.PART_LUT) >>> 2]! >>> 2;
  expect([...memory.f32.subarray(lut, lut + 4)]).toEqual([0, 1, 2, 10]);
  const list = memory.u32[(tables + abi.PART_BYTES + abi.PART_CHANNELS) >>> 2]! >>> 1;
  expect([...memory.u16.subarray(list, list + 3)]).toEqual([1, 3, 5]);
  expect([made[7]!.sharedValuesK, made[7]!.sharedValuesV]).toEqual([64, 0]);
  expect(field(made[7]!.id, abi.LAYOUT_HEADER)).toBe(made[7]!.headerAt + 1);
  for (const { id } of made) layouts.release(id);
  expect(layouts.count).toBe(2);
  layouts.release(made[0]!.id);
  expect([layouts.count, memory.held, ledger.held]).toEqual([1, held, held]);
});

test('a table that cannot grow refuses the layout and stays as it was', () => {
  const { layouts, memory } = table(LayoutTable.bytes + 100);
  for (let i = 0; i < 64; i++) layouts.hold({ formatK: 'f32', formatV: 'f32', columns: [`c${i}`] });
  expect(() => layouts.hold({ formatK: 'f16', formatV: 'f32' })).toThrow(
    expect.objectContaining({ code: 'kv_cache_full' }),
  );
  expect([layouts.count, memory.held]).toEqual([64, LayoutTable.bytes]);
  expect(layouts.hold({ formatK: 'f32', formatV: 'f32', columns: ['c7'] }).id).toBe(7);
});

test('joint cells hold a header and norms, their pages the rows', () => {
  const { layouts } = table();
  const latent = { kind: 'latent', rank: 64, bits: 8, basis: false, norms: true } as const;
  const joint = layouts.hold({
    formatK: latent,
    formatV: { ...latent, bits: 16, basis: true, norms: false, rank: 16 },
  });
  expect(joint.kind).toBe('joint');
  expect(joint.sharedV).toBe(64 * 64 + 2 * 64 * 2);
  expect(joint.sharedBytes - joint.sharedV).toBe(64 * 16 * 2);
  expect(joint.cellBytes).toBe(64 * 4 + 16);
  expect([joint.sharedValuesK, joint.sharedValuesV]).toEqual([0, 16 * 64]);
});

test.each(['slots', 'kvHeads', 'headDim', 'rotary'] as const)('refuses a shape with bad %s', field => {
  for (const value of [-1, 1.5, Number.NaN, 1e9]) {
    expect(() => checkShape({ ...shape, [field]: value })).toThrow(
      expect.objectContaining({ field: `shape.${field}`, value }),
    );
  }
  expect(() => checkShape(shape)).not.toThrow();
});
