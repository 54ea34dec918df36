import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Kernels, Memory } from '../backend/types.ts';
import { KvCache } from './cache.ts';
import type { CacheSequence } from './sequence.ts';
import { PlainMemory } from './testing.ts';
import { BACKENDS, openBackend } from './testing-backends.ts';
import { checkInvariants } from './testing-invariants.ts';
import { appendRows, attend, compare, copyModel, type Model, numbers, renumbered } from './testing-model.ts';
import type { CacheShape, PageOptions } from './types.ts';

const shape: CacheShape = { slots: 2, kvHeads: 2, headDim: 8, rotary: 8 };
const unrotated: PageOptions = { formatK: 'f32', formatV: 'f32', keysUnrotated: true };

describe.each(BACKENDS)('renumber on %s kernels', backend => {
  let cache: KvCache;
  let memory: Memory;
  let kernels: Kernels;
  let base = 0;
  const random = numbers(11);
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

  function open(pages: PageOptions = unrotated) {
    cache = new KvCache({ memory, kernels, shape, limit: 64 << 20 });
    const sequence = cache.create({ owner: 'me', pages });
    const model: Model = Array.from({ length: 4 }, () => []);
    return { sequence, model };
  }

  function drop(sequence: CacheSequence, model: Model, view: number, from: number, count = 1) {
    sequence.dropOldest(view >> 1, view & 1, from, count);
    model[view]!.splice(from, count);
  }

  function renumberSlot(sequence: CacheSequence, model: Model, slot: number) {
    sequence.renumber(slot);
    for (const view of [slot * 2, slot * 2 + 1]) model[view] = renumbered(model[view]!);
    expect(sequence.nextPosition(slot)).toBe(Math.max(model[slot * 2]!.length, model[slot * 2 + 1]!.length));
  }

  function check(sequence: CacheSequence, model: Model) {
    compare(cache, sequence, model);
    for (let view = 0; view < 4; view++) {
      const q = Float32Array.from({ length: 32 }, random);
      const position = sequence.nextPosition(view >> 1);
      const queries = { positions: [position, Math.floor(position / 2)], group: 2, window: 0, q };
      const { actual, expected } = attend(cache, sequence, model, view >> 1, view & 1, queries);
      for (let i = 0; i < actual.length; i++) expect(Math.abs(actual[i]! - expected[i]!)).toBeLessThan(1e-4);
    }
  }

  test('a sliding window behind four sinks: entries stay at 0 .. n - 1, and the next append is ready', () => {
    const { sequence, model } = open();
    appendRows(cache, sequence, model, 200, random);
    let busy = 0;
    for (let n = 0; n < 140; n++) {
      appendRows(cache, sequence, model, 1, random);
      for (let view = 0; view < 4; view++) drop(sequence, model, view, 4);
      for (let slot = 0; slot < 2; slot++) renumberSlot(sequence, model, slot);
      if (sequence.content.ready.includes(0)) busy++;
      if (n % 20 === 0) {
        check(sequence, model);
        checkInvariants(cache, [sequence]);
      }
    }
    expect(busy).toBeLessThanOrEqual(3);
    expect(sequence.position).toBe(200);
    expect([...sequence.shifts()]).toEqual([0]);
    // Views that move in step share their positions.
    expect(cache.storage.blocks.count).toBeLessThanOrEqual(5);
    check(sequence, model);
  });

  test('random holes, heads of different lengths, and slots at different positions', () => {
    const { sequence, model } = open({ ...unrotated, formatK: 'f16' });
    appendRows(cache, sequence, model, 150, random);
    for (let n = 0; n < 120; n++) {
      const view = below(4);
      if (model[view]!.length > 1) drop(sequence, model, view, below(model[view]!.length));
      renumberSlot(sequence, model, below(2));
      if (n % 2 === 0) appendRows(cache, sequence, model, 1 + below(3), random);
      if (n % 10 === 0) {
        check(sequence, model);
        checkInvariants(cache, [sequence]);
      }
    }
    drop(sequence, model, 0, 0, model[0]!.length);
    renumberSlot(sequence, model, 0);
    appendRows(cache, sequence, model, 2, random);
    check(sequence, model);
    drop(sequence, model, 2, 0, model[2]!.length);
    drop(sequence, model, 3, 0, model[3]!.length);
    renumberSlot(sequence, model, 1);
    expect(sequence.nextPosition(1)).toBe(0);
    appendRows(cache, sequence, model, 2, random);
    check(sequence, model);
    checkInvariants(cache, [sequence]);
  });

  test('pages shared with a fork are shifted, or copied where their rows part; the fork stays as it was', () => {
    const { sequence, model } = open();
    appendRows(cache, sequence, model, 300, random);
    const child = sequence.fork('child');
    const childModel = copyModel(model);
    const { pages } = cache.stats();
    for (let n = 0; n < 30; n++) {
      for (let view = 0; view < 4; view++) drop(sequence, model, view, 4);
      for (let slot = 0; slot < 2; slot++) renumberSlot(sequence, model, slot);
      check(sequence, model);
      compare(cache, child, childModel);
    }
    // The page with the sinks has been copied, the others not.
    expect(cache.stats().pages).toBe(pages + 4);
    expect([...sequence.shifts()].sort((a, b) => a - b)).toEqual([-30, 0]);
    appendRows(cache, sequence, model, 70, random);
    appendRows(cache, child, childModel, 3, random);
    for (let slot = 0; slot < 2; slot++) renumberSlot(child, childModel, slot);
    check(sequence, model);
    check(child, childModel);
    checkInvariants(cache, [sequence, child]);
    child.free();
    drop(sequence, model, 0, 2);
    drop(sequence, model, 3, 2);
    for (let slot = 0; slot < 2; slot++) renumberSlot(sequence, model, slot);
    check(sequence, model);
    checkInvariants(cache, [sequence]);
  });

  test('records that a shift has split', () => {
    const { sequence, model } = open();
    appendRows(cache, sequence, model, 40, random);
    sequence.shift(-3, 10, 20);
    for (const entries of model) for (const entry of entries.slice(10, 20)) entry.shift = -3;
    drop(sequence, model, 1, 12);
    drop(sequence, model, 1, 5);
    for (let slot = 0; slot < 2; slot++) renumberSlot(sequence, model, slot);
    check(sequence, model);
    checkInvariants(cache, [sequence]);
    appendRows(cache, sequence, model, 5, random);
    check(sequence, model);
  });

  test('refuses keys after RoPE and joint pages, whole', () => {
    for (const [pages, field] of [
      [{ ...unrotated, keysUnrotated: false }, 'pages.keysUnrotated'],
      [{ ...unrotated, span: { slots: 1, kvHeads: 2 } }, 'pages.span'],
    ] as const) {
      const { sequence, model } = open(pages);
      appendRows(cache, sequence, model, 80, random);
      sequence.renumber(0);
      drop(sequence, model, 1, 20);
      const { version } = sequence.content;
      expect(() => sequence.renumber(0)).toThrow(expect.objectContaining({ code: 'invalid_request', field }));
      expect(sequence.content.version).toBe(version);
      compare(cache, sequence, model);
      checkInvariants(cache, [sequence]);
      cache.dispose();
    }
  });

  if (backend === 'plain') {
    test('a memory that runs out leaves everything as it was, the promise included', () => {
      const { sequence, model } = open();
      appendRows(cache, sequence, model, 300, random);
      const child = sequence.fork();
      sequence.reserve(100);
      drop(sequence, model, 0, 7);
      drop(sequence, model, 1, 200, 3);
      const stats = { ...cache.stats(), peak: 0 };
      for (let allowance = 0; ; allowance++) {
        (memory as PlainMemory).allowance = allowance;
        try {
          sequence.renumber(0);
          expect(allowance).toBeGreaterThan(2);
          break;
        } catch (error) {
          expect(error).toMatchObject({ code: 'memory_limit' });
        }
        (memory as PlainMemory).allowance = Number.POSITIVE_INFINITY;
        expect({ ...cache.stats(), peak: 0 }).toEqual(stats);
        compare(cache, sequence, model);
        checkInvariants(cache, [sequence, child]);
      }
      (memory as PlainMemory).allowance = Number.POSITIVE_INFINITY;
      for (const view of [0, 1]) model[view] = renumbered(model[view]!);
      check(sequence, model);
      expect(cache.stats().reserved).toBe(stats.reserved);
      checkInvariants(cache, [sequence, child]);
    });
  }
});
