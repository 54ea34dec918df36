import { afterEach, describe, expect, test } from 'vitest';
import { APPEND_BYTES, KIND_COPY } from '../../kernels/abi.ts';
import { CacheBudget, KvCacheFullError } from './budget.ts';
import { KvCache } from './cache.ts';
import type { CacheSequence } from './sequence.ts';
import { PlainKernels, PlainMemory } from './testing.ts';
import { checkInvariants } from './testing-invariants.ts';
import { appendRows, compare, copyModel, fillSlot, type Model, numbers } from './testing-model.ts';
import type { CacheShape, PageOptions } from './types.ts';

const shape: CacheShape = { slots: 3, kvHeads: 2, headDim: 8, rotary: 8 };
const views = shape.slots * shape.kvHeads;
const f32: PageOptions = { formatK: 'f32', formatV: 'f32' };
const random = numbers(1);

let cache: KvCache;
let memory: PlainMemory;
let kernels: PlainKernels;

function open(limit: number | CacheBudget = 8 << 20, pages: PageOptions = f32, of = shape) {
  memory = new PlainMemory(16 << 20);
  kernels = new PlainKernels(memory);
  cache = new KvCache({ memory, kernels, shape: of, limit });
  const sequence = cache.create({ owner: 'me', pages });
  const model: Model = Array.from({ length: of.slots * of.kvHeads }, () => []);
  return { sequence, model };
}

afterEach(() => {
  cache?.dispose();
  expect(memory?.held ?? 0).toBe(0);
});

function pagesOf(tokens: number): number {
  return Math.ceil(tokens / 64) * views;
}

describe('append', () => {
  test.each([0, 1, 63, 64, 65, 130, 1500])('%i rows, then one more', rows => {
    const { sequence, model } = open();
    if (rows > 0) appendRows(cache, sequence, model, rows, random);
    expect(cache.stats().pages).toBe(pagesOf(rows));
    appendRows(cache, sequence, model, 1, random);
    expect(cache.stats().pages).toBe(pagesOf(rows + 1));
    expect(sequence.position).toBe(rows + 1);
    compare(cache, sequence, model);
    checkInvariants(cache, [sequence]);
  });

  test('all heads and slots share their positions', () => {
    const { sequence, model } = open();
    appendRows(cache, sequence, model, 200, random);
    expect(cache.storage.blocks.count).toBe(4);
  });

  test('slots need not go in step, and rows prepared at once may be written in parts', () => {
    const { sequence, model } = open();
    sequence.prepareAppend(150, undefined, 1, 2);
    expect([sequence.pending(0), sequence.pending(1)]).toEqual([0, 150]);
    for (const rows of [50, 60, 40]) {
      const from = sequence.nextPosition(1);
      const positions = Array.from({ length: rows }, (_, i) => from + i);
      const added = fillSlot(cache, sequence, 1, positions, random);
      for (let head = 0; head < 2; head++) model[2 + head]!.push(...added[head]!);
    }
    expect(sequence.pending(1)).toBe(0);
    expect(sequence.stats().tokens).toEqual(Uint32Array.of(0, 0, 150, 150, 0, 0));
    compare(cache, sequence, model);
    checkInvariants(cache, [sequence]);
  });

  test('a position too far from its page starts another one', () => {
    const { sequence, model } = open();
    appendRows(cache, sequence, model, 3, random, [0, 65_535, 65_536]);
    expect(cache.stats().pages).toBe(2 * views);
    appendRows(cache, sequence, model, 2, random, [40, 41]);
    expect(cache.stats().pages).toBe(3 * views);
    appendRows(cache, sequence, model, 1, random);
    expect(cache.stats().pages).toBe(3 * views);
    expect(sequence.position).toBe(43);
    compare(cache, sequence, model);
  });

  test('slots of different lengths go on together', () => {
    const { sequence, model } = open();
    sequence.prepareAppend(5, undefined, 1, 2);
    for (const [head, entries] of fillSlot(cache, sequence, 1, run(0, 5), random).entries()) {
      model[2 + head]!.push(...entries);
    }
    for (let i = 0; i < 70; i++) appendRows(cache, sequence, model, 1, random);
    expect([sequence.nextPosition(0), sequence.nextPosition(1), sequence.position]).toEqual([70, 75, 75]);
    compare(cache, sequence, model);
    checkInvariants(cache, [sequence]);
  });

  test('positions that a page held before a truncate do not come back', () => {
    const { sequence, model } = open();
    appendRows(cache, sequence, model, 12, random, [...run(0, 9), 50, 51, 90]);
    sequence.truncate(20);
    for (const entries of model) entries.length = 9;
    // The page's positions fit 50 and 51, and must not be taken for what comes after.
    appendRows(cache, sequence, model, 1, random, [50]);
    for (let i = 0; i < 5; i++) appendRows(cache, sequence, model, 1, random);
    expect([...sequence.positions(0, 0).subarray(9)]).toEqual(run(50, 6));
    compare(cache, sequence, model);
    checkInvariants(cache, [sequence]);
  });

  test('a page seen through several references gets its new positions, or its copy, in all of them', () => {
    const { sequence, model } = open();
    appendRows(cache, sequence, model, 40, random);
    sequence.shift(-3, 10, 20);
    for (const entries of model) for (const entry of entries.slice(10, 20)) entry.shift = -3;
    expect(sequence.refCount(0, 0)).toBe(3);
    const child = sequence.fork();
    const childModel = copyModel(model);
    appendRows(cache, child, childModel, 2, random, [100, 101]);
    const { pages } = cache.stats();
    const copied = kernels.counts.get(KIND_COPY);
    appendRows(cache, sequence, model, 2, random, [200, 201]);
    expect([cache.stats().pages, kernels.counts.get(KIND_COPY)]).toEqual([pages, copied]);
    compare(cache, sequence, model);
    compare(cache, child, childModel);
    checkInvariants(cache, [sequence, child]);
  });

  test('several sequences write into one list of records', () => {
    const { sequence, model } = open();
    const other = cache.create({ owner: 'other', pages: { formatK: 'int8', formatV: 'f16' } });
    appendRows(cache, sequence, model, 70, random);
    sequence.prepareAppend(10);
    other.prepareAppend(65);
    const items = memory.alloc(16 * APPEND_BYTES);
    const first = sequence.writeAppendItems(0, items, 0, 0, 16, 0);
    const second = other.writeAppendItems(0, items + first * APPEND_BYTES, 0, 0, 16, 0);
    expect([first, second]).toEqual([2, 4]);
    expect([sequence.appendItemCount(0), other.appendItemCount(0)]).toEqual([2, 4]);
    memory.free(items, 16 * APPEND_BYTES);
    sequence.rollback();
    other.rollback();
    compare(cache, sequence, model);
    checkInvariants(cache, [sequence, other]);
  });

  test('a step of decoding allocates nothing but at every 64th', () => {
    const { sequence, model } = open(256 << 20, f32, { slots: 30, kvHeads: 3, headDim: 8, rotary: 8 });
    sequence.reserve(20 * 64);
    appendRows(cache, sequence, model, 64, random);
    const items = memory.alloc(3 * APPEND_BYTES);
    const step = () => {
      sequence.prepareAppend(1);
      for (let slot = 0; slot < 30; slot++) {
        expectCount(sequence.writeAppendItems(slot, items, 64, 64, 24, 64), 3);
        sequence.commitAppend(slot);
      }
    };
    let least = Number.POSITIVE_INFINITY;
    for (let page = 0; page < 12; page++) {
      step();
      memory.allowance = 0;
      const before = process.memoryUsage().heapUsed;
      for (let i = 1; i < 64; i++) step();
      least = Math.min(least, process.memoryUsage().heapUsed - before);
      memory.allowance = Number.POSITIVE_INFINITY;
    }
    // One object a head and step would be at least 63 * 90 * 16 bytes.
    expect(least).toBeLessThan(30_000);
    memory.free(items, 3 * APPEND_BYTES);
    expect(sequence.entries(29, 2)).toBe(64 + 12 * 64);
  });

  test('rollback and undoAppend leave memory where it was', () => {
    const { sequence, model } = open();
    appendRows(cache, sequence, model, 60, random);
    const { held } = cache.stats();
    for (let i = 0; i < 100; i++) {
      sequence.prepareAppend(70);
      sequence.rollback();
      sequence.prepareAppend(70);
      for (let slot = 0; slot < 3; slot++) fillSlot(cache, sequence, slot, run(60, 70), random);
      sequence.undoAppend();
    }
    // The lists of references have grown once.
    expect(cache.stats().held - held).toBeLessThanOrEqual(views * 64);
    compare(cache, sequence, model);
    appendRows(cache, sequence, model, 1, random);
    compare(cache, sequence, model);
    sequence.truncate(61);
    expect(() => sequence.undoAppend()).toThrow(expect.objectContaining({ code: 'invalid_request' }));
  });
});

describe('fork', () => {
  test('shares every page until one side writes, and then copies the last one only', () => {
    const { sequence, model } = open();
    appendRows(cache, sequence, model, 100, random);
    const { pages } = cache.stats();
    const child = sequence.fork('child');
    const childModel = copyModel(model);
    expect(cache.stats().pages).toBe(pages);
    appendRows(cache, child, childModel, 1, random);
    expect(cache.stats().pages).toBe(pages + views);
    // The parent holds its last page alone now.
    const copied = kernels.counts.get(KIND_COPY);
    appendRows(cache, sequence, model, 1, random);
    expect(kernels.counts.get(KIND_COPY)).toBe(copied);
    expect(cache.stats().pages).toBe(pages + views);
    compare(cache, sequence, model);
    compare(cache, child, childModel);
    checkInvariants(cache, [sequence, child]);
    const stats = sequence.stats();
    expect(stats.unique).toBeLessThan(stats.held);
    child.free();
    const alone = sequence.stats();
    expect(alone.unique).toBe(alone.held);
  });

  test('the first to write leaves the shared page alone, even where it had room ready', () => {
    const { sequence, model } = open();
    appendRows(cache, sequence, model, 40, random);
    appendRows(cache, sequence, model, 1, random);
    const child = sequence.fork();
    const shared = sequence.content.pageAt(0, 0);
    const childModel = copyModel(model);
    appendRows(cache, sequence, model, 1, random);
    expect(sequence.content.pageAt(0, 0)).not.toBe(shared);
    expect(child.content.pageAt(0, 0)).toBe(shared);
    compare(cache, child, childModel);
    checkInvariants(cache, [sequence, child]);
  });

  test('a shared page counts for its first owner, and stays when that one is freed', () => {
    const { sequence, model } = open();
    appendRows(cache, sequence, model, 64, random);
    const child = sequence.fork('child');
    const before = cache.stats().byOwner;
    expect(before.me!).toBeGreaterThan(before.child!);
    sequence.free();
    compare(cache, child, model);
    expect(cache.stats().byOwner.me!).toBe(child.stats().held - pageSideOf(child));
    checkInvariants(cache, [child]);
  });

  test('states are copies', () => {
    const { sequence } = open();
    const held = cache.stats().held;
    sequence.setState('h2o', { sums: new Float32Array(100), seen: new Map([[1, 'x']]) });
    expect(cache.stats().held).toBeGreaterThan(held + 400);
    const child = sequence.fork();
    sequence.state<{ sums: Float32Array }>('h2o')!.sums[0] = 5;
    expect(child.state<{ sums: Float32Array }>('h2o')!.sums[0]).toBe(0);
    checkInvariants(cache, [sequence, child]);
    sequence.setState('h2o', undefined);
    expect(sequence.state('h2o')).toBeUndefined();
    child.free();
    expect(cache.stats().held).toBe(held);
  });
});

describe('keep', () => {
  test.each([1, 0.25])('of a share of %d leaves ceil(kept / 64) pages a head', share => {
    const { sequence, model } = open(8 << 20, { formatK: 'int8', formatV: 'int8', columns: ['bias'] });
    appendRows(cache, sequence, model, 1000, random);
    compare(cache, sequence, model);
    const plan = model.map((_, view) => {
      const kept: [number, number][] = [];
      for (let i = view; i < 1000; i++) if (Math.abs(random()) < share) kept.push([i, i + 1]);
      model[view] = kept.map(([i]) => model[view]![i]!);
      return { slot: view >> 1, head: view & 1, ranges: kept };
    });
    const prepared = sequence.prepareKeep(plan);
    const expected = plan.reduce((pages, { ranges }) => pages + Math.ceil(ranges.length / 64), 0);
    expect(prepared.kept).toBe(plan.reduce((n, { ranges }) => n + ranges.length, 0));
    prepared.apply();
    expect(cache.stats().pages).toBe(expected);
    compare(cache, sequence, model);
    checkInvariants(cache, [sequence]);
    appendRows(cache, sequence, model, 3, random);
    compare(cache, sequence, model);
    expect(() => prepared.apply()).toThrow(expect.objectContaining({ code: 'invalid_request' }));
  });

  test('needs no more than one page a head above what is held', () => {
    const { sequence, model } = open();
    appendRows(cache, sequence, model, 640, random);
    const { held } = cache.stats();
    const even = Uint32Array.from({ length: 640 }, (_, i) => Math.floor(i / 2) * 2 + (i & 1));
    const plan = model.map((_, view) => ({ slot: view >> 1, head: view & 1, ranges: even }));
    sequence.prepareKeep(plan).apply();
    const spare = 4096 + 35 + 2 * 221;
    expect(cache.stats().peak - held).toBeLessThanOrEqual(views * (spare + 5 * 221));
  });

  test('shared pages keep their bytes and get holes; the other side is untouched', () => {
    const { sequence, model } = open();
    appendRows(cache, sequence, model, 300, random);
    const child = sequence.fork();
    const childModel = copyModel(model);
    const { pages } = cache.stats();
    child.keep(0, 0, [[100, 110]]);
    childModel[0] = childModel[0]!.slice(100, 110);
    expect(cache.stats().pages).toBe(pages);
    compare(cache, sequence, model);
    compare(cache, child, childModel);
    sequence.free();
    expect(cache.stats().pages).toBe(pages - 4);
    compare(cache, child, childModel);
    checkInvariants(cache, [child]);
  });

  test('rows of a joint page move together; where heads differ the page keeps its holes', () => {
    const { sequence, model } = open(8 << 20, { ...f32, span: { slots: 1, kvHeads: 2 } });
    appendRows(cache, sequence, model, 256, random);
    const all = (head: number) => ({ slot: 0, head, ranges: [[0, 10]] as const });
    sequence.prepareKeep([all(0)]).apply();
    model[0] = model[0]!.slice(0, 10);
    expect(cache.stats().pages).toBe(3 * 4);
    compare(cache, sequence, model);
    sequence.prepareKeep([all(1)]).apply();
    model[1] = model[1]!.slice(0, 10);
    expect(cache.stats().pages).toBe(2 * 4 + 1);
    compare(cache, sequence, model);
    appendRows(cache, sequence, model, 60, random);
    expect(cache.stats().pages).toBe(2 * 5 + 2);
    compare(cache, sequence, model);
    checkInvariants(cache, [sequence]);
  });

  test('works in a cache that is full', () => {
    const { sequence, model } = open(200_000);
    let rows = 0;
    try {
      for (;;) {
        appendRows(cache, sequence, model, 16, random);
        rows += 16;
      }
    } catch (error) {
      expect(error).toBeInstanceOf(KvCacheFullError);
    }
    const plan = model.map((entries, view) => {
      model[view] = entries.slice(rows / 2);
      return { slot: view >> 1, head: view & 1, ranges: [[rows / 2, rows]] as const };
    });
    const { pages } = cache.stats();
    sequence.prepareKeep(plan).apply();
    expect(cache.stats().pages).toBeLessThan(pages);
    compare(cache, sequence, model);
    checkInvariants(cache, [sequence]);
  });

  test('a plan is refused as a whole, and one for an older state too', () => {
    const { sequence, model } = open();
    appendRows(cache, sequence, model, 20, random);
    const good = { slot: 0, head: 0, ranges: [[0, 1]] as const };
    for (const bad of [
      { slot: 3, head: 0, ranges: [] },
      { slot: 0, head: 2, ranges: [] },
      { slot: 0, head: 1, ranges: [[0, 21]] as const },
      {
        slot: 0,
        head: 1,
        ranges: [
          [5, 6],
          [4, 5],
        ] as const,
      },
      { slot: 0, head: 1, ranges: [[5, 4]] as const },
      { slot: 0, head: 1, ranges: Uint32Array.of(1) },
      { slot: 0, head: 1, ranges: [[0.5, 2]] as const },
      good,
    ]) {
      expect(() => sequence.prepareKeep([good, bad])).toThrow(expect.objectContaining({ code: 'invalid_request' }));
    }
    expect(() => sequence.prepareKeep([good], { threshold: 2 })).toThrow(
      expect.objectContaining({ field: 'threshold' }),
    );
    const stale = sequence.prepareKeep([good]);
    appendRows(cache, sequence, model, 1, random);
    expect(() => stale.apply()).toThrow(expect.objectContaining({ code: 'invalid_request' }));
    compare(cache, sequence, model);
    checkInvariants(cache, [sequence]);
  });
});

describe('truncate and shift', () => {
  test('a truncated sequence goes on where it was cut', () => {
    const { sequence, model } = open();
    appendRows(cache, sequence, model, 200, random);
    sequence.truncate(70);
    for (const [view, entries] of model.entries()) model[view] = entries.slice(0, 70);
    expect(cache.stats().pages).toBe(pagesOf(70));
    expect(sequence.position).toBe(70);
    appendRows(cache, sequence, model, 60, random);
    expect(cache.stats().pages).toBe(pagesOf(130));
    expect(sequence.stats().peak).toBeGreaterThan(sequence.stats().held);
    compare(cache, sequence, model);
    sequence.truncate(0);
    expect(cache.stats().pages).toBe(0);
    checkInvariants(cache, [sequence]);
  });

  test('a gap is closed by shifting what comes after it', () => {
    const { sequence, model } = open();
    appendRows(cache, sequence, model, 200, random);
    for (let view = 0; view < views; view++) {
      sequence.keep(view >> 1, view & 1, [
        [0, 4],
        [100, 200],
      ]);
      model[view] = [...model[view]!.slice(0, 4), ...model[view]!.slice(100)];
    }
    expect(sequence.shifts()).toEqual(Int32Array.of(0));
    sequence.shift(-96, 4, Number.POSITIVE_INFINITY);
    for (const entries of model) for (const entry of entries.slice(4)) entry.shift = -96;
    expect(sequence.position).toBe(104);
    expect(sequence.shifts()).toEqual(Int32Array.of(0, -96));
    appendRows(cache, sequence, model, 30, random);
    compare(cache, sequence, model);
    checkInvariants(cache, [sequence]);
  });

  test('a truncate cuts shifted entries by where they are now', () => {
    const { sequence, model } = open();
    appendRows(cache, sequence, model, 64, random);
    sequence.shift(-10, 20, Number.POSITIVE_INFINITY);
    sequence.truncate(30);
    for (const [view, entries] of model.entries()) {
      for (const entry of entries.slice(20)) entry.shift = -10;
      model[view] = entries.slice(0, 40).filter((_, i) => i < 20 || i - 10 < 30);
    }
    expect(sequence.entries(0, 0)).toBe(40);
    compare(cache, sequence, model);
    checkInvariants(cache, [sequence]);
  });

  test('references that a shift has split join again when it is taken back', () => {
    const { sequence, model } = open();
    appendRows(cache, sequence, model, 64, random);
    sequence.shift(-2, 10, 20);
    expect(sequence.refCount(2, 1)).toBe(3);
    sequence.shift(1, 0, 8);
    expect(sequence.refCount(2, 1)).toBe(4);
    for (const entries of model) {
      for (const [i, entry] of entries.entries()) entry.shift = i < 8 ? 1 : i >= 10 && i < 20 ? -2 : 0;
    }
    compare(cache, sequence, model);
    sequence.keep(2, 1, [
      [0, 7],
      [12, 64],
    ]);
    sequence.shift(2, 10, 18);
    expect(sequence.refCount(2, 1)).toBe(2);
    checkInvariants(cache, [sequence]);
  });

  test('a promise takes in that a moved last page is not written any more', () => {
    const { sequence, model } = open();
    appendRows(cache, sequence, model, 32, random);
    sequence.reserve(32);
    const { reserved } = cache.stats();
    sequence.shift(-1, 1, Number.POSITIVE_INFINITY);
    expect(cache.stats().reserved).toBeGreaterThan(reserved + views * 4096 - 1);
  });

  test('no entry may be moved before the start or past the end', () => {
    const { sequence, model } = open();
    appendRows(cache, sequence, model, 100, random);
    for (const [delta, from, to] of [
      [-1, 0, 50],
      [2, 50, 99],
      [-60, 50, 200],
      [2 ** 31, 0, 200],
      [0.5, 0, 1],
      [1, Number.NaN, 2],
    ]) {
      // Moving the end back below what stays is refused as well.
      expect(() => sequence.shift(delta!, from!, to!)).toThrow(expect.objectContaining({ code: 'invalid_request' }));
    }
    compare(cache, sequence, model);
    expect(sequence.position).toBe(100);
  });
});

describe('limits', () => {
  test('a promise is kept, whatever others take', () => {
    const { sequence, model } = open(300_000);
    sequence.reserve(200);
    const other = cache.create({ owner: 'greedy', pages: f32 });
    const otherModel: Model = Array.from({ length: views }, () => []);
    expect(() => {
      for (;;) appendRows(cache, other, otherModel, 64, random);
    }).toThrow(KvCacheFullError);
    const { reserved } = cache.stats();
    expect(reserved).toBeGreaterThan(0);
    for (let i = 0; i < 200; i++) appendRows(cache, sequence, model, 1, random);
    expect(cache.stats().reserved).toBeLessThan(reserved / 4);
    sequence.reserve(0);
    expect(cache.stats().reserved).toBe(0);
    compare(cache, other, otherModel);
    checkInvariants(cache, [sequence, other]);
  });

  test('a promise that does not fit says what is missing and changes nothing', () => {
    const { sequence, model } = open(120_000);
    appendRows(cache, sequence, model, 10, random);
    sequence.reserve(20);
    const before = { ...cache.stats(), peak: 0 };
    try {
      sequence.reserve(5000);
      expect.unreachable();
    } catch (error) {
      expect(error).toMatchObject({ code: 'kv_cache_full', field: 'tokens', value: 5000 });
      expect((error as KvCacheFullError).needed).toBeGreaterThan((error as KvCacheFullError).free);
    }
    expect({ ...cache.stats(), peak: 0 }).toEqual(before);
  });

  test('absurd sizes are refused at once', () => {
    const { sequence } = open();
    const start = performance.now();
    expect(() => sequence.prepareAppend(2 ** 31 - 1)).toThrow(KvCacheFullError);
    expect(() => sequence.reserve(2 ** 31 - 1)).toThrow(KvCacheFullError);
    expect(performance.now() - start).toBeLessThan(1000);
    checkInvariants(cache, [sequence]);
  });

  test('a fork that would break a promise is refused', () => {
    const { sequence, model } = open(100_000);
    appendRows(cache, sequence, model, 32, random);
    sequence.reserve(32);
    const { free } = cache.budget;
    const other = cache.create({ owner: 'other', pages: f32 });
    other.setState('ballast', new Uint8Array(free - 3000));
    expect(() => sequence.fork()).toThrow(expect.objectContaining({ code: 'kv_cache_full' }));
    appendRows(cache, sequence, model, 32, random);
    compare(cache, sequence, model);
    checkInvariants(cache, [sequence, other]);
  });

  test('caches of several models share a memory and a budget', () => {
    const budget = new CacheBudget(400_000);
    const { sequence, model } = open(budget);
    const second = new KvCache({ memory, kernels, shape: { ...shape, headDim: 16 }, limit: budget });
    const other = second.create({ owner: 'b', pages: { formatK: 'f16', formatV: 'int8' } });
    const otherModel: Model = Array.from({ length: views }, () => []);
    appendRows(cache, sequence, model, 100, random);
    appendRows(second, other, otherModel, 100, random);
    expect(budget.held).toBe(cache.stats().held + second.stats().held);
    compare(second, other, otherModel);
    expect(checkInvariants(cache, [sequence]) + checkInvariants(second, [other])).toBe(memory.held);
    second.dispose();
    expect(budget.held).toBe(cache.stats().held);
  });

  test('100 sequences leave memory where it was', () => {
    const { sequence } = open();
    sequence.free();
    const { held } = cache.stats();
    const bytes = memory.held;
    for (let i = 0; i < 100; i++) {
      const one = cache.create({ owner: `o${i}`, pages: { ...f32, columns: ['bias'] } });
      const model: Model = Array.from({ length: views }, () => []);
      appendRows(cache, one, model, 10 + i, random);
      const child = one.fork();
      one.keep(1, 1, [[3, 5]]);
      child.truncate(7);
      one.free();
      child.free();
    }
    expect([cache.stats().held, memory.held]).toEqual([held, bytes]);
  });
});

describe('columns', () => {
  test('a column set on a shared page is a copy', () => {
    const { sequence, model } = open(8 << 20, { ...f32, columns: ['score', 'bias'] });
    appendRows(cache, sequence, model, 70, random);
    const child = sequence.fork();
    const scores = Float32Array.from({ length: 70 }, random);
    child.setColumn(1, 0, 'score', scores);
    expect(child.column(1, 0, 'score')).toEqual(scores);
    expect(child.column(1, 0, 'bias')).toEqual(new Float32Array(70));
    expect(sequence.column(1, 0, 'score')).toEqual(new Float32Array(70));
    child.keep(1, 0, [
      [2, 3],
      [68, 70],
    ]);
    expect(child.column(1, 0, 'score')).toEqual(Float32Array.of(scores[2]!, scores[68]!, scores[69]!));
    // Rows that are appended anew start at 0.
    child.truncate(69);
    child.prepareAppend(1);
    for (let slot = 0; slot < 3; slot++) fillSlot(cache, child, slot, [69], random);
    expect(child.column(1, 0, 'score')).toEqual(Float32Array.of(scores[2]!, scores[68]!, 0));
    checkInvariants(cache, [sequence, child]);
    expect(() => child.column(1, 0, 'visits')).toThrow(expect.objectContaining({ field: 'column' }));
    expect(() => child.setColumn(1, 0, 'score', scores)).toThrow(expect.objectContaining({ field: 'values' }));
  });
});

describe('misuse', () => {
  test('prepared rows hold the other verbs off', () => {
    const { sequence } = open();
    sequence.prepareAppend(5, undefined, 1, 2);
    for (const verb of [
      () => sequence.fork(),
      () => sequence.truncate(0),
      () => sequence.shift(1, 0, 1),
      () => sequence.prepareKeep([]),
      () => sequence.reserve(1),
      () => sequence.undoAppend(),
      () => sequence.prepareAppend(1),
      () => sequence.commitAppend(1, 6),
      () => sequence.writeAppendItems(0, 0, 0, 0, 0, 0, 1),
    ]) {
      expect(verb).toThrow(expect.objectContaining({ code: 'invalid_request' }));
    }
    sequence.prepareAppend(5, undefined, 0, 1);
    sequence.rollback();
    expect(cache.stats().pages).toBe(0);
  });

  test('bad arguments are named', () => {
    const { sequence } = open(8 << 20, { ...f32, span: { slots: 2, kvHeads: 1 } });
    const refused = (field: string, verb: () => unknown) =>
      expect(verb).toThrow(expect.objectContaining({ code: 'invalid_request', field }));
    refused('rows', () => sequence.prepareAppend(-1));
    refused('rows', () => sequence.prepareAppend(1.5));
    refused('slots', () => sequence.prepareAppend(1, undefined, 0, 1));
    refused('slots', () => sequence.prepareAppend(1, undefined, 2, 4));
    refused('positions', () => sequence.prepareAppend(2, Int32Array.of(1)));
    refused('positions', () => sequence.prepareAppend(1, Int32Array.of(-1)));
    refused('tokens', () => sequence.reserve(Number.NaN));
    refused('position', () => sequence.truncate(-1));
    refused('slot', () => sequence.view(3, 0));
    refused('head', () => sequence.read(0, 2));
    refused('owner', () => cache.create({ owner: '', pages: f32 }));
  });

  test('a freed sequence refuses everything but free', () => {
    const { sequence } = open();
    sequence.free();
    sequence.free();
    for (const verb of [
      () => sequence.prepareAppend(1),
      () => sequence.fork(),
      () => sequence.stats(),
      () => sequence.read(0, 0),
    ]) {
      expect(verb).toThrow(expect.objectContaining({ code: 'disposed' }));
    }
  });
});

function run(from: number, rows: number): number[] {
  return Array.from({ length: rows }, (_, i) => from + i);
}

function expectCount(actual: number, expected: number): void {
  if (actual !== expected) throw new Error(`${actual} records, not ${expected}`);
}

/** Bytes that a sequence holds beside pages and positions. */
function pageSideOf(sequence: CacheSequence): number {
  const { pages, blocks } = cache.storage;
  return sequence.stats().held - pages.held - pages.count * 35 - blocks.count * 221;
}
