import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Kernels, Memory } from '../backend/types.ts';
import { KvCache } from './cache.ts';
import type { CacheSequence } from './sequence.ts';
import { PlainMemory } from './testing.ts';
import { BACKENDS, openBackend } from './testing-backends.ts';
import { checkInvariants } from './testing-invariants.ts';
import { appendRows, compare, copyModel, type Entry, type Model, numbers } from './testing-model.ts';
import { drawMerge, mergeEntries } from './testing-row-actions.ts';
import type { CacheShape, FormatName, MergeItem, PageOptions } from './types.ts';

const shape: CacheShape = { slots: 2, kvHeads: 2, headDim: 8, rotary: 8 };

describe.each(BACKENDS)('merge on %s kernels', backend => {
  let cache: KvCache;
  let memory: Memory;
  let kernels: Kernels;
  let base = 0;
  const random = numbers(5);

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

  function open(format: FormatName, more: Partial<PageOptions> = {}) {
    cache = new KvCache({ memory, kernels, shape, limit: 64 << 20 });
    const pages = { formatK: format, formatV: format, columns: ['score', 'bias'], ...more };
    const sequence = cache.create({ owner: 'me', pages });
    const model: Model = Array.from({ length: 4 }, () => []);
    return { sequence, model };
  }

  function randomItem(view: number, entries: number, key: 'sum' | 'direction', bias: boolean): MergeItem {
    return drawMerge(view >> 1, view & 1, [[0, entries]], random, { key, bias });
  }

  function setScores(sequence: CacheSequence, model: Model) {
    for (const [view, entries] of model.entries()) {
      const values = Float32Array.from(entries, () => random());
      sequence.setColumn(view >> 1, view & 1, 'score', values);
      for (const [i, entry] of entries.entries()) entry.columns.score = values[i]!;
    }
  }

  test.each([
    ['f32', 'sum', undefined],
    ['f16', 'direction', { slots: 1, kvHeads: 2 }],
    ['int8', 'sum', undefined],
    ['f32', 'direction', undefined],
  ] as const)('%s, key %s, span %o: several views, a fork beside, again and again', (format, key, span) => {
    const { sequence, model } = open(format, span && { span });
    appendRows(cache, sequence, model, 200, random);
    setScores(sequence, model);
    compare(cache, sequence, model);
    const child = sequence.fork('child');
    const childModel = copyModel(model);
    for (let round = 0; round < 3; round++) {
      const items = [0, 1, 3].map(view => randomItem(view, model[view]!.length, key, view > 0));
      const before = cache.stats().pages;
      sequence.prepareMerge(items).discard();
      expect(cache.stats().pages).toBe(before);
      compare(cache, sequence, model);
      sequence.prepareMerge(items).apply();
      for (const item of items) {
        const view = item.slot * 2 + item.head;
        model[view] = mergeEntries(model[view]!, item);
      }
      compare(cache, sequence, model);
      compare(cache, child, childModel);
      checkInvariants(cache, [sequence, child]);
      appendRows(cache, sequence, model, 30, random);
      compare(cache, sequence, model);
    }
    child.free();
    if (!span) expect(sequence.refCount(0, 0)).toBeLessThanOrEqual(Math.ceil(model[0]!.length / 64) + 2);
  });

  test('groups of one with weight 1 change nothing but the bias; an empty item nothing', () => {
    const { sequence, model } = open('int8');
    appendRows(cache, sequence, model, 65, random);
    compare(cache, sequence, model);
    const item: MergeItem = {
      slot: 0,
      head: 1,
      targets: Uint32Array.of(0, 64),
      starts: Uint32Array.of(0, 1, 2),
      members: Uint32Array.of(0, 64),
      weightsK: Float32Array.of(1, 1),
      weightsV: Float32Array.of(1, 1),
      bias: Float32Array.of(0.5, -2),
    };
    const none = {
      ...item,
      slot: 1,
      targets: new Uint32Array(),
      starts: Uint32Array.of(0),
      members: new Uint32Array(),
    };
    const empty = { ...none, weightsK: new Float32Array(), weightsV: new Float32Array(), bias: new Float32Array() };
    sequence.prepareMerge([item, empty]).apply();
    model[1]![0]!.columns.bias = 0.5;
    model[1]![64]!.columns.bias = -2;
    compare(cache, sequence, model);
  });

  test('a few entries of each step go into one, and the next append stays ready', () => {
    const { sequence, model } = open('f16');
    appendRows(cache, sequence, model, 100, random);
    for (let step = 0; step < 150; step++) {
      appendRows(cache, sequence, model, 1, random);
      compare(cache, sequence, model);
      const ready = sequence.content.ready.slice();
      const item: MergeItem = {
        ...{ slot: 1, head: 0, key: 'sum', targets: Uint32Array.of(3), starts: Uint32Array.of(0, 2) },
        ...{ members: Uint32Array.of(3, 4), bias: Float32Array.of(Math.log(step + 2)) },
        ...{ weightsK: Float32Array.of(0.9, 0.1), weightsV: Float32Array.of(0.9, 0.1) },
      };
      sequence.prepareMerge([item]).apply();
      model[2] = mergeEntries(model[2]!, item);
      expect(sequence.content.ready).toEqual(ready);
    }
    compare(cache, sequence, model);
    expect(sequence.refCount(1, 0)).toBeLessThanOrEqual(4);
    checkInvariants(cache, [sequence]);
  });

  test('zero keys have no direction', () => {
    const { sequence, model } = open('f32');
    appendRows(cache, sequence, model, 4, () => 0);
    const item = randomItem(0, 4, 'direction', false);
    sequence.prepareMerge([item]).apply();
    compare(cache, sequence, [
      mergeEntries(model[0]!.map(e => ({ ...e, codes: null })).map(withCodes), item),
      ...model.slice(1),
    ]);
    expect(sequence.read(0, 0).k.every(x => x === 0)).toBe(true);
  });

  test('keys before RoPE may be at different shifts, keys after it not', () => {
    for (const keysUnrotated of [true, false]) {
      const { sequence, model } = open('f32', { keysUnrotated });
      appendRows(cache, sequence, model, 20, random);
      compare(cache, sequence, model);
      sequence.shift(-2, 10, 15);
      for (const entries of model) for (const entry of entries.slice(10, 15)) entry.shift = -2;
      const item: MergeItem = {
        slot: 0,
        head: 0,
        targets: Uint32Array.of(12),
        starts: Uint32Array.of(0, 2),
        members: Uint32Array.of(3, 12),
        weightsK: Float32Array.of(0.5, 0.5),
        weightsV: Float32Array.of(0.5, 0.5),
      };
      if (keysUnrotated) {
        sequence.prepareMerge([item]).apply();
        model[0] = mergeEntries(model[0]!, item);
      } else {
        expect(() => sequence.prepareMerge([item])).toThrow(expect.objectContaining({ field: 'plan[0].members' }));
      }
      compare(cache, sequence, model);
      cache.dispose();
    }
  });

  test('refuses what cannot be, and plans that are out of date', () => {
    const { sequence, model } = open('f32', { columns: [] });
    appendRows(cache, sequence, model, 10, random);
    compare(cache, sequence, model);
    const good: MergeItem = {
      slot: 0,
      head: 0,
      targets: Uint32Array.of(1, 4),
      starts: Uint32Array.of(0, 2, 4),
      members: Uint32Array.of(1, 2, 3, 4),
      weightsK: Float32Array.of(1, 1, 1, 1),
      weightsV: Float32Array.of(1, 1, 1, 1),
    };
    const wrong: [Partial<MergeItem>, string][] = [
      [{ slot: 9 }, 'slot'],
      [{ members: Uint32Array.of(1, 2, 3, 10) }, 'plan[1].members'],
      [{ members: Uint32Array.of(1, 2, 2, 4) }, 'plan[1].members'],
      [{ targets: Uint32Array.of(1, 2) }, 'plan[1].targets'],
      [{ starts: Uint32Array.of(0, 2) }, 'plan[1].starts'],
      [{ starts: Uint32Array.of(0, 4, 4) }, 'plan[1].starts'],
      [{ starts: Uint32Array.of(0, 2, 3) }, 'plan[1].starts'],
      [{ weightsK: Float32Array.of(1) }, 'plan[1].weightsK'],
      [{ weightsV: Float32Array.of(1, 1, Number.NaN, 1) }, 'plan[1].weightsV'],
      [{ key: 'direction', weightsK: Float32Array.of(1, -1, 1, 1) }, 'plan[1].weightsK'],
      [{ key: 'other' as 'sum' }, 'plan[1].key'],
      [{ bias: Float32Array.of(1) }, 'plan[1].bias'],
      [{ bias: Float32Array.of(1, Number.POSITIVE_INFINITY) }, 'plan[1].bias'],
      [{ bias: Float32Array.of(1, 2) }, 'plan[1].bias'],
      [{ head: 1 }, 'plan[1].head'],
    ];
    const { held } = cache.stats();
    for (const [change, field] of wrong) {
      const first = { ...good, head: 1 };
      expect(() => sequence.prepareMerge([first, { ...good, ...change }]), field).toThrow(
        expect.objectContaining({ code: 'invalid_request', field }),
      );
      expect(cache.stats().held).toBe(held);
    }
    const plan = sequence.prepareMerge([good]);
    sequence.truncate(9);
    expect(() => plan.apply()).toThrow(expect.objectContaining({ field: 'plan' }));
    expect(() => plan.apply()).toThrow(expect.objectContaining({ field: 'plan' }));
    for (const entries of model) entries.length = 9;
    compare(cache, sequence, model);
    checkInvariants(cache, [sequence]);
  });

  if (backend === 'plain') {
    test('a memory that runs out leaves everything as it was', () => {
      const { sequence, model } = open('f32');
      appendRows(cache, sequence, model, 150, random);
      compare(cache, sequence, model);
      const child = sequence.fork();
      const items = [0, 3].map(view => randomItem(view, 150, 'sum', true));
      const stats = { ...cache.stats(), peak: 0 };
      let failed = 0;
      for (let allowance = 0; ; allowance++) {
        (memory as PlainMemory).allowance = allowance;
        try {
          sequence.prepareMerge(items).apply();
          break;
        } catch (error) {
          expect(error).toMatchObject({ code: 'memory_limit' });
          failed++;
        }
        (memory as PlainMemory).allowance = Number.POSITIVE_INFINITY;
        expect({ ...cache.stats(), peak: 0 }).toEqual(stats);
        compare(cache, sequence, model);
        checkInvariants(cache, [sequence, child]);
      }
      expect(failed).toBeGreaterThan(6);
      (memory as PlainMemory).allowance = Number.POSITIVE_INFINITY;
      for (const item of items)
        model[item.slot * 2 + item.head] = mergeEntries(model[item.slot * 2 + item.head]!, item);
      compare(cache, sequence, model);
      checkInvariants(cache, [sequence, child]);
    });
  }
});

function withCodes(entry: Entry): Entry {
  return { ...entry, codes: { k: Float32Array.from(entry.k), v: Float32Array.from(entry.v) } };
}
