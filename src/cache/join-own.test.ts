import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { decodeJoint, encodeJoint } from '../../kernels/reference/joint.ts';
import { decodeScalar, encodeScalar } from '../../kernels/reference/scalar.ts';
import { KvCache } from './cache.ts';
import type { JointFormat, ScalarFormat, ScalarPart } from './format.ts';
import type { CacheSequence } from './sequence.ts';
import { openBackend } from './testing-backends.ts';
import { checkInvariants } from './testing-invariants.ts';
import { appendRows, type Model, numbers } from './testing-model.ts';
import type { CacheShape, PageOptions, ReadResult } from './types.ts';

/** Joined planes that keep the views' own rows: keys of several heads together, values of each. */

const f32: PageOptions = { formatK: 'f32', formatV: 'f32', keysUnrotated: true };
const random = numbers(5);
const below = (n: number) => Math.floor(((random() + 1) / 2) * n);
const upTo = (n: number) => Array.from({ length: n }, (_, i) => i);
const two: ScalarFormat = { kind: 'scalar', parts: [{ bits: 2, along: 'channel', transform: 'hadamard', clip: 0.8 }] };

/** Channels in a random order, in parts of `width`. */
function parts(total: number, width: number, part: ScalarPart): ScalarPart[] {
  const order = upTo(total)
    .map(channel => [channel, random()] as const)
    .sort((a, b) => a[1] - b[1]);
  return upTo(total / width).map(n => ({
    ...part,
    channels: order.slice(n * width, (n + 1) * width).map(([channel]) => channel),
  }));
}

describe('own rows of views', () => {
  let backend: Awaited<ReturnType<typeof openBackend>>;
  let cache: KvCache | undefined;
  let base: number;
  beforeAll(async () => {
    backend = await openBackend('wasm');
  });
  beforeEach(() => {
    base = backend.memory.held;
  });
  afterEach(() => {
    cache?.dispose();
    expect(backend.memory.held).toBe(base);
  });
  afterAll(() => backend.kernels.dispose());

  function open(shape: CacheShape, rows: number, pages = f32): CacheSequence {
    cache = new KvCache({ ...backend, shape, limit: 64 << 20 });
    const sequence = cache.create({ owner: 'me', pages });
    const model: Model = upTo(shape.slots * shape.kvHeads).map(() => []);
    if (rows > 0) appendRows(cache, sequence, model, rows, random);
    return sequence;
  }

  const shapeOf = (kvHeads: number, headDim: number): CacheShape => ({
    ...{ slots: 2, kvHeads, headDim, rotary: headDim },
  });
  const viewsOf = (heads: number, first = 0) => upTo(heads).map(i => ({ slot: 1, head: first + i }));
  const rowsOf = (x: Float32Array, entries: ArrayLike<number>, d: number) =>
    Array.from(entries).flatMap(entry => [...x.subarray(entry * d, (entry + 1) * d)]);

  test.each([
    [1, 64, 64, { bits: 2, along: 'channel' }],
    [2, 8, 16, { bits: 3, along: 'channel', clip: 0.9 }],
    [4, 64, 128, { bits: 2, along: 'channel', clip: 0.8 }],
    [4, 16, 32, { bits: 4, along: 'channel', group: 16 }],
    [8, 64, 128, { bits: 4, along: 'token', group: 32 }],
    [4, 128, 128, { bits: 1, along: 'token', range: 'deviation' }],
  ] as const)('%i heads of %i, parts of %i: what the float64 reference says', (heads, d, width, part) => {
    const count = [64, 65, 1, 63, 130][below(5)]!;
    const sequence = open(shapeOf(heads, d), count + 3);
    const format: JointFormat = { kind: 'joint', heads, parts: parts(heads * d, width, part) };
    const before = upTo(heads).map(head => sequence.read(1, head));
    const untouched = sequence.read(0, 0);
    // Two entries stay behind, somewhere before the end.
    const left = new Set([below(count), below(count) + 1]);
    const taken = Uint32Array.from(upTo(count + 3).filter(entry => !left.has(entry)));
    const views = viewsOf(heads);
    sequence.prepareJoin([{ views, entries: views.map(() => taken), k: { format }, v: { format: two } }]).apply();
    checkInvariants(cache!, [sequence]);
    const after = upTo(heads).map(head => sequence.read(1, head));
    const rest = [...left].filter(entry => entry < count + 3).sort((a, b) => a - b);
    for (const [h, { positions, k, v }] of after.entries()) {
      expect([...positions]).toEqual([...taken, ...rest]);
      expect([...k.subarray(taken.length * d)]).toEqual(rowsOf(before[h]!.k, rest, d));
      expect([...v.subarray(taken.length * d)]).toEqual(rowsOf(before[h]!.v, rest, d));
    }
    expect(sequence.read(0, 0)).toEqual(untouched);
    for (let from = 0; from < taken.length; from += 64) {
      const rows = taken.subarray(from, from + 64);
      const plane = encodeJoint(
        before.map(({ k }) => rowsOf(k, rows, d)),
        rows.length,
        d,
        format,
      );
      const keys = decodeJoint(plane, d, format);
      const close = (wanted: Float64Array, x: Float32Array, t: number) => {
        let far = 0;
        for (let c = 0; c < d; c++) far = Math.max(far, Math.abs(wanted[t * d + c]! - x[(from + t) * d + c]!));
        return far < 2e-3;
      };
      // f32 may take the other one of two codes on their border: such tokens are counted, not compared.
      const onBorder = new Set<number>();
      for (const { margin } of plane.parts)
        for (const [i, x] of margin.entries()) if (x < 1e-5) onBorder.add(Math.floor(i / (margin.length / 64)));
      const wrong = upTo(rows.length).filter(t => !onBorder.has(t) && !keys.every((k, h) => close(k, after[h]!.k, t)));
      expect(wrong).toEqual([]);
      expect(onBorder.size).toBeLessThan(20);
      for (const [h, { v }] of after.entries()) {
        const wanted = encodeScalar(rowsOf(before[h]!.v, rows, d), rows.length, d, two);
        const values = decodeScalar(wanted, d, two);
        const margins = wanted.parts[0]!.margin;
        const sure = upTo(rows.length).filter(t => margins.subarray(t * d, (t + 1) * d).every(x => x > 1e-5));
        expect(sure.filter(t => !close(values, v, t))).toEqual([]);
      }
    }
  });

  test('the transform alone loses nothing but f16', () => {
    const sequence = open(shapeOf(4, 32), 100);
    const format: JointFormat = { kind: 'joint', heads: 4, parts: parts(128, 64, { bits: 16, along: 'channel' }) };
    const views = viewsOf(4);
    const before = upTo(4).map(head => sequence.read(1, head));
    const entries = views.map(() => Uint32Array.from(upTo(100)));
    sequence.prepareJoin([{ views, entries, k: { format }, v: { format: two } }]).apply();
    for (const [h, { k }] of before.entries()) {
      const far = sequence.read(1, h).k.reduce((most, x, i) => Math.max(most, Math.abs(x - k[i]!)), 0);
      expect(far).toBeLessThan(1e-3 * k.reduce((most, x) => Math.max(most, Math.abs(x)), 0));
    }
  });

  test('bytes are those of the codes; forks, holes, cuts and copies go as with any joint page', () => {
    const shape = shapeOf(4, 64);
    const sequence = open(shape, 140, { ...f32, columns: ['score'] });
    const format: JointFormat = {
      ...{ kind: 'joint', heads: 2, parts: parts(128, 128, { bits: 2, along: 'channel', clip: 0.8 }) },
    };
    const entries = Uint32Array.from(upTo(128));
    const items = [0, 2].map(first => ({
      ...{ views: viewsOf(2, first), entries: [entries, entries], k: { format }, v: { format: two } },
    }));
    sequence.prepareJoin(items).apply();
    checkInvariants(cache!, [sequence]);
    // Keys: 2 bits and one scale and offset in f16 a token, of 128 channels; values: as much of 64; header and column a view.
    const page = (64 * 128 * 2) / 8 + 64 * 4 + 2 * ((64 * 64 * 2) / 8 + 64 * 4 + 16);
    expect(sequence.stats().bytes.joint).toBe(4 * Math.ceil((page + 2 * 256) / 64) * 64 - 4 * 2 * 256);
    const read = (of: CacheSequence) => upTo(4).map(head => of.read(1, head));
    const whole = read(sequence);
    const fork = sequence.fork('other');
    fork.setColumn(1, 1, 'score', Float32Array.from(upTo(140)));
    fork.keep(1, 2, [[10, 90]]);
    const part = read(fork);
    const cut = ({ k, v }: ReadResult, from: number, to: number) => [
      k.slice(from * 64, to * 64),
      v.slice(from * 64, to * 64),
    ];
    expect(cut(part[2]!, 0, 80)).toEqual(cut(whole[2]!, 10, 90));
    expect(cut(part[1]!, 0, 140)).toEqual(cut(whole[1]!, 0, 140));
    expect([...part[1]!.columns.score!]).toEqual(upTo(140));
    expect(read(sequence)).toEqual(whole);
    sequence.truncate(70);
    expect(cut(sequence.read(1, 3), 0, 70)).toEqual(cut(whole[3]!, 0, 70));
    checkInvariants(cache!, [sequence, fork]);
    sequence.free();
    expect(read(fork)).toEqual(part);
    fork.free();
    expect(cache!.storage.shared.count).toBe(0);
  });

  test('single views: values and keys in their own formats, any entries', () => {
    const sequence = open(shapeOf(1, 16), 200);
    const before = sequence.read(1, 0);
    const taken = Uint32Array.from(upTo(200).filter(i => i % 7 !== 3));
    const plain: ScalarFormat = { kind: 'scalar', parts: [{ bits: 16, along: 'token' }] };
    sequence.prepareJoin([{ views: viewsOf(1), entries: [taken], k: { format: plain }, v: { format: plain } }]).apply();
    checkInvariants(cache!, [sequence]);
    const rest = upTo(200).filter(i => i % 7 === 3);
    const after = sequence.read(1, 0);
    expect([...after.positions]).toEqual([...taken, ...rest]);
    for (const [i, x] of rowsOf(before.k, after.positions, 16).entries()) expect(after.k[i]).toBeCloseTo(x, 2);
    // What is left lies in as few pages as it needs, once it is kept.
    sequence.keep(1, 0, [[0, 200]]);
    expect(sequence.refCount(1, 0)).toBe(Math.ceil(taken.length / 64) + 1);
    expect(sequence.read(1, 0)).toEqual(after);
  });

  test.each([
    ['k.format.heads', { kind: 'joint', heads: 2, parts: parts(64, 64, { bits: 2, along: 'channel' }) }, two],
    ['k.format.heads', { kind: 'joint', heads: 3, parts: [] }, two],
    ['k.format.parts[0].channels', { kind: 'joint', heads: 4, parts: [{ bits: 2, along: 'channel' }] }, two, 64],
    ['k.format.parts[0].transform', { kind: 'joint', heads: 4, parts: [{ ...two.parts[0]! }] }, two],
    ['v.format', two, { kind: 'joint', heads: 4, parts: parts(128, 64, { bits: 2, along: 'channel' }) }],
    ['k.format', { kind: 'scalar', parts: [{ bits: 2, along: 'token', scope: 'shared' }] }, two],
  ] as const)('refuses %s', (field, k, v, d: number = 32) => {
    const sequence = open(shapeOf(4, d), 64);
    const views = viewsOf(4);
    const entries = views.map(() => Uint32Array.from(upTo(64)));
    const plan = [{ views, entries, k: { format: k as JointFormat }, v: { format: v as ScalarFormat } }];
    const before = { ...cache!.stats(), peak: 0 };
    expect(() => sequence.prepareJoin(plan)).toThrow(
      expect.objectContaining({ code: 'invalid_request', field: `plan[0].${field}` }),
    );
    expect({ ...cache!.stats(), peak: 0 }).toEqual(before);
  });

  test('rows that have been encoded are not encoded again', () => {
    const sequence = open(shapeOf(1, 32), 64);
    const entries = [Uint32Array.from(upTo(64))];
    const plan = [{ views: viewsOf(1), entries, k: { format: two }, v: { format: two } }];
    sequence.prepareJoin(plan).apply();
    expect(() => sequence.prepareJoin(plan)).toThrow(
      expect.objectContaining({ code: 'invalid_request', field: 'plan[0].entries[0][0]' }),
    );
  });
});
