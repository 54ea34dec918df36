import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Kernels, Memory } from '../backend/types.ts';
import { KvCache } from './cache.ts';
import type { CacheSequence } from './sequence.ts';
import { PlainMemory } from './testing.ts';
import { BACKENDS, openBackend } from './testing-backends.ts';
import { checkInvariants } from './testing-invariants.ts';
import { appendRows, attend, compare, copyModel, type Model, numbers } from './testing-model.ts';
import type { CacheShape, PageOptions } from './types.ts';

const shape: CacheShape = { slots: 2, kvHeads: 2, headDim: 8, rotary: 8 };
const f32: PageOptions = { formatK: 'f32', formatV: 'f32' };

describe.each(BACKENDS)('drop on %s kernels', backend => {
  let cache: KvCache;
  let memory: Memory;
  let kernels: Kernels;
  let base = 0;
  const random = numbers(7);
  const below = (n: number) => Math.floor(((random() + 1) / 2) * n);

  beforeEach(async () => {
    ({ memory, kernels } = await openBackend(backend));
    base = memory.held;
  });

  afterEach(async () => {
    if (memory instanceof PlainMemory) memory.allowance = Number.POSITIVE_INFINITY;
    cache.dispose();
    expect(memory.held).toBe(base);
    await kernels.dispose();
  });

  function open(pages: PageOptions = f32, of = shape) {
    cache = new KvCache({ memory, kernels, shape: of, limit: 128 << 20 });
    const sequence = cache.create({ owner: 'me', pages });
    const model: Model = Array.from({ length: of.slots * of.kvHeads }, () => []);
    return { sequence, model };
  }

  function drop(sequence: CacheSequence, model: Model, view: number, from: number, count = 1) {
    const { kvHeads } = cache.shape;
    sequence.dropOldest(Math.floor(view / kvHeads), view % kvHeads, from, count);
    model[view]!.splice(from, count);
  }

  test.each([
    ['f32', undefined],
    ['int8', undefined],
    ['f16', { slots: 1, kvHeads: 2 }],
  ] as const)('1,000 random drops between appends agree with plain lists (%s, span %o)', (format, span) => {
    const { sequence, model } = open({ formatK: format, formatV: format, columns: ['bias'], ...(span && { span }) });
    appendRows(cache, sequence, model, 300, random);
    sequence.setColumn(1, 1, 'bias', Float32Array.from({ length: 300 }, random));
    for (const [i, value] of sequence.column(1, 1, 'bias').entries()) model[3]![i]!.columns.bias = value;
    let child: CacheSequence | null = null;
    let childModel: Model = [];
    for (let n = 0; n < 1000; n++) {
      const view = below(4);
      const entries = model[view]!.length;
      if (entries > 0) {
        const count = random() > 0.9 ? 1 + below(Math.min(80, entries)) : 1;
        drop(sequence, model, view, below(entries - count + 1), count);
      }
      if (n % 3 === 0) appendRows(cache, sequence, model, random() > 0.9 ? 90 : 1, random);
      if (n === 400) {
        child = sequence.fork('child');
        childModel = copyModel(model);
      }
      if (n % 50 === 0) {
        compare(cache, sequence, model);
        checkInvariants(cache, child ? [sequence, child] : [sequence]);
      }
    }
    compare(cache, sequence, model);
    compare(cache, child!, childModel);
    for (let view = 0; view < 4; view++) {
      const q = Float32Array.from({ length: 16 }, random);
      const queries = { positions: [sequence.position], group: 2, window: 0, q };
      const { actual, expected } = attend(cache, sequence, model, view >> 1, view & 1, queries);
      for (let i = 0; i < actual.length; i++) expect(Math.abs(actual[i]! - expected[i]!)).toBeLessThan(0.02);
    }
    sequence.free();
    child!.free();
  });

  test('pages stay within ceil(live / 64) + 4', () => {
    const { sequence, model } = open();
    appendRows(cache, sequence, model, 640, random);
    for (let n = 0; n < 600; n++) {
      for (let view = 0; view < 4; view++) drop(sequence, model, view, below(model[view]!.length));
      appendRows(cache, sequence, model, 1, random);
      for (let view = 0; view < 4; view++) expect(sequence.refCount(view >> 1, view & 1)).toBeLessThanOrEqual(14);
    }
    compare(cache, sequence, model);
    for (let n = 0; n < 600; n++) drop(sequence, model, 0, below(model[0]!.length));
    expect(sequence.refCount(0, 0)).toBeLessThanOrEqual(5);
    compare(cache, sequence, model);
    checkInvariants(cache, [sequence]);
  });

  test('the last entry, the only entry, a whole view, and rows after them', () => {
    const { sequence, model } = open();
    appendRows(cache, sequence, model, 65, random);
    drop(sequence, model, 0, 64);
    drop(sequence, model, 1, 63, 2);
    drop(sequence, model, 2, 0, 65);
    appendRows(cache, sequence, model, 3, random);
    expect(sequence.entries(1, 0)).toBe(3);
    compare(cache, sequence, model);
    checkInvariants(cache, [sequence]);
    expect(() => sequence.undoAppend()).not.toThrow();
    for (const entries of model) entries.splice(-3);
    drop(sequence, model, 3, 1);
    expect(() => sequence.undoAppend()).toThrow(expect.objectContaining({ code: 'invalid_request' }));
    compare(cache, sequence, model);
  });

  test('refuses what is not there', () => {
    const { sequence, model } = open();
    appendRows(cache, sequence, model, 10, random);
    for (const [from, count] of [
      [10, 1],
      [-1, 1],
      [0.5, 1],
      [8, 3],
      [0, Number.NaN],
    ] as const) {
      expect(() => sequence.dropOldest(0, 0, from, count)).toThrow(expect.objectContaining({ field: 'entry' }));
    }
    expect(() => sequence.drop(2, 0, 0)).toThrow(expect.objectContaining({ field: 'slot' }));
    sequence.dropOldest(0, 0, 10, 0);
    compare(cache, sequence, model);
  });

  test('a promised append still succeeds after drops', () => {
    const { sequence, model } = open();
    appendRows(cache, sequence, model, 60, random);
    sequence.reserve(200);
    const other = cache.create({ owner: 'other', pages: f32 });
    for (let view = 0; view < 4; view++) drop(sequence, model, view, 50, 10);
    // Whatever is free goes to another.
    for (let tokens = 2 ** 20, room = 0; tokens >= 1; tokens /= 2) {
      try {
        other.reserve(room + tokens);
        room += tokens;
      } catch {}
    }
    expect(() => other.reserve(2 ** 20)).toThrow(expect.objectContaining({ code: 'kv_cache_full' }));
    for (let i = 0; i < 200; i++) {
      appendRows(cache, sequence, model, 1, random);
      for (let view = 0; view < 4; view++) drop(sequence, model, view, below(40));
    }
    compare(cache, sequence, model);
    checkInvariants(cache, [sequence, other]);
  });

  test.each(['oldest', 'any'])(
    'a promise to views that drop the %s entry at each row holds, though all else is taken',
    which => {
      const { sequence, model } = open();
      appendRows(cache, sequence, model, 65, random);
      const { budget } = cache;
      sequence.reserve(600, 65);
      const bounded = cache.stats().reserved;
      let taken = 0;
      const takeAll = () => {
        taken += budget.free;
        budget.take(budget.free);
      };
      for (let n = 0; n < 600; n++) {
        takeAll();
        appendRows(cache, sequence, model, 1, random);
        takeAll();
        for (let view = 0; view < 4; view++) drop(sequence, model, view, which === 'oldest' ? 4 : below(66));
        expect(cache.stats().reserved).toBeLessThanOrEqual(bounded);
      }
      compare(cache, sequence, model);
      checkInvariants(cache, [sequence]);
      budget.give(taken);
      sequence.reserve(600);
      expect(cache.stats().reserved).toBeGreaterThan(1.5 * bounded);
    },
  );

  test('a window of 90 views moves on without allocations but at new pages, and the next append is ready', () => {
    const { sequence, model } = open(f32, { slots: 30, kvHeads: 3, headDim: 8, rotary: 8 });
    appendRows(cache, sequence, model, 512, random);
    let busy = 0;
    let least = Number.POSITIVE_INFINITY;
    for (let n = 0; n < 256; n++) {
      appendRows(cache, sequence, model, 1, random);
      if (sequence.content.ready.includes(0)) busy++;
      const heap = process.memoryUsage().heapUsed;
      for (let slot = 0; slot < 30; slot++) for (let head = 0; head < 3; head++) sequence.drop(slot, head, 4);
      least = Math.min(least, process.memoryUsage().heapUsed - heap);
      for (const entries of model) entries.splice(4, 1);
    }
    expect(busy).toBeLessThanOrEqual(256 / 64 + 1);
    // One object a drop would be at least 90 * 16 bytes.
    expect(least).toBeLessThan(1440);
    expect(sequence.refCount(0, 0)).toBeLessThanOrEqual(10);
    compare(cache, sequence, model);
    checkInvariants(cache, [sequence]);
  });
});
