import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { KvasirError } from '../errors.ts';
import { CacheBudget } from './budget.ts';
import { KvCache } from './cache.ts';
import type { LatentFormat } from './format.ts';
import { PAGE_ENTRY_BYTES } from './pages.ts';
import type { CacheSequence } from './sequence.ts';
import { SHARED_ENTRY_BYTES } from './shared-blocks.ts';
import { PlainMemory } from './testing.ts';
import { joinSome } from './testing-actions.ts';
import { BACKENDS, openBackend } from './testing-backends.ts';
import { checkInvariants } from './testing-invariants.ts';
import { appendRows, compare, copyModel, type Entry, type Model, numbers } from './testing-model.ts';
import type { CacheShape, JoinedPlane, JoinItem, PageOptions } from './types.ts';

const shape: CacheShape = { slots: 3, kvHeads: 2, headDim: 16, rotary: 16 };
const f32: PageOptions = { formatK: 'f32', formatV: 'f32' };
const random = numbers(11);
const draw = (length: number) => Float32Array.from({ length }, random);
const directions: LatentFormat = { kind: 'latent', rank: 16, bits: 16, basis: false, norms: true };
const projected: LatentFormat = { kind: 'latent', rank: 8, bits: 16, basis: true, norms: false };

/** A plane of `count` rows for some views, drawn at random; `key` names its bases. */
function plane(format: LatentFormat, count: number, views: number, key: string): JoinedPlane {
  return {
    ...{ format, rows: draw(count * format.rank) },
    ...(format.norms && { norms: Array.from({ length: views }, () => draw(count)) }),
    ...(format.basis && {
      bases: Array.from({ length: views }, (_, i) => ({
        key: `${key}/${i}`,
        values: draw(format.rank * shape.headDim),
      })),
    }),
  };
}

/** What view i sees in the j-th joined row. */
function seen({ format, rows, norms, bases }: JoinedPlane, i: number, j: number): Float64Array {
  const row = rows.subarray(j * format.rank, (j + 1) * format.rank);
  const norm = norms?.[i]?.[j] ?? 1;
  const basis = bases?.[i]?.values;
  return Float64Array.from({ length: shape.headDim }, (_, c) => {
    if (!basis) return norm * row[c]!;
    return row.reduce((sum, x, r) => sum + norm * x * basis[r * shape.headDim + c]!, 0);
  });
}

function entriesFrom(from: number, to: number): Uint32Array {
  return Uint32Array.from({ length: to - from }, (_, i) => from + i);
}

/** Both planes of it come with the plan. */
type Shared = JoinItem & { readonly k: JoinedPlane; readonly v: JoinedPlane };

/** Carries an item out on the model. */
function joinModel(model: Model, item: Shared, tolerance = 0.01): void {
  for (const [i, { slot, head }] of item.views.entries()) {
    const view = slot * shape.kvHeads + head;
    const taken = new Set(item.entries[i]);
    const joined = [...item.entries[i]!].map((entry, j): Entry => {
      const allowed = { k: tolerance, v: tolerance };
      return { ...model[view]![entry]!, k: seen(item.k, i, j), v: seen(item.v, i, j), codes: null, allowed };
    });
    model[view] = [...joined, ...model[view]!.filter((_, n) => !taken.has(n))];
  }
}

describe.each(BACKENDS)('on %s kernels', name => {
  let backend: Awaited<ReturnType<typeof openBackend>>;
  let cache: KvCache;
  let base: number;
  beforeAll(async () => {
    backend = await openBackend(name);
  });
  afterEach(() => {
    cache.dispose();
    expect(backend.memory.held).toBe(base);
    expect(cache.budget.held).toBe(0);
  });
  afterAll(() => backend.kernels.dispose());

  function open(
    rows: number,
    pages = f32,
    limit: number | CacheBudget = 8 << 20,
  ): { sequence: CacheSequence; model: Model } {
    base = backend.memory.held;
    cache = new KvCache({ ...backend, shape, limit });
    const sequence = cache.create({ owner: 'me', pages });
    const model: Model = Array.from({ length: 6 }, () => []);
    if (rows > 0) appendRows(cache, sequence, model, rows, random);
    compare(cache, sequence, model);
    return { sequence, model };
  }

  test.each([1, 63, 64, 65, 130])('%i rows of two views, their norms apart; bytes are those of the rows', count => {
    const { sequence, model } = open(count + 5, { ...f32, columns: ['bias'] });
    const views = [
      { slot: 0, head: 1 },
      { slot: 2, head: 1 },
    ];
    for (const { slot, head } of views) {
      const bias = Float32Array.from(model[slot * 2 + head]!, (entry, i) => {
        entry.columns.bias = slot * 1000 + i;
        return entry.columns.bias;
      });
      sequence.setColumn(slot, head, 'bias', bias);
    }
    const before = cache.stats();
    const entries = views.map(() => Uint32Array.from({ length: count }, (_, i) => (i < 2 ? i : i + 3)));
    const item: Shared = {
      ...{ views, entries },
      k: plane(directions, count, 2, 'k'),
      v: plane({ ...projected, norms: true }, count, 2, 'v'),
    };
    sequence.prepareJoin([item]).apply();
    joinModel(model, item);
    compare(cache, sequence, model);
    checkInvariants(cache, [sequence]);
    const pages = Math.ceil(count / 64);
    // Rows of 16 and of 8 halves; norms twice and a header a view.
    const bytes = 64 * 16 * 2 + 64 * 8 * 2 + 2 * (2 * 64 * 4 + 16);
    const { bytes: items } = sequence.stats();
    expect(items.joint).toBe(pages * (Math.ceil((bytes + 2 * 256) / 64) * 64 - 2 * 256));
    expect(items.shared).toBe(2 * (8 * 16 * 2 + SHARED_ENTRY_BYTES));
    expect(cache.stats().bySlot[1]).toBe(before.bySlot[1]);
    expect(sequence.exactRanges(0, 1)).toEqual([[count, count + 5]]);

    appendRows(cache, sequence, model, 70, random);
    compare(cache, sequence, model);
    const fork = sequence.fork('fork');
    sequence.truncate(Math.floor(count / 2));
    compare(cache, fork, model);
    checkInvariants(cache, [sequence, fork]);
    for (const [view, list] of model.entries())
      model[view] = list.filter(({ stored }) => stored < Math.floor(count / 2));
    compare(cache, sequence, model);
    appendRows(cache, sequence, model, 2, random);
    compare(cache, sequence, model);
    checkInvariants(cache, [sequence, fork]);
    fork.free();
  });

  test('everything of six views joined; pages go when the last view lets go', () => {
    const { sequence, model } = open(128);
    const views = Array.from({ length: 6 }, (_, i) => ({ slot: Math.floor(i / 2), head: i % 2 }));
    const item: Shared = {
      ...{ views, entries: views.map(() => entriesFrom(0, 128)) },
      k: plane(projected, 128, 6, 'k'),
      v: plane(directions, 128, 6, 'v'),
    };
    sequence.prepareJoin([item]).apply();
    joinModel(model, item);
    compare(cache, sequence, model);
    checkInvariants(cache, [sequence]);
    expect(cache.stats().pages).toBe(2);
    // In equal parts, whole bytes each.
    const { bySlot } = cache.stats();
    expect(Math.max(...bySlot) - Math.min(...bySlot)).toBeLessThan(2 * 6);
    const pageBytes = 64 * 8 * 2 + 64 * 16 * 2 + 6 * (64 * 4 + 16);
    expect(sequence.stats().bytes.joint).toBe(2 * Math.ceil(pageBytes / 64) * 64);
    expect(sequence.stats().bytes.tables).toBe(2 * PAGE_ENTRY_BYTES + 6 * 25 + 3 * 34);
    // Holes in one view are not holes in another.
    sequence.keep(1, 0, [[64, 65]]);
    model[2] = model[2]!.slice(64, 65);
    compare(cache, sequence, model);
    for (const { slot, head } of views) if (slot !== 1) sequence.keep(slot, head, []);
    sequence.keep(1, 1, [[3, 5]]);
    checkInvariants(cache, [sequence]);
    expect(cache.stats().pages).toBe(2);
    sequence.keep(1, 1, []);
    expect([cache.stats().pages, cache.storage.shared.count]).toEqual([1, 6]);
    sequence.keep(1, 0, []);
    expect([cache.stats().pages, cache.storage.shared.count]).toEqual([0, 0]);
  });

  test('a column set on a shared joint page copies it with its rows for all views', () => {
    const { sequence, model } = open(70, { ...f32, columns: ['score'] });
    const views = [0, 1, 2].map(slot => ({ slot, head: 0 }));
    const item: Shared = {
      ...{ views, entries: views.map(() => entriesFrom(0, 70)) },
      ...{ k: plane(projected, 70, 3, 'k'), v: plane(projected, 70, 3, 'v') },
    };
    sequence.prepareJoin([item]).apply();
    joinModel(model, item);
    compare(cache, sequence, model);
    const fork = sequence.fork();
    const before = copyModel(model);
    const values = Float32Array.from(model[2]!, (entry, i) => {
      entry.columns.score = i;
      return i;
    });
    fork.setColumn(1, 0, 'score', values);
    compare(cache, fork, model);
    compare(cache, sequence, before);
    checkInvariants(cache, [sequence, fork]);
    sequence.free();
    compare(cache, fork, model);
    checkInvariants(cache, [fork]);
  });

  test('random joins among appends, cuts and forks', () => {
    const { sequence, model } = open(20);
    let joined = 0;
    for (let round = 0; round < 30; round++) {
      appendRows(cache, sequence, model, 1 + Math.floor(Math.abs(random()) * 90), random);
      compare(cache, sequence, model);
      joined += joinSome(cache, sequence, model, round);
      compare(cache, sequence, model);
      const fork = round % 4 === 0 ? [sequence.fork()] : [];
      checkInvariants(cache, [sequence, ...fork]);
      if (round % 8 === 7) {
        const position = Math.floor(sequence.position * 0.5);
        sequence.truncate(position);
        for (const [view, list] of model.entries()) model[view] = list.filter(({ stored }) => stored < position);
        compare(cache, sequence, model);
      }
      for (const other of fork) other.free();
    }
    expect(joined).toBeGreaterThan(1000);
  });

  test('wherever the bytes or the memory run out, nothing has changed', () => {
    const budget = new CacheBudget(1 << 20);
    const { sequence, model } = open(150, { ...f32, columns: ['bias'] }, budget);
    sequence.reserve(30);
    const views = [0, 1].map(slot => ({ slot, head: 1 }));
    const item: Shared = {
      ...{ views, entries: views.map(() => entriesFrom(3, 140)) },
      ...{ k: plane(projected, 137, 2, 'k'), v: plane(projected, 137, 2, 'v') },
    };
    const before = { ...cache.stats(), peak: 0 };
    const fails = (code: string): boolean => {
      try {
        sequence.prepareJoin([item]).discard();
        return false;
      } catch (error) {
        expect((error as KvasirError).code).toBe(code);
        expect({ ...cache.stats(), peak: 0 }).toEqual(before);
        return true;
      }
    };
    const rest = budget.free;
    let refused = 0;
    for (let free = 0, more = true; more; free += 200) {
      budget.take(rest - free);
      more = fails('kv_cache_full');
      budget.give(rest - free);
      if (more) refused++;
    }
    expect(refused).toBeGreaterThan(30);
    const { memory } = backend;
    if (memory instanceof PlainMemory) {
      let allowance = -1;
      do {
        memory.allowance = ++allowance;
      } while (fails('memory_limit'));
      memory.allowance = Number.POSITIVE_INFINITY;
      // Four bases, positions, pages, work space, lists.
      expect(allowance).toBeGreaterThan(8);
    }
    expect({ ...cache.stats(), peak: 0 }).toEqual(before);
    compare(cache, sequence, model);
    sequence.prepareJoin([item]).apply();
    joinModel(model, item);
    compare(cache, sequence, model);
    checkInvariants(cache, [sequence]);
  });

  const views = [
    { slot: 0, head: 0 },
    { slot: 1, head: 0 },
  ];
  const good: Shared = {
    ...{ views, entries: [entriesFrom(0, 64), entriesFrom(0, 64)] },
    ...{ k: plane(projected, 64, 2, 'k'), v: plane(directions, 64, 2, 'v') },
  };
  test.each<[string, readonly JoinItem[]]>([
    ['slot', [{ ...good, views: [views[0]!, { slot: 3, head: 0 }] }]],
    ['plan[0].views', [{ ...good, views: [] }]],
    ['plan[0].views', [{ ...good, views: [views[0]!, views[0]!] }]],
    ['plan[1].views', [good, good]],
    ['plan[0].entries', [{ ...good, entries: [entriesFrom(0, 64)] }]],
    ['plan[0].entries[1]', [{ ...good, entries: [entriesFrom(0, 64), entriesFrom(0, 63)] }]],
    ['plan[0].entries[1]', [{ ...good, entries: [entriesFrom(0, 64), entriesFrom(50, 114)] }]],
    ['plan[0].entries[0]', [{ ...good, entries: [entriesFrom(0, 64).reverse(), entriesFrom(0, 64)] }]],
    ['plan[0].entries[1][0]', [{ ...good, entries: [entriesFrom(0, 64), entriesFrom(1, 65)] }]],
    ['plan[0].k.format', [{ ...good, k: { ...good.k, format: { kind: 'vector' } as never } }]],
    ['plan[0].k.rows', [{ ...good, k: { ...good.k, rows: draw(64 * 8 - 1) } }]],
    ['plan[0].v.norms', [{ ...good, v: { format: directions, rows: good.v.rows } }]],
    ['plan[0].v.norms[1]', [{ ...good, v: { ...good.v, norms: [draw(64), draw(63)] } }]],
    ['plan[0].k.bases', [{ ...good, k: { ...good.k, bases: [good.k.bases![0]!] } }]],
    [
      'plan[0].k.bases[0].values',
      [{ ...good, k: { ...good.k, bases: good.k.bases!.map(b => ({ ...b, values: draw(9) })) } }],
    ],
    ['plan[0].k.format.rank', [{ ...good, k: { ...good.k, format: { ...projected, rank: 4 }, rows: draw(64 * 4) } }]],
  ])('refuses bad %s', (field, items) => {
    const { sequence, model } = open(100);
    const before = { ...cache.stats(), peak: 0 };
    expect(() => sequence.prepareJoin(items)).toThrow(expect.objectContaining({ code: 'invalid_request', field }));
    expect({ ...cache.stats(), peak: 0 }).toEqual(before);
    compare(cache, sequence, model);
  });

  test('entries of different shifts are not the same tokens', () => {
    const { sequence } = open(100);
    sequence.shift(5, 10, 20);
    sequence.prepareJoin([good]).discard();
    sequence.keep(0, 0, [
      [0, 10],
      [20, 100],
    ]);
    expect(() => sequence.prepareJoin([good])).toThrow(
      expect.objectContaining({ code: 'invalid_request', field: 'plan[0].entries[1][10]' }),
    );
  });
});
