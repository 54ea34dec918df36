import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { KIND_ENCODE } from '../../kernels/abi.ts';
import type { Kernels, Memory } from '../backend/types.ts';
import type { KvasirError } from '../errors.ts';
import { CacheBudget } from './budget.ts';
import { KvCache } from './cache.ts';
import type { PlaneFormat, ScalarFormat } from './format.ts';
import { PAGE_ENTRY_BYTES } from './pages.ts';
import type { CacheSequence } from './sequence.ts';
import { PlainKernels, PlainMemory } from './testing.ts';
import { encodeSome } from './testing-actions.ts';
import { openBackend } from './testing-backends.ts';
import { checkInvariants } from './testing-invariants.ts';
import { appendRows, compare, copyModel, type Model, numbers } from './testing-model.ts';
import type { CacheShape, EncodeItem, PageOptions } from './types.ts';

const shape: CacheShape = { slots: 2, kvHeads: 2, headDim: 16, rotary: 16 };
const f32: PageOptions = { formatK: 'f32', formatV: 'f32' };
const scalar = (bits: 2 | 4 | 8, along: 'token' | 'channel'): ScalarFormat => ({
  kind: 'scalar',
  parts: [{ bits, along }],
});
const shared: ScalarFormat = { kind: 'scalar', parts: [{ bits: 8, along: 'token', scope: 'shared' }] };
const block = (key: string, offset = -4) => ({
  key,
  values: Float32Array.from({ length: 32 }, (_, i) => (i < 16 ? 8 / 255 : offset)),
});
const random = numbers(7);

let cache: KvCache;
let base = 0;

function open(
  { memory, kernels }: { memory: Memory; kernels: Kernels },
  { pages = f32, limit = 8 << 20 }: { pages?: PageOptions; limit?: number | CacheBudget } = {},
): { sequence: CacheSequence; model: Model } {
  base = memory.held;
  cache = new KvCache({ memory, kernels, shape, limit });
  const sequence = cache.create({ owner: 'me', pages });
  return { sequence, model: Array.from({ length: 4 }, () => []) };
}

function plain() {
  const memory = new PlainMemory(16 << 20);
  return { memory, kernels: new PlainKernels(memory) };
}

afterEach(() => {
  if (!cache) return;
  cache.dispose();
  expect(cache.memory.held).toBe(base);
  expect(cache.budget.held).toBe(0);
});

/** Entries [from, to) of view (0, 0) have been encoded: their numbers may have moved by this much. */
function recode(model: Model, view: number, from: number, to: number, allowed: { k: number; v: number }): void {
  model[view] = model[view]!.map((entry, i) => {
    if (i < from || i >= to) return entry;
    const { k, v } = entry.codes!;
    return { ...entry, k: Float64Array.from(k), v: Float64Array.from(v), codes: null, allowed };
  });
}

describe('on the WASM kernels', () => {
  let backend: Awaited<ReturnType<typeof openBackend>>;
  beforeAll(async () => {
    backend = await openBackend('wasm');
  });
  afterAll(() => backend.kernels.dispose());

  test.each([1, 63, 64, 65, 150])('%i rows: new pages of 64, everything else as it was', rows => {
    const { sequence, model } = open(backend);
    appendRows(cache, sequence, model, rows, random);
    compare(cache, sequence, model);
    const before = cache.stats();
    const item: EncodeItem = { slot: 0, head: 0, from: 0, to: rows, k: scalar(4, 'token'), v: scalar(8, 'channel') };
    sequence.prepareEncode([item]).apply();
    recode(model, 0, 0, rows, { k: 0.15, v: 0.02 });
    compare(cache, sequence, model);
    checkInvariants(cache, [sequence]);
    // K: 16 x 64 x 4 bits and 2 x 16 halves; V: 8 bits and 2 x 64 halves.
    const bytes = Math.ceil((512 + 64 + 1024 + 256) / 64) * 64;
    const pages = Math.ceil(rows / 64);
    expect(sequence.stats().bytes.encoded).toBe(pages * bytes);
    expect(sequence.stats().bytes.exact).toBe(3 * pages * 8192);
    expect(cache.stats().bySlot[0]).toBe(before.bySlot[0]! - pages * (8192 - bytes));
    // Immutable: the next row starts a page, a cut is a mask.
    appendRows(cache, sequence, model, 3, random);
    compare(cache, sequence, model);
    expect(sequence.refCount(0, 0)).toBe(pages + 1);
    sequence.truncate(Math.ceil(rows / 2));
    for (const [view, entries] of model.entries()) model[view] = entries.slice(0, Math.ceil(rows / 2));
    appendRows(cache, sequence, model, 65, random);
    compare(cache, sequence, model);
    checkInvariants(cache, [sequence]);
  });

  test('a plane that is left out keeps its bytes; holes stay holes and widen no range', () => {
    const { sequence, model } = open(backend, { pages: { ...f32, columns: ['bias', 'score'] } });
    appendRows(cache, sequence, model, 128, random);
    compare(cache, sequence, model);
    for (const name of ['bias', 'score']) {
      sequence.setColumn(
        0,
        1,
        name,
        Float32Array.from(model[1]!, (entry, i) => (entry.columns[name] = Math.fround(i / 7))),
      );
    }
    const kept = model[1]!.filter((_, i) => i > 2 && i % 5 !== 0);
    sequence
      .prepareKeep(
        [
          {
            slot: 0,
            head: 1,
            ranges: model[1]!.flatMap((_, i) => (i > 2 && i % 5 !== 0 ? [[i, i + 1] as const] : [])),
          },
        ],
        { threshold: 0 },
      )
      .apply();
    model[1] = kept;
    compare(cache, sequence, model);
    const rows = model[1]!.length;
    const encode = (item: Partial<EncodeItem>) => {
      sequence.prepareEncode([{ slot: 0, head: 1, from: 0, to: rows, ...item }]).apply();
    };
    encode({ k: shared, sharedK: block('k') });
    recode(model, 1, 0, rows, { k: 0.02, v: 0 });
    compare(cache, sequence, model);
    checkInvariants(cache, [sequence]);
    expect(sequence.exactRanges(0, 1)).toEqual([]);
    expect(sequence.fullPageRanges(0, 0, 'k')).toEqual([[0, 128]]);
    // Now K's codes and its parameter block are copied.
    encode({ v: scalar(4, 'channel') });
    recode(model, 1, 0, rows, { k: 0, v: 0.1 });
    compare(cache, sequence, model);
    checkInvariants(cache, [sequence]);
    expect(cache.storage.shared.count).toBe(1);
    expect(sequence.refCount(0, 1)).toBe(2);
  });

  test('counts elements beyond a shared range that found no slot', () => {
    const { sequence, model } = open(backend);
    appendRows(cache, sequence, model, 150, random);
    const values = Float32Array.from({ length: 32 }, (_, i) => (i < 16 ? 0.1 : -0.5));
    const part = { bits: 4, along: 'token', scope: 'shared' } as const;
    const range = (share: number): ScalarFormat => ({
      kind: 'scalar',
      parts: [part],
      outliers: { share, per: 'range' },
    });
    let clamped = 0;
    for (const [view, share] of [0.01, 0.1].entries()) {
      const slots = 8 * Math.ceil(share * 128);
      for (let from = 0; from < 150; from += 64) {
        // 0.1 and 0.5 are rounded to f16; nothing of the input is that near to an end.
        const page = model[view]!.slice(from, from + 64).flatMap(({ k }) => [...k]);
        clamped += Math.max(0, page.filter(x => x < -0.5 || x > 1).length - slots);
      }
      sequence
        .prepareEncode([{ slot: 0, head: view, from: 0, to: 150, k: range(share), sharedK: { key: 'k', values } }])
        .apply();
      expect(cache.stats().clamped).toBe(clamped);
    }
    expect(clamped).toBeGreaterThan(0);
  });

  test('a parameter block is one for all pages of its key, and goes with the last of them', () => {
    const { sequence, model } = open(backend);
    appendRows(cache, sequence, model, 200, random);
    compare(cache, sequence, model);
    const half = (from: number, to: number): EncodeItem => ({
      ...{ slot: 0, head: 0, from, to, k: shared, v: shared },
      ...{ sharedK: block('0/0'), sharedV: block('0/0') },
    });
    sequence.prepareEncode([half(0, 100), { ...half(100, 200), sharedV: block('other') }]).apply();
    recode(model, 0, 0, 200, { k: 0.02, v: 0.02 });
    expect([...cache.storage.shared.entries()].map(({ refs }) => refs)).toEqual([6, 2]);
    expect(sequence.stats().bytes.shared).toBe(2 * (64 + 64));
    const held = sequence.stats();
    const fork = sequence.fork('other');
    expect(fork.stats().bytes.shared).toBe(held.bytes.shared);
    expect(sequence.stats().unique).toBeLessThan(held.unique - 2 * 128);
    compare(cache, fork, copyModel(model));
    checkInvariants(cache, [sequence, fork]);
    const clash = () =>
      fork.prepareEncode([{ slot: 1, head: 0, from: 0, to: 200, k: shared, v: 'f32', sharedK: block('0/0', -5) }]);
    expect(clash).toThrow(expect.objectContaining({ code: 'invalid_request', field: 'plan[0].sharedK.key' }));
    sequence.keep(0, 0, [[0, 10]]);
    expect(cache.storage.shared.count).toBe(2);
    sequence.free();
    fork.keep(0, 0, [[170, 200]]);
    expect([...cache.storage.shared.entries()].map(({ refs }) => refs)).toEqual([1, 1]);
    fork.truncate(100);
    expect(cache.storage.shared.count).toBe(0);
    // The key is free again.
    const again = { slot: 1, head: 0, from: 0, to: 10, k: shared, v: 'f32', sharedK: block('0/0', -5) } as const;
    fork.prepareEncode([again]).apply();
    checkInvariants(cache, [fork]);
  });

  test('a column set on a page that a fork shares copies the page, header and all', () => {
    const { sequence, model } = open(backend, { pages: { ...f32, columns: ['bias'] } });
    appendRows(cache, sequence, model, 70, random);
    compare(cache, sequence, model);
    sequence.prepareEncode([{ slot: 0, head: 0, from: 0, to: 70, k: shared, v: 'int8', sharedK: block('k') }]).apply();
    recode(model, 0, 0, 70, { k: 0.02, v: 0.02 });
    compare(cache, sequence, model);
    const fork = sequence.fork();
    const before = copyModel(model);
    fork.setColumn(
      0,
      0,
      'bias',
      Float32Array.from(model[0]!, (entry, i) => (entry.columns.bias = i)),
    );
    compare(cache, fork, model);
    compare(cache, sequence, before);
    checkInvariants(cache, [sequence, fork]);
    sequence.free();
    compare(cache, fork, model);
    checkInvariants(cache, [fork]);
  });

  test('random plans of scalar formats among other verbs', () => {
    const { sequence, model } = open(backend, { pages: { formatK: 'f16', formatV: 'f32', columns: ['bias'] } });
    const formats: PlaneFormat[] = [
      ...([scalar(2, 'token'), scalar(4, 'channel'), scalar(8, 'token'), 'f16', 'int8'] as const),
      {
        kind: 'scalar',
        parts: [
          { channels: [0, 2, 4, 6, 8, 10, 12, 14], bits: 3, along: 'token', group: 32 },
          { channels: [1, 3, 5, 7, 9, 11, 13, 15], bits: 16, along: 'token' },
        ],
      },
      { kind: 'scalar', parts: [{ bits: 4, along: 'channel', transform: 'hadamard' }] },
    ];
    let encoded = 0;
    for (let round = 0; round < 40; round++) {
      appendRows(cache, sequence, model, 1 + Math.floor(Math.abs(random()) * 100), random);
      compare(cache, sequence, model);
      const draw = (random: () => number) => {
        const n = Math.floor(Math.abs(random()) * (formats.length + 1));
        return n === formats.length ? undefined : { format: formats[n]! };
      };
      encoded += Math.max(0, encodeSome(sequence, model, round, draw));
      compare(cache, sequence, model);
      checkInvariants(cache, [sequence]);
      if (round % 10 === 9) {
        const position = Math.floor(sequence.position * 0.4);
        sequence.truncate(position);
        for (const [view, entries] of model.entries()) model[view] = entries.filter(entry => entry.stored < position);
      }
    }
    expect(encoded).toBeGreaterThan(1000);
  });
});

describe('on the reference executor', () => {
  test('pages of different shifts and far positions are not mixed', () => {
    const { sequence, model } = open(plain());
    appendRows(cache, sequence, model, 30, random);
    appendRows(
      cache,
      sequence,
      model,
      20,
      random,
      Array.from({ length: 20 }, (_, i) => 100_000 + i),
    );
    sequence.shift(7, 10, 20);
    for (const entries of model)
      for (const entry of entries) if (entry.stored >= 10 && entry.stored < 20) entry.shift = 7;
    compare(cache, sequence, model);
    sequence.prepareEncode([{ slot: 1, head: 0, from: 5, to: 45, k: 'f16', v: 'f16' }]).apply();
    recode(model, 2, 5, 45, { k: 1e-3, v: 1e-3 });
    compare(cache, sequence, model);
    checkInvariants(cache, [sequence]);
    // 0-5 | 5-10, 10-20 shifted, 20-30, 30-45 far away | 45-50
    expect(sequence.refCount(1, 0)).toBe(6);
  });

  test('a plan is one run of the kernels a batch of pages', () => {
    const backend = plain();
    const { sequence, model } = open(backend);
    appendRows(cache, sequence, model, 256, random);
    const items = [0, 1].flatMap(slot =>
      [0, 1].map((head): EncodeItem => ({ slot, head, from: 0, to: 256, k: 'int8', v: 'int8' })),
    );
    const runs: number[] = [];
    const run = backend.kernels.run.bind(backend.kernels);
    backend.kernels.run = (kind, at, count) => {
      if (kind === KIND_ENCODE) runs.push(count);
      run(kind, at, count);
    };
    sequence.prepareEncode(items).discard();
    expect(runs).toEqual([16]);
    checkInvariants(cache, [sequence]);
    expect(sequence.stats().bytes.encoded).toBe(0);
  });

  const item: EncodeItem = { slot: 0, head: 0, from: 0, to: 64, k: 'int8', v: 'int8' };
  const latent = { kind: 'latent', rank: 16, bits: 16, basis: false, norms: true } as const;
  test.each<[string, readonly EncodeItem[]]>([
    ['slot', [{ ...item, slot: 2 }]],
    ['head', [{ ...item, head: -1 }]],
    ['plan[1].from', [item, { ...item, slot: 1, to: 101 }]],
    ['plan[0].from', [{ ...item, from: 3, to: 2 }]],
    ['plan[0].from', [{ ...item, from: 0.5 }]],
    ['plan[1].from', [item, { ...item, from: 63, to: 70 }]],
    ['plan[0].k', [{ slot: 0, head: 0, from: 0, to: 64 }]],
    ['plan[0].k', [{ ...item, k: 'f8' as 'f16' }]],
    ['plan[0].v', [{ ...item, v: latent }]],
    ['plan[0].k.parts', [{ ...item, k: { kind: 'scalar', parts: [] } }]],
    ['plan[0].sharedK', [{ ...item, k: shared }]],
    ['plan[0].sharedV', [{ ...item, sharedV: block('v') }]],
    ['plan[0].sharedK.values', [{ ...item, k: shared, sharedK: { key: 'k', values: new Float32Array(31) } }]],
    ['plan[0].sharedK.values', [{ ...item, k: shared, sharedK: { key: 'k', values: new Float32Array(32).fill(1e6) } }]],
    ['plan[0].sharedK.key', [{ ...item, k: shared, sharedK: { key: '', values: new Float32Array(32) } }]],
    // Only K: half of a page.
    ['plan[0].from', [{ slot: 0, head: 0, from: 0, to: 63, k: 'int8' }]],
    ['plan[0].from', [{ slot: 0, head: 0, from: 1, to: 64, v: 'int8' }]],
  ])('refuses %s of %o', (field, items) => {
    const { sequence, model } = open(plain());
    appendRows(cache, sequence, model, 100, random);
    const before = cache.stats();
    expect(() => sequence.prepareEncode(items)).toThrow(expect.objectContaining({ code: 'invalid_request', field }));
    expect(cache.stats()).toEqual(before);
    compare(cache, sequence, model);
  });

  test('a plan made for another state is refused, one ended cannot be ended again', () => {
    const { sequence, model } = open(plain());
    appendRows(cache, sequence, model, 70, random);
    const before = cache.stats().held;
    const old = sequence.prepareEncode([item]);
    appendRows(cache, sequence, model, 1, random);
    expect(() => old.apply()).toThrow(expect.objectContaining({ code: 'invalid_request' }));
    expect(cache.stats().held).toBe(before);
    const plan = sequence.prepareEncode([item]);
    plan.apply();
    expect(() => plan.apply()).toThrow(expect.objectContaining({ code: 'invalid_request' }));
    plan.discard();
    sequence.prepareAppend(1);
    expect(() => sequence.prepareEncode([])).toThrow(expect.objectContaining({ code: 'invalid_request' }));
    sequence.rollback();
    checkInvariants(cache, [sequence]);
  });

  test('rows that were fetched are parked still: they are neither encoded nor joined', () => {
    const { sequence, model } = open(plain());
    appendRows(cache, sequence, model, 128, random);
    const unit = Uint32Array.from({ length: 64 }, (_, i) => i);
    sequence.preparePark([{ slot: 0, head: 0, units: [unit], place: 'memory' }]).apply();
    sequence.fetch(0, 0, Uint32Array.of(0));
    expect(sequence.exactRanges(0, 0)).toEqual([[64, 128]]);
    const refusal = (field: string) => expect.objectContaining({ code: 'invalid_request', field });
    expect(() => sequence.prepareEncode([item])).toThrow(refusal('plan[0].from'));
    const rows = new Float32Array(64 * 16);
    const plane = { format: { ...latent, norms: false }, rows };
    const join = { views: [{ slot: 0, head: 0 }], entries: [unit], k: plane, v: plane };
    expect(() => sequence.prepareJoin([join])).toThrow(refusal('plan[0].views'));
    sequence.prepareEncode([{ ...item, from: 64, to: 128 }]).apply();
    expect(sequence.fetch(0, 0, new Uint32Array())).toBe(0);
    expect(sequence.exactRanges(0, 0)).toEqual([[0, 64]]);
    checkInvariants(cache, [sequence]);
  });

  test('wherever the bytes or the memory run out, nothing has changed', () => {
    const backend = plain();
    const budget = new CacheBudget(1 << 20);
    const { sequence, model } = open(backend, { limit: budget, pages: { ...f32, columns: ['bias'] } });
    appendRows(cache, sequence, model, 150, random);
    sequence.reserve(40);
    compare(cache, sequence, model);
    const before = { ...cache.stats(), peak: 0 };
    const items: EncodeItem[] = [
      { slot: 0, head: 0, from: 10, to: 130, k: 'int8', v: 'f16' },
      { slot: 1, head: 1, from: 0, to: 128, k: 'f16' },
    ];
    const failed = (code: string) => {
      try {
        sequence.prepareEncode(items).apply();
        return false;
      } catch (error) {
        expect((error as KvasirError).code).toBe(code);
        expect({ ...cache.stats(), peak: 0 }).toEqual(before);
        return true;
      }
    };
    const rest = budget.free;
    let refused = 0;
    for (let free = 0; ; free += 300) {
      budget.take(rest - free);
      const more = failed('kv_cache_full');
      budget.give(rest - free);
      if (!more) break;
      refused++;
    }
    expect(refused).toBeGreaterThan(30);
    recode(model, 0, 10, 130, { k: 0.02, v: 1e-3 });
    recode(model, 3, 0, 128, { k: 1e-3, v: 0 });
    compare(cache, sequence, model);
    checkInvariants(cache, [sequence]);

    items.splice(
      0,
      2,
      { slot: 1, head: 0, from: 10, to: 130, k: 'int8', v: 'f16' },
      { slot: 0, head: 1, from: 0, to: 128, v: 'f16' },
    );
    Object.assign(before, cache.stats(), { peak: 0 });
    let allowance = 0;
    for (; ; allowance++) {
      backend.memory.allowance = allowance;
      const more = failed('memory_limit');
      backend.memory.allowance = Number.POSITIVE_INFINITY;
      if (!more) break;
    }
    // Four pages and the work space.
    expect(allowance).toBe(5);
    checkInvariants(cache, [sequence]);
  });

  test('draws on what its sequence has been promised, which is whole again once the old pages are gone', () => {
    const budget = new CacheBudget(1 << 20);
    const { sequence, model } = open(plain(), { limit: budget });
    appendRows(cache, sequence, model, 128, random);
    sequence.reserve(100);
    compare(cache, sequence, model);
    const { reserved } = cache.stats();
    // Others take all that is free.
    const others = budget.free - 400;
    budget.take(others);
    sequence.prepareEncode([{ ...item, to: 128 }]).apply();
    recode(model, 0, 0, 128, { k: 0.02, v: 0.02 });
    expect(cache.stats().reserved).toBe(reserved);
    sequence.prepareEncode([{ ...item, slot: 1, to: 128 }]).discard();
    expect(cache.stats().reserved).toBe(reserved);
    const gained = budget.free;
    budget.take(gained);
    appendRows(cache, sequence, model, 100, random);
    compare(cache, sequence, model);
    checkInvariants(cache, [sequence]);
    budget.give(others + gained);
  });

  test('what a sequence holds is itemised', () => {
    const { sequence, model } = open(plain(), { pages: { ...f32, columns: ['bias'] } });
    appendRows(cache, sequence, model, 128, random);
    sequence.setState('s', new Float32Array(10));
    sequence.prepareEncode([{ slot: 0, head: 0, from: 0, to: 128, k: 'int8', v: 'int8' }]).apply();
    const { bytes, held } = sequence.stats();
    const int8 = 2 * 64 * 16 + 2 * 64 * 4;
    expect(bytes.exact).toBe(6 * 8192 + 2 * int8);
    expect([bytes.encoded, bytes.joint, bytes.shared]).toEqual([0, 0, 0]);
    expect(bytes.columns).toBe(8 * 256);
    expect(bytes.positions).toBe(cache.storage.blocks.count * 221);
    expect(bytes.references).toBe(4 * 64);
    expect(bytes.states).toBe(2 + 16 + 40);
    expect(bytes.tables).toBe(8 * PAGE_ENTRY_BYTES + 4 * 25 + 2 * 34);
    expect(Object.values(bytes).reduce((a, b) => a + b)).toBe(held);
  });

  test('full pages and the moment they fill', () => {
    const { sequence, model } = open(plain());
    appendRows(cache, sequence, model, 63, random);
    expect([sequence.justFilled(0), sequence.fullPageRanges(0, 0)]).toEqual([false, []]);
    appendRows(cache, sequence, model, 1, random);
    expect([sequence.justFilled(1), sequence.fullPageRanges(0, 0)]).toEqual([true, [[0, 64]]]);
    appendRows(cache, sequence, model, 65, random);
    expect([sequence.justFilled(0), sequence.fullPageRanges(0, 0)]).toEqual([true, [[0, 128]]]);
    appendRows(cache, sequence, model, 1, random);
    expect(sequence.justFilled(0)).toBe(false);
    sequence.keep(0, 0, [[2, 130]]);
    expect(sequence.fullPageRanges(0, 0)).toEqual([[0, 128]]);
    sequence.prepareEncode([{ slot: 0, head: 0, from: 0, to: 64, k: 'int8', v: 'f16' }]).apply();
    expect(sequence.exactRanges(0, 0)).toEqual([[0, 128]]);
    expect(sequence.exactRanges(1, 0)).toEqual([[0, 130]]);
  });
});
