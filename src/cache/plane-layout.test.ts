import { expect, test } from 'vitest';
import * as abi from '../../kernels/abi.ts';
import type { LatentFormat, ScalarFormat, ScalarPart } from './format.ts';
import { type PlanePlan, planPlane } from './plane-layout.ts';
import { writePlane } from './plane-record.ts';
import { PlainMemory } from './testing.ts';

const scalar = (part: ScalarPart, rest: Partial<ScalarFormat> = {}): ScalarFormat => ({
  kind: 'scalar',
  parts: [part],
  ...rest,
});
const latent = (rest: Partial<LatentFormat> = {}): LatentFormat => ({
  kind: 'latent',
  rank: 64,
  bits: 16,
  basis: false,
  norms: false,
  ...rest,
});

test.each([
  // bits + 2 * 16 / group
  [scalar({ bits: 2, along: 'token', group: 32 }), 3],
  [scalar({ bits: 2, along: 'token' }), 2.5],
  [scalar({ bits: 2, along: 'channel', group: 32 }), 3],
  [scalar({ bits: 4, along: 'channel', group: 32 }), 5],
  [scalar({ bits: 3, along: 'token', group: 64 }), 3.5],
  [scalar({ bits: 1, along: 'token', range: 'sign', group: 32 }), 1.5],
  [scalar({ bits: 8, along: 'channel', range: 'absmax' }), 8.25],
  [scalar({ bits: 16, along: 'channel' }), 16],
  [scalar({ bits: 3, along: 'token', scope: 'shared' }), 3],
  // 16 * 2 * (64 + 64) / (64 * 64)
  [scalar({ bits: 2, along: 'token' }, { lowRank: { rank: 2 } }), 3.5],
  // 81.92 slots of 32 bits, rounded up to a multiple of 8.
  [scalar({ bits: 2, along: 'token' }, { outliers: { share: 0.02, per: 'channel' } }), 2.5 + (88 * 32) / 4096],
  [
    scalar({ bits: 4, along: 'token', scope: 'shared' }, { outliers: { share: 0.01, per: 'range' } }),
    4 + (48 * 32) / 4096,
  ],
  [latent(), 0],
  [latent({ norms: true }), 0.5],
])('%j takes %d bits an element', (format, bits) => {
  for (const plane of ['k', 'v'] as const) expect(planPlane(format, 64, plane).bitsPerElement).toBe(bits);
});

test('a V part of few channels is padded to whole vectors, a K part is not', () => {
  const parts: ScalarPart[] = [
    { bits: 2, along: 'token', channels: [0, 1, 2, 3] },
    { bits: 4, along: 'token', channels: Array.from({ length: 60 }, (_, i) => i + 4) },
  ];
  const format: ScalarFormat = { kind: 'scalar', parts };
  const parameters = 16 + 16 + 128 + 128;
  expect(planPlane(format, 64, 'k').bytes).toBe(2 * 32 + 30 * 64 + parameters);
  expect(planPlane(format, 64, 'v').bytes).toBe(32 * 16 + 32 * 64 + parameters);
});

test('latent rows, scales and offsets lie outside of the cell, the basis in a block of each view', () => {
  const plan = planPlane(latent({ rank: 48, bits: 4, basis: true, norms: true }), 64, 'v');
  expect(plan).toMatchObject({ rowsBytes: 64 * 24 + 256, rowScale: 64 * 24, rowOffset: 64 * 24 + 128 });
  expect(plan).toMatchObject({ bytes: 256, sharedValues: 48 * 64, tableBytes: 0 });
});

test('arrays are aligned, apart from one another and within the plane', () => {
  const order = Array.from({ length: 64 }, (_, i) => 63 - i);
  const parts: ScalarPart[] = [
    { bits: 3, along: 'token', group: 16, channels: order.slice(0, 5), side: true },
    { bits: 16, along: 'channel', channels: order.slice(5, 12) },
    { bits: 2, along: 'channel', channels: order.slice(12, 44), group: 8, lut: [-1, 0, 0.5, 1], transform: 'hadamard' },
    { bits: 4, along: 'token', channels: order.slice(44), scope: 'shared', range: 'absmax', side: true },
  ];
  const format: ScalarFormat = {
    kind: 'scalar',
    parts,
    outliers: { share: 0.03, per: 'token' },
    lowRank: { rank: 3 },
  };
  const plan = planPlane(format, 64, 'k');
  const arrays: [number, number][] = [
    [plan.outlierIndex, plan.outliers * 2],
    [plan.outlierValue, plan.outliers * 2],
    [plan.a, 64 * 3 * 2],
    [plan.b, 64 * 3 * 2],
  ];
  const bytes = [
    [3 * 32, 3 * 16, 4 * 5 * 2, 4 * 5 * 2],
    [7 * 128, 0, 0, 0],
    [16 * 32, 0, 4 * 128, 4 * 128],
    [10 * 64, 0, 0, 0],
  ];
  plan.parts.forEach((part, p) => {
    const offsets = [part.codes, part.codesHigh, part.scale, part.offset];
    offsets.forEach((at, i) => {
      if (at >= 0 && !(part.shared && i > 1)) arrays.push([at, bytes[p]![i]!]);
    });
  });
  arrays.sort((a, b) => a[0] - b[0]);
  let end = 0;
  for (const [at, size] of arrays) {
    expect(size).toBeGreaterThan(0);
    expect(at % 16).toBe(0);
    expect(at).toBeGreaterThanOrEqual(end);
    expect(at - end).toBeLessThan(16);
    end = at + size;
  }
  expect(plan.bytes - end).toBeLessThan(16);
  // The block: side of the first part, scale and side of the last one.
  expect(plan.sharedValues).toBe(5 + 20 + 20);
  expect([plan.parts[0]!.side, plan.parts[3]!.scale, plan.parts[3]!.offset, plan.parts[3]!.side]).toEqual([
    0, 10, -1, 50,
  ]);
});

function written(plan: PlanePlan, at: number) {
  const memory = new PlainMemory(1 << 20);
  const record = memory.alloc(64);
  const tables = memory.alloc(plan.tableBytes + 64);
  memory.u8.fill(0xff, record, record + 64);
  memory.u8.fill(0xff, tables, tables + plan.tableBytes + 64);
  writePlane(memory, record, tables, plan, at);
  return { memory, record, tables, field: (base: number, offset: number) => memory.i32[(base + offset) / 4]! };
}

test('records name the places of the plan, moved to where the plane begins', () => {
  const lut = [-1, -0.25, 0.25, 1];
  const parts: ScalarPart[] = [
    { bits: 2, along: 'token', channels: [1, 0, 2], lut, lutRange: [-1.5, 1.25] },
    { bits: 4, along: 'channel', channels: [3, 4, 5, 6, 7], range: 'absmax' },
  ];
  const plan = planPlane({ kind: 'scalar', parts, outliers: { share: 0.1, per: 'token' } }, 8, 'v');
  const { memory, record, tables, field } = written(plan, 320);
  expect(field(record, abi.PLANE_PARTS)).toBe(tables);
  expect(field(record, abi.PLANE_PART_COUNT)).toBe(2);
  expect(field(record, abi.PLANE_OUTLIERS)).toBe(56);
  expect(field(record, abi.PLANE_OUTLIER_RULE)).toBe(abi.OUTLIERS_PER_TOKEN);
  expect(field(record, abi.PLANE_OUTLIER_VALUE)).toBe(320 + plan.outlierValue);
  expect(field(record, abi.PLANE_RANK)).toBe(0);
  const second = tables + abi.PART_BYTES;
  const list = field(tables, abi.PART_CHANNELS);
  expect(Array.from(memory.u16.subarray(list / 2, list / 2 + 3))).toEqual([1, 0, 2]);
  const values = field(tables, abi.PART_LUT);
  expect(Array.from(memory.f32.subarray(values / 4, values / 4 + 4))).toEqual(lut);
  const borders = lut.slice(1).map((high, i) => (lut[i]! + high) / 2);
  expect(Array.from(memory.f32.subarray(values / 4 + 4, values / 4 + 7))).toEqual(borders);
  expect(memory.f32[(tables + abi.PART_LUT_LEAST) / 4]).toBe(-1.5);
  expect(memory.f32[(tables + abi.PART_LUT_GREATEST) / 4]).toBe(1.25);
  expect(field(tables, abi.PART_CODES)).toBe(320 + plan.parts[0]!.codes);
  expect(field(tables, abi.PART_SIDE)).toBe(-1);
  expect(field(second, abi.PART_SCALE)).toBe(320 + plan.parts[1]!.scale);
  expect(field(second, abi.PART_OFFSET)).toBe(-1);
  expect(field(second, abi.PART_GROUP)).toBe(5);
  expect(field(second, abi.PART_RANGE)).toBe(abi.RANGE_ABSMAX);
  expect(memory.f32[(second + abi.PART_LUT_LEAST) / 4]).toBe(-8);
  // Nothing beyond the tables is touched.
  expect(memory.u8[tables + plan.tableBytes]).toBe(0xff);
});

test('a latent record says where norms lie, and that there are none', () => {
  const with8 = written(planPlane(latent({ bits: 8, norms: true }), 64, 'k'), 128);
  expect(with8.field(with8.record, abi.PLANE_NORM)).toBe(128);
  expect(with8.field(with8.record, abi.PLANE_ROW_SCALE)).toBe(64 * 64);
  expect(with8.field(with8.record, abi.PLANE_BASIS)).toBe(0);
  const bare = written(planPlane(latent({ rank: 16, basis: true }), 64, 'k'), 128);
  expect(bare.field(bare.record, abi.PLANE_NORM)).toBe(-1);
  expect(bare.field(bare.record, abi.PLANE_BASIS)).toBe(1);
});

const two = { bits: 2, along: 'token' } as const;
test.each([
  ['k', undefined],
  ['k', { kind: 'vector' }],
  ['k.parts', { kind: 'scalar', parts: [] }],
  ['k.parts', { kind: 'scalar', parts: [{ ...two, channels: [0, 1] }] }],
  ['k.parts[1].channels', { kind: 'scalar', parts: [{ ...two, channels: [0] }, two] }],
  [
    'k.parts[1].channels',
    {
      kind: 'scalar',
      parts: [
        { ...two, channels: [0, 1] },
        { ...two, channels: [1, 2] },
      ],
    },
  ],
  ['k.parts[0].channels', scalar({ ...two, channels: [64] })],
  ['k.parts[0].channels', scalar({ ...two, channels: [] })],
  ['k.parts[0].bits', scalar({ ...two, bits: 5 as 4 })],
  ['k.parts[0].along', scalar({ ...two, along: 'head' as 'token' })],
  ['k.parts[0].group', scalar({ ...two, group: 48 })],
  ['k.parts[0].group', scalar({ bits: 2, along: 'channel', group: 48 })],
  ['k.parts[0].range', scalar({ ...two, range: 'sign' })],
  ['k.parts[0].range', scalar({ bits: 1, along: 'token', range: 'absmax' })],
  ['k.parts[0].range', scalar({ ...two, range: 'deviation' })],
  ['k.parts[0].range', scalar({ bits: 4, along: 'token', range: 'ternary' })],
  ['k.parts[0].range', scalar({ ...two, range: 'ternary', scope: 'shared' })],
  ['k.parts[0].clip', scalar({ ...two, clip: 0 })],
  ['k.parts[0].clip', scalar({ ...two, clip: 1.5 })],
  ['k.parts[0].clip', scalar({ ...two, clip: 0.8, range: 'absmax' })],
  ['k.parts[0].clip', scalar({ ...two, clip: 0.8, scope: 'shared' })],
  ['k.parts[0].threshold', scalar({ ...two, threshold: 0.5 })],
  ['k.parts[0].threshold', scalar({ ...two, range: 'ternary', threshold: 1 })],
  ['k.parts[0].lut', scalar({ ...two, lut: [0, 1, 2] })],
  ['k.parts[0].lut', scalar({ ...two, lut: [0, 2, 1, 3] })],
  ['k.parts[0].lutRange', scalar({ ...two, lutRange: [0, 1] })],
  ['k.parts[0].lutRange', scalar({ ...two, lut: [0, 1, 2, 3], lutRange: [1, 1] })],
  ['k.parts[0].scope', scalar({ bits: 2, along: 'channel', scope: 'shared' })],
  ['k.parts[0].group', scalar({ ...two, scope: 'shared', group: 32 })],
  ['k.parts[0].borders', scalar({ ...two, borders: [0, 1, 2] })],
  ['k.parts[0].borders', scalar({ ...two, lut: [0, 1, 2, 3], borders: [0, 1] })],
  ['k.parts[0].borders', scalar({ ...two, lut: [0, 1, 2, 3], borders: [0, 2, 1] })],
  ['k.parts[0].transform', scalar({ ...two, transform: 'fourier' as 'hadamard' })],
  ['k.outliers.share', scalar(two, { outliers: { share: 0.3, per: 'token' } })],
  ['k.outliers.share', scalar(two, { outliers: { share: Number.NaN, per: 'token' } })],
  ['k.outliers.per', scalar(two, { outliers: { share: 0.1, per: 'range' } })],
  ['k.lowRank.rank', scalar(two, { lowRank: { rank: 65 } })],
  ['k.lowRank.rounds', scalar(two, { lowRank: { rank: 2, rounds: 0 } })],
  ['k.bits', latent({ bits: 2 as 4 })],
  ['k.rank', latent({ rank: 32 })],
  ['k.rank', latent({ rank: 20, basis: true })],
  ['k.rank', latent({ rank: 2048, basis: true })],
])('refuses what cannot be, naming %s', (field, format) => {
  expect(() => planPlane(format as ScalarFormat, 64, 'k')).toThrow(
    expect.objectContaining({ code: 'invalid_request', field, allowed: expect.any(String) }),
  );
});

test('a Hadamard transform needs a power of two of channels', () => {
  const channels = Array.from({ length: 24 }, (_, i) => i);
  const format = scalar({ ...two, channels, transform: 'hadamard' });
  expect(() => planPlane(format, 24, 'v', 'pages.v')).toThrow(
    expect.objectContaining({ field: 'pages.v.parts[0].channels', value: 24 }),
  );
});
