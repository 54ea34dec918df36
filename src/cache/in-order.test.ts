import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Kernels, Memory } from '../backend/types.ts';
import { KvCacheFullError } from './budget.ts';
import { KvCache } from './cache.ts';
import type { ScalarFormat } from './format.ts';
import type { CacheSequence } from './sequence.ts';
import { openBackend } from './testing-backends.ts';
import { checkInvariants } from './testing-invariants.ts';
import { appendRows, compare, copyModel, type Model, numbers } from './testing-model.ts';
import type { CacheShape, PreparedPlan } from './types.ts';

const shape: CacheShape = { slots: 2, kvHeads: 2, headDim: 8, rotary: 8 };
const pages = { formatK: 'f32', formatV: 'f32', columns: ['bias', 'score'], keysUnrotated: true } as const;
const two: ScalarFormat = { kind: 'scalar', parts: [{ bits: 2, along: 'channel' }] };
const upTo = (n: number) => Uint32Array.from({ length: n }, (_, i) => i);

type Step = (sequence: CacheSequence, head: number) => PreparedPlan | undefined;

/** One plan of each kind, about the views of one head. Entry numbers are within what any of the others leaves. */
const KINDS: Readonly<Record<string, Step>> = {
  keep: (s, head) =>
    s.prepareKeep([0, 1].map(slot => ({ slot, head, ranges: Uint32Array.of(1, 30, 40, s.entries(slot, head) - 3) }))),
  merge: (s, head) =>
    s.prepareMerge([
      {
        slot: 1,
        head,
        targets: Uint32Array.of(20),
        starts: Uint32Array.of(0, 12),
        members: upTo(12).map(i => i + 15),
        weightsK: new Float32Array(12).fill(0.5),
        weightsV: new Float32Array(12).fill(-0.25),
        bias: Float32Array.of(3),
      },
    ]),
  encode: (s, head) => s.prepareEncode([{ slot: 0, head, from: 2, to: 33, k: two, v: two }]),
  join: (s, head) => {
    const views = [0, 1].map(slot => ({ slot, head }));
    const own = { format: two };
    return s.prepareJoin([{ views, entries: views.map(() => upTo(40)), k: own, v: own }]);
  },
  park: (s, head) => s.preparePark([{ slot: 0, head, units: [upTo(9), upTo(20).map(i => i + 11)], place: 'memory' }]),
  column: (s, head) =>
    s.prepareColumns(
      [0, 1].map(slot => ({ slot, head, name: 'score', values: new Float32Array(s.entries(slot, head)).fill(7) })),
    ),
  map: (s, head) =>
    s.prepareMap([
      {
        ...{ slot: 0, head: 1 - head, targets: Uint32Array.of(35, 21) },
        sources: [{ slot: 1, head, entries: Uint32Array.of(2, 3) }],
        by: { kind: 'blend', weightsK: Float32Array.of(2, 3), weightsV: Float32Array.of(2, 3) },
      },
    ]),
  renumber: s => void s.renumber(1),
};
const PAIRS = Object.keys(KINDS).flatMap(first => Object.keys(KINDS).map(second => [first, second] as const));

describe('plans in order', () => {
  let memory: Memory;
  let kernels: Kernels;
  let cache: KvCache;
  let base = 0;
  const random = numbers(11);

  beforeEach(async () => {
    ({ memory, kernels } = await openBackend('wasm'));
    base = memory.held;
    cache = new KvCache({ memory, kernels, shape, limit: 8 << 20 });
  });

  afterEach(async () => {
    cache.dispose();
    expect(memory.held).toBe(base);
    await kernels.dispose();
  });

  function open() {
    const sequence = cache.create({ owner: 'me', pages });
    const model: Model = Array.from({ length: 4 }, () => []);
    appendRows(cache, sequence, model, 150, random);
    // Holes, so that pages are moved together and positions are no runs.
    for (const [view, entries] of model.entries()) {
      const values = Float32Array.from(entries, random);
      sequence.setColumn(view >> 1, view & 1, 'score', values);
      entries.forEach((entry, i) => {
        entry.columns.score = values[i]!;
      });
      sequence
        .prepareKeep(
          [
            {
              slot: view >> 1,
              head: view & 1,
              ranges: [
                [0, 50],
                [60, 150],
              ],
            },
          ],
          { threshold: 0 },
        )
        .apply();
      entries.splice(50, 10);
    }
    compare(cache, sequence, model);
    return { sequence, model };
  }

  const left = (sequence: CacheSequence) => {
    const { peak: _, ...stats } = sequence.stats();
    const { peak: __, ...all } = cache.stats();
    return { stats, all, memory: memory.held, views: [0, 1, 2, 3].map(view => sequence.read(view >> 1, view & 1)) };
  };
  const full = () => {
    throw new KvCacheFullError('rows', 64, 1, 0, 0);
  };

  describe.each([false, true])('pages shared with a fork: %s', shared => {
    test.each(PAIRS)('%s, then %s without room: everything is as it was', (first, second) => {
      const { sequence, model } = open();
      const fork = shared ? sequence.fork('fork') : null;
      const forked = copyModel(model);
      sequence.reserve(70);
      const before = left(sequence);
      let changed = false;
      expect(() =>
        sequence.inOrder([
          () => KINDS[first]!(sequence, 0),
          () => {
            changed = JSON.stringify(left(sequence)) !== JSON.stringify(before);
            KINDS[second]!(sequence, 1)?.discard();
            return full();
          },
        ]),
      ).toThrow();
      expect(changed).toBe(true);
      expect(left(sequence)).toEqual(before);
      const all = fork ? [sequence, fork] : [sequence];
      checkInvariants(cache, all);
      appendRows(cache, sequence, model, 70, random);
      compare(cache, sequence, model);
      if (fork) compare(cache, fork, forked);
      checkInvariants(cache, all);
    });
  });

  test('three in order: the third fails; then all go through, as one by one', () => {
    const { sequence } = open();
    const twin = sequence.fork('twin');
    const steps = (of: CacheSequence) => [
      () => KINDS.column!(of, 0),
      () => KINDS.keep!(of, 0),
      () => KINDS.merge!(of, 0),
    ];
    const before = left(sequence);
    expect(() => sequence.inOrder([...steps(sequence), full])).toThrow(
      expect.objectContaining({ code: 'kv_cache_full' }),
    );
    expect(left(sequence)).toEqual(before);
    sequence.inOrder(steps(sequence));
    for (const step of steps(twin)) step()?.apply();
    for (const view of [0, 1, 2, 3]) expect(sequence.read(view >> 1, view & 1)).toEqual(twin.read(view >> 1, view & 1));
    checkInvariants(cache, [sequence, twin]);
  });

  test('pages given up by the first plans count in the peak until the last is prepared', () => {
    const { sequence } = open();
    const { held } = sequence.stats();
    sequence.inOrder([() => KINDS.encode!(sequence, 0), () => KINDS.keep!(sequence, 1)]);
    expect(sequence.stats().peak).toBeGreaterThan(held);
    expect(sequence.stats().peak).toBeLessThanOrEqual(cache.stats().peak);
    expect(sequence.stats().held).toBeLessThan(held);
    checkInvariants(cache, [sequence]);
  });

  test('columns of several views: all or none', () => {
    const { sequence, model } = open();
    const fork = sequence.fork('fork');
    const item = (slot: number, n: number) => ({ slot, head: 0, name: 'score', values: new Float32Array(n).fill(1) });
    const bad = [item(0, 140), item(1, 139)];
    expect(() => sequence.prepareColumns(bad)).toThrow(expect.objectContaining({ field: 'values', value: 139 }));
    compare(cache, sequence, model);
    sequence.prepareColumns([item(0, 140), item(1, 140)]).discard();
    compare(cache, sequence, model);
    sequence.prepareColumns([item(0, 140), item(1, 140)]).apply();
    expect([...sequence.column(1, 0, 'score')]).toEqual(Array(140).fill(1));
    compare(cache, fork, model);
    checkInvariants(cache, [sequence, fork]);
  });
});
