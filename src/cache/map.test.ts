import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Kernels, Memory } from '../backend/types.ts';
import { KvCache } from './cache.ts';
import type { ScalarFormat } from './format.ts';
import { PlainMemory } from './testing.ts';
import { BACKENDS, openBackend } from './testing-backends.ts';
import { checkInvariants } from './testing-invariants.ts';
import { drawMap, MAP_KINDS, mapEntries } from './testing-map-actions.ts';
import { appendRows, compare, copyModel, type Model, numbers } from './testing-model.ts';
import type { CacheShape, FormatName, MapItem, PageOptions } from './types.ts';

const shape: CacheShape = { slots: 2, kvHeads: 2, headDim: 8, rotary: 6 };
const VIEWS = [0, 1, 2, 3];

describe.each(BACKENDS)('map on %s kernels', backend => {
  let cache: KvCache;
  let memory: Memory;
  let kernels: Kernels;
  let base = 0;
  const random = numbers(23);

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

  function open(format: FormatName, rows: number, more: Partial<PageOptions> = {}) {
    cache = new KvCache({ memory, kernels, shape, limit: 8 << 20 });
    const pages = { formatK: format, formatV: format, columns: ['score', 'bias'], ...more };
    const sequence = cache.create({ owner: 'me', pages });
    const model: Model = VIEWS.map(() => []);
    if (rows > 0) appendRows(cache, sequence, model, rows, random);
    for (const view of VIEWS) {
      for (const name of ['score', 'bias']) {
        const values = Float32Array.from(model[view]!, () => random());
        sequence.setColumn(view >> 1, view & 1, name, values);
        for (const [i, entry] of model[view]!.entries()) entry.columns[name] = values[i]!;
      }
    }
    compare(cache, sequence, model);
    return { sequence, model };
  }

  const draw = (model: Model, view: number, kind: (typeof MAP_KINDS)[number]) => {
    const lengths = model.map(entries => entries.length);
    const at = { slot: view >> 1, head: view & 1 };
    return drawMap(kind, at, [[0, lengths[view]!]], shape, lengths, random);
  };

  describe.each(MAP_KINDS)('%s', kind => {
    test.each([
      ['f32', 65],
      ['f16', 130],
      ['int8', 64],
      ['f32', 63],
      ['f32', 1],
      ['f32', 0],
    ] as const)(
      '%s pages, %i entries: all views at once, a fork beside it, bytes those of the copies',
      (format, rows) => {
        const { sequence, model } = open(format, rows);
        const before = cache.stats().held;
        for (const shared of [false, true]) {
          const fork = shared ? sequence.fork('fork') : null;
          const forked = copyModel(model);
          const held = cache.stats().held;
          const drawn = VIEWS.map(view => draw(model, view, kind));
          sequence.prepareMap(drawn.map(({ item }) => item)).discard();
          expect(cache.stats().held).toBe(held);
          compare(cache, sequence, model);
          sequence.prepareMap(drawn.map(({ item }) => item)).apply();
          const after = drawn.map(each => mapEntries(model, each, shape.kvHeads, shape.rotary));
          for (const view of VIEWS) model[view] = after[view]!;
          compare(cache, sequence, model);
          checkInvariants(cache, fork ? [sequence, fork] : [sequence]);
          if (!fork) {
            expect(cache.stats().held).toBe(held);
            continue;
          }
          compare(cache, fork, forked);
          fork.free();
          expect(cache.stats().held).toBe(before);
        }
        appendRows(cache, sequence, model, 5, random);
        compare(cache, sequence, model);
      },
    );
  });

  test('pages of joint heads, and entries between holes', () => {
    const { sequence, model } = open('f32', 140, { span: { slots: 1, kvHeads: 2 } });
    for (const view of VIEWS) {
      sequence.keep(view >> 1, view & 1, [
        [3, 60],
        [62, 140],
      ]);
      model[view] = model[view]!.filter((_, i) => i >= 3 && (i < 60 || i >= 62));
    }
    const fork = sequence.fork();
    const forked = copyModel(model);
    const drawn = draw(model, 3, 'blend');
    sequence.prepareMap([drawn.item]).apply();
    model[3] = mapEntries(model, drawn, shape.kvHeads, shape.rotary);
    compare(cache, sequence, model);
    compare(cache, fork, forked);
    checkInvariants(cache, [sequence, fork]);
  });

  test('keys before RoPE are blended as they are, and not rotated', () => {
    const { sequence, model } = open('f32', 70, { keysUnrotated: true });
    sequence.shift(3, 0, 70);
    for (const entry of model.flat()) entry.shift += 3;
    const drawn = draw(model, 2, 'blend');
    sequence.prepareMap([drawn.item]).apply();
    model[2] = mapEntries(model, drawn, shape.kvHeads, shape.rotary);
    compare(cache, sequence, model);
    expect(() => sequence.prepareMap([draw(model, 2, 'rotate').item])).toThrow(
      expect.objectContaining({ code: 'invalid_request', field: 'plan[0].by.kind', value: 'rotate' }),
    );
  });

  test('without room for copies nothing changes', () => {
    const { sequence, model } = open('f32', 130);
    const fork = sequence.fork('fork');
    const { held } = cache.stats();
    const drawn = VIEWS.map(view => draw(model, view, 'blend').item);
    cache.budget.promise(cache.budget.free - 5000);
    expect(() => sequence.prepareMap(drawn)).toThrow(expect.objectContaining({ code: 'kv_cache_full' }));
    expect(cache.stats().held).toBe(held);
    cache.budget.promise(-cache.budget.reserved);
    compare(cache, sequence, model);
    checkInvariants(cache, [sequence, fork]);
  });

  test('what makes no sense is refused by name', () => {
    const { sequence, model } = open('f32', 10);
    const item: MapItem = {
      slot: 0,
      head: 0,
      targets: Uint32Array.of(3, 4),
      sources: [{ slot: 1, head: 1, entries: Uint32Array.of(0, 9) }],
      by: { kind: 'blend', weightsK: Float32Array.of(1, 1), weightsV: Float32Array.of(1, 1) },
    };
    const blend = { kind: 'blend', weightsK: Float32Array.of(1, 1), weightsV: Float32Array.of(1, 1) } as const;
    const net = {
      kind: 'net',
      weights1: new Float32Array(2 * 16),
      bias1: new Float32Array(2),
      weights2: new Float32Array(2 * 16),
      bias2: new Float32Array(16),
    } as const;
    const source = item.sources[0]!;
    const wrong: [Partial<MapItem>, string][] = [
      [{ targets: Uint32Array.of(3, 3) }, 'targets'],
      [{ targets: Uint32Array.of(3, 10) }, 'targets'],
      [{ targets: Uint32Array.of(3) }, 'sources'],
      [{ sources: [] }, 'sources'],
      [{ sources: [{ ...source, entries: Uint32Array.of(0, 10) }] }, 'sources'],
      [{ by: { ...blend, weightsK: Float32Array.of(1) } }, 'by.weightsK'],
      [{ by: { ...blend, weightsV: Float32Array.of(1, Number.NaN) } }, 'by.weightsV'],
      [{ by: { ...blend, key: 'direction', weightsK: Float32Array.of(1, 0) } }, 'by.weightsK'],
      [{ by: { ...blend, key: 'norm' as 'sum' } }, 'by.key'],
      [{ by: { kind: 'rotate', turns: new Float32Array(11) } }, 'by.turns'],
      [{ sources: [source, source], by: { kind: 'rotate', turns: new Float32Array(12) } }, 'sources'],
      [{ by: { ...net, bias1: new Float32Array(0) } }, 'by.bias1'],
      [{ by: { ...net, weights1: new Float32Array(5) } }, 'by.weights1'],
      [{ by: { ...net, weights2: new Float32Array(5) } }, 'by.weights2'],
      [{ by: { ...net, bias2: new Float32Array(5) } }, 'by.bias2'],
      [{ by: { kind: 'square' } as unknown as MapItem['by'] }, 'by.kind'],
    ];
    for (const [change, field] of wrong)
      expect(() => sequence.prepareMap([{ ...item, by: blend, ...change }])).toThrow(
        expect.objectContaining({ code: 'invalid_request', field: `plan[0].${field}` }),
      );
    expect(() => sequence.prepareMap([item, item])).toThrow(expect.objectContaining({ field: 'plan[1].targets' }));
    sequence.prepareMap([{ ...item, by: net }]).discard();
    compare(cache, sequence, model);
  });

  test.runIf(backend === 'wasm')('rows of encoded pages can be sources, not targets', () => {
    const { sequence, model } = open('f32', 130);
    const two: ScalarFormat = { kind: 'scalar', parts: [{ bits: 2, along: 'channel' }] };
    sequence.prepareEncode([{ slot: 0, head: 0, from: 0, to: 64, k: two, v: two }]).apply();
    const encoded = sequence.read(0, 0);
    const one = Float32Array.of(1);
    const item = (head: number, target: number): MapItem => ({
      ...{ slot: 0, head, targets: Uint32Array.of(target) },
      sources: [{ slot: 0, head: 0, entries: Uint32Array.of(5) }],
      by: { kind: 'blend', weightsK: one, weightsV: one },
    });
    expect(() => sequence.prepareMap([item(0, 63)])).toThrow(
      expect.objectContaining({
        ...{ code: 'invalid_request', field: 'plan[0].targets', value: 63 },
        allowed: 'entries whose rows are exact, not encoded',
      }),
    );
    sequence.prepareMap([item(1, 70), item(0, 64)]).apply();
    const row = encoded.k.slice(5 * 8, 6 * 8);
    expect(sequence.read(0, 1).k.slice(70 * 8, 71 * 8)).toEqual(row);
    expect(sequence.read(0, 0).k.slice(64 * 8, 65 * 8)).toEqual(row);
    expect(sequence.read(1, 1).k).toEqual(Float32Array.from(model[3]!.flatMap(({ codes }) => [...codes!.k])));
    checkInvariants(cache, [sequence]);
  });
});
