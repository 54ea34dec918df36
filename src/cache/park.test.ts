import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Kernels, Memory } from '../backend/types.ts';
import { KvasirError } from '../errors.ts';
import { KvCache } from './cache.ts';
import { FilePlace } from './park.node.ts';
import { MemoryPlace, type ParkPlace } from './park-place.ts';
import type { CacheSequence } from './sequence.ts';
import { PlainMemory } from './testing.ts';
import { BACKENDS, openBackend } from './testing-backends.ts';
import { checkInvariants } from './testing-invariants.ts';
import {
  appendRows,
  attend,
  compare,
  copyModel,
  type Entry,
  type Model,
  numbers,
  positionOf,
} from './testing-model.ts';
import type { CacheShape, FormatName, PageOptions, ParkItem } from './types.ts';

const shape: CacheShape = { slots: 2, kvHeads: 2, headDim: 8, rotary: 8 };

/** Memory whose reads or writes fail from a chosen one on. */
class BadPlace extends MemoryPlace {
  left = Number.POSITIVE_INFINITY;

  override write(bytes: Uint8Array): number {
    this.#count();
    return super.write(bytes);
  }

  override read(handle: number, into: Uint8Array): void {
    this.#count();
    super.read(handle, into);
  }

  #count(): void {
    if (this.left-- <= 0) throw new KvasirError('backend_failed', 'The disk is gone.', { field: 'park' });
  }
}

describe.each(BACKENDS)('park and fetch on %s kernels', backend => {
  let cache: KvCache;
  let memory: Memory;
  let kernels: Kernels;
  let base = 0;
  const random = numbers(3);
  const below = (n: number) => Math.floor(((random() + 1) / 2) * n);
  const pick = <T>(items: readonly T[], share: number) => items.filter(() => random() < 2 * share - 1);

  beforeEach(async () => {
    ({ memory, kernels } = await openBackend(backend));
    base = memory.held;
  });

  afterEach(async () => {
    if (memory instanceof PlainMemory) memory.allowance = Number.POSITIVE_INFINITY;
    cache.dispose();
    expect(memory.held).toBe(base);
    expect(cache.stats().parked).toBe(0);
    await kernels.dispose();
  });

  function open(format: FormatName = 'f32', more: Partial<PageOptions> = {}, parkFile?: ParkPlace) {
    cache = new KvCache({ memory, kernels, shape, limit: 64 << 20, ...(parkFile && { parkFile }) });
    const pages = { formatK: format, formatV: format, columns: ['score', 'bias'], ...more };
    const sequence = cache.create({ owner: 'me', pages });
    const model: Model = Array.from({ length: 4 }, () => []);
    return { sequence, model };
  }

  /** A view with parked units: entries at rest by unit, and those that never left. */
  interface Parked {
    units: Entry[][];
    rest: Entry[];
  }

  function setColumns(sequence: CacheSequence, model: Model) {
    for (const [view, entries] of model.entries()) {
      for (const name of ['score', 'bias']) {
        const values = Float32Array.from(entries, () => random());
        sequence.setColumn(view >> 1, view & 1, name, values);
        for (const [i, entry] of entries.entries()) entry.columns[name] = values[i]!;
      }
    }
  }

  /** Every entry from `first` on to one of `count` units, or to none. */
  function scatter(entries: number, first: number, count: number): Uint32Array[] {
    const units = Array.from({ length: count }, (): number[] => []);
    for (let entry = first; entry < entries; entry++) units[below(count + 1)]?.push(entry);
    return units.filter(unit => unit.length > 0).map(unit => Uint32Array.from(unit));
  }

  function item(view: number, units: readonly Uint32Array[], place: 'memory' | 'file' = 'memory'): ParkItem {
    return { slot: view >> 1, head: view & 1, units, place };
  }

  function parkModel(parked: Parked, units: readonly Uint32Array[], fetchedFirst = 0): void {
    const gone = new Set(units.flatMap(unit => [...unit]));
    for (const unit of units) parked.units.push([...unit].map(entry => parked.rest[entry - fetchedFirst]!));
    parked.rest = parked.rest.filter((_, i) => !gone.has(i + fetchedFirst));
  }

  /** The view must hold the fetched units in any order, then the rest; exactly, to the bit. */
  function check(sequence: CacheSequence, model: Model, view: number, { units, rest }: Parked, ids: readonly number[]) {
    const fetched = new Map(ids.flatMap(id => units[id]!).map(entry => [positionOf(entry), entry]));
    const order = [...sequence.positions(view >> 1, view & 1)].slice(0, fetched.size).map(at => fetched.get(at)!);
    expect(new Set(order).size).toBe(fetched.size);
    model[view] = [...order, ...rest];
    expect(sequence.fetchedEntries(view >> 1, view & 1)).toBe(fetched.size);
    compare(cache, sequence, model);
    const q = Float32Array.from({ length: 16 }, random);
    const queries = { positions: [sequence.position], group: 2, window: 0, q };
    const { actual, expected } = attend(cache, sequence, model, view >> 1, view & 1, queries);
    for (let i = 0; i < actual.length; i++) expect(Math.abs(actual[i]! - expected[i]!)).toBeLessThan(0.02);
    const index = sequence.units(view >> 1, view & 1);
    expect([...index.lengths]).toEqual(units.map(unit => unit.length));
    for (const [n, unit] of units.entries()) {
      for (let c = 0; c < shape.headDim; c++) {
        const mean = unit.reduce((sum, entry) => sum + entry.codes!.k[c]!, 0) / unit.length;
        expect(Math.abs(index.index[n * shape.headDim + c]! - mean)).toBeLessThan(1e-5);
      }
    }
  }

  function fetchAndCheck(
    sequence: CacheSequence,
    model: Model,
    view: number,
    parked: Parked,
    before: number[],
    ids: number[],
  ) {
    const { fetched } = sequence.stats();
    const rows = sequence.fetch(view >> 1, view & 1, Uint32Array.from(ids));
    const fresh = ids.filter(id => !before.includes(id)).reduce((sum, id) => sum + parked.units[id]!.length, 0);
    expect(rows).toBe(fresh);
    expect(sequence.stats().fetched - fetched).toBe(fresh * rowBytes(sequence, view));
    check(sequence, model, view, parked, ids);
  }

  /** Bytes of a row at rest. */
  function rowBytes(sequence: CacheSequence, view: number): number {
    const { formatK, formatV, columns } = sequence.options.overrides?.get(view >> 1) ?? sequence.options.pages;
    const width = (format: FormatName) => (format === 'f32' ? 32 : format === 'f16' ? 16 : 8 + 4);
    return width(formatK) + width(formatV) + 4 * (columns?.length ?? 0);
  }

  test.each(['f32', 'f16', 'int8'] as const)(
    '%s: units come and go bit for bit, columns and positions along',
    format => {
      const { sequence, model } = open(format);
      appendRows(cache, sequence, model, 300, random);
      setColumns(sequence, model);
      compare(cache, sequence, model);
      const { held } = sequence.stats();
      const parked: Parked[] = model.map(entries => ({ units: [], rest: entries }));
      const plan = [0, 1, 3].map(view => item(view, scatter(300, 4, 20)));
      sequence.preparePark(plan).discard();
      expect(cache.stats().parked).toBe(0);
      compare(cache, sequence, model);
      sequence.preparePark(plan).apply();
      for (const { slot, head, units } of plan) parkModel(parked[slot * 2 + head]!, units);
      for (const view of [0, 1, 3]) model[view] = parked[view]!.rest;
      for (const view of [0, 1, 3]) check(sequence, model, view, parked[view]!, []);
      expect(sequence.stats().held).toBeLessThan(held / 2);
      expect(sequence.stats().parked).toBe(cache.stats().parked);
      const rows = [0, 1, 3].flatMap(view => parked[view]!.units.flat()).length;
      expect(cache.stats().parked).toBeGreaterThan(rows * rowBytes(sequence, 0));

      const resident: number[][] = [[], [], [], []];
      for (let n = 0; n < 40; n++) {
        const view = [0, 1, 3][below(3)]!;
        const ids = pick([...parked[view]!.units.keys()], n % 7 === 0 ? 0 : 0.6).reverse();
        fetchAndCheck(sequence, model, view, parked[view]!, resident[view]!, ids);
        resident[view] = ids;
        checkInvariants(cache, [sequence]);
        if (n % 10 === 5) {
          appendRows(cache, sequence, model, 1 + below(70), random);
          compare(cache, sequence, model);
          for (const v of [0, 1, 3]) {
            parked[v]!.rest = model[v]!.slice(sequence.fetchedEntries(v >> 1, v & 1));
            check(sequence, model, v, parked[v]!, resident[v]!);
          }
        }
      }
      expect(cache.stats().fetched).toBe(sequence.stats().fetched);
      sequence.free();
      expect(cache.stats().parked).toBe(0);
    },
  );

  test('pages are filled with rows of several units, and used again', () => {
    const { sequence, model } = open('f16');
    appendRows(cache, sequence, model, 640, random);
    compare(cache, sequence, model);
    const units = Array.from({ length: 40 }, (_, n) => Uint32Array.from({ length: 16 }, (_, i) => n * 16 + i));
    sequence.preparePark([item(0, units)]).apply();
    const { pages } = cache.stats();
    for (let n = 0; n < 50; n++) {
      const ids = new Set(Array.from({ length: 8 }, () => below(40)));
      sequence.fetch(0, 0, Uint32Array.from(ids));
      expect(cache.stats().pages - pages).toBeLessThanOrEqual(3);
    }
    sequence.fetch(0, 0, new Uint32Array());
    expect(cache.stats().pages).toBe(pages);
    expect(sequence.entries(0, 0)).toBe(0);
    checkInvariants(cache, [sequence]);
  });

  test('a view with nothing but fetched rows: new rows get pages of their own', () => {
    const { sequence, model } = open();
    appendRows(cache, sequence, model, 70, random);
    compare(cache, sequence, model);
    const parked: Parked = { units: [], rest: model[2]! };
    const units = [Uint32Array.from({ length: 70 }, (_, i) => i)];
    sequence.preparePark([item(2, units)]).apply();
    parkModel(parked, units);
    fetchAndCheck(sequence, model, 2, parked, [], [0]);
    for (let n = 0; n < 3; n++) appendRows(cache, sequence, model, 1, random);
    compare(cache, sequence, model);
    parked.rest = model[2]!.slice(70);
    fetchAndCheck(sequence, model, 2, parked, [0], []);
    checkInvariants(cache, [sequence]);
  });

  test('fetching keeps the next append ready', () => {
    const { sequence, model } = open();
    appendRows(cache, sequence, model, 100, random);
    sequence.preparePark([item(1, scatter(90, 0, 4))]).apply();
    appendRows(cache, sequence, [[], [], [], []], 1, random);
    expect(sequence.content.ready[0]).toBeGreaterThan(0);
    sequence.fetch(0, 1, Uint32Array.of(1, 2));
    expect(sequence.content.ready[0]).toBeGreaterThan(0);
    sequence.fetch(0, 1, Uint32Array.of(3));
    const { positions } = sequence.read(0, 1);
    appendRows(cache, sequence, [[], [], [], []], 1, random);
    expect([...sequence.read(0, 1).positions]).toEqual([...positions, 101]);
    checkInvariants(cache, [sequence]);
  });

  test('forks share what is parked and fetch on their own; units parked later are their own', () => {
    const { sequence, model } = open('int8');
    appendRows(cache, sequence, model, 200, random);
    compare(cache, sequence, model);
    const units = scatter(200, 10, 12);
    const parked: Parked = { units: [], rest: model[0]! };
    sequence.preparePark([item(0, units)]).apply();
    parkModel(parked, units);
    const first = [0, 3, 5];
    fetchAndCheck(sequence, model, 0, parked, [], first);
    const { parked: bytes } = cache.stats();
    const child = sequence.fork('child');
    const childModel = copyModel(model);
    const childParked: Parked = {
      units: [...parked.units],
      rest: childModel[0]!.slice(model[0]!.length - parked.rest.length),
    };
    expect(cache.stats().parked).toBe(bytes);
    // Shared pages are not written: rows that come get other ones.
    fetchAndCheck(child, childModel, 0, childParked, first, [3, 7, 1]);
    fetchAndCheck(sequence, model, 0, parked, first, [5, 2]);
    checkInvariants(cache, [sequence, child]);
    check(child, childModel, 0, childParked, [3, 7, 1]);
    const more = [Uint32Array.of(1, 2, 3).map(n => n + parked.units[5]!.length + parked.units[2]!.length)];
    sequence.preparePark([item(0, more)]).apply();
    parkModel(parked, more, parked.units[5]!.length + parked.units[2]!.length);
    check(sequence, model, 0, parked, [5, 2]);
    fetchAndCheck(sequence, model, 0, parked, [5, 2], [parked.units.length - 1, 0]);
    expect(child.units(0, 0).count).toBe(childParked.units.length);
    expect(cache.stats().parked).toBeGreaterThan(bytes);
    sequence.free();
    check(child, childModel, 0, childParked, [3, 7, 1]);
    fetchAndCheck(child, childModel, 0, childParked, [3, 7, 1], [0, 1, 2]);
    checkInvariants(cache, [child]);
    child.free();
    expect(cache.stats().parked).toBe(0);
  });

  test('truncate cuts units, their means and what is resident of them; later units move up', () => {
    const { sequence, model } = open('f16');
    appendRows(cache, sequence, model, 200, random);
    compare(cache, sequence, model);
    const units = [...scatter(150, 10, 9), Uint32Array.from({ length: 20 }, (_, i) => 160 + i)];
    units.splice(4, 0, units.pop()!);
    const parked: Parked = { units: [], rest: model[3]! };
    sequence.preparePark([item(3, units)]).apply();
    parkModel(parked, units);
    fetchAndCheck(sequence, model, 3, parked, [], [4, 5, 6]);
    const child = sequence.fork();
    for (const position of [155, 80]) {
      sequence.truncate(position);
      for (const [view, entries] of model.entries()) model[view] = entries.filter(e => positionOf(e) < position);
      parked.units = parked.units
        .map(unit => unit.filter(e => positionOf(e) < position))
        .filter(unit => unit.length > 0);
      parked.rest = parked.rest.filter(e => positionOf(e) < position);
      expect(sequence.units(1, 1).count).toBe(9);
      check(sequence, model, 3, parked, [4, 5]);
    }
    // Units that were resident are still whole, however short.
    fetchAndCheck(sequence, model, 3, parked, [4, 5], [5, 0, 4]);
    appendRows(cache, sequence, model, 5, random);
    compare(cache, sequence, model);
    parked.rest = model[3]!.slice(sequence.fetchedEntries(1, 1));
    fetchAndCheck(sequence, model, 3, parked, [5, 0, 4], [1, 2, 3]);
    expect(child.units(1, 1).count).toBe(10);
    expect([...child.units(1, 1).lengths]).toEqual(units.map(unit => unit.length));
    sequence.truncate(0);
    expect(sequence.units(1, 1)).toMatchObject({ count: 0 });
    checkInvariants(cache, [sequence, child]);
    child.free();
    expect(cache.stats().parked).toBe(0);
  });

  test('a unit that has lost rows in the view comes again whole', () => {
    const { sequence, model } = open();
    appendRows(cache, sequence, model, 100, random);
    compare(cache, sequence, model);
    const units = [Uint32Array.of(3, 5, 9), Uint32Array.of(10, 11), Uint32Array.of(2, 80)];
    const parked: Parked = { units: [], rest: model[0]! };
    sequence.preparePark([item(0, units)]).apply();
    parkModel(parked, units);
    fetchAndCheck(sequence, model, 0, parked, [], [0, 1]);
    sequence.drop(0, 0, 1);
    expect(sequence.fetch(0, 0, Uint32Array.of(0, 1))).toBe(lost(model, units));
    check(sequence, model, 0, parked, [0, 1]);
    sequence.keep(0, 0, [[5, sequence.entries(0, 0)]]);
    check(sequence, model, 0, parked, []);
    fetchAndCheck(sequence, model, 0, parked, [], [2, 0]);
    checkInvariants(cache, [sequence]);
  });

  /** Length of the unit whose row stood second. */
  function lost(model: Model, units: readonly Uint32Array[]): number {
    const at = positionOf(model[0]![1]!);
    return units.find(unit => unit.includes(at))!.length;
  }

  test('positions far apart', () => {
    const { sequence, model } = open();
    const positions = Array.from({ length: 30 }, (_, i) => i * 20_000);
    appendRows(cache, sequence, model, 30, random, positions);
    compare(cache, sequence, model);
    const units = [Uint32Array.of(0, 1, 20, 29), Uint32Array.of(2, 3, 19), Uint32Array.of(10, 11, 12)];
    const parked: Parked = { units: [], rest: model[0]! };
    sequence.preparePark([item(0, units)]).apply();
    parkModel(parked, units);
    fetchAndCheck(sequence, model, 0, parked, [], [0, 2]);
    fetchAndCheck(sequence, model, 0, parked, [0, 2], [1, 2]);
    fetchAndCheck(sequence, model, 0, parked, [1, 2], [2, 1, 0]);
    checkInvariants(cache, [sequence]);
  });

  test('in a file, which is there while it holds rows', () => {
    const folder = mkdtempSync(join(tmpdir(), 'kvasir-test-'));
    try {
      const place = new FilePlace(folder);
      const { sequence, model } = open('int8', {}, place);
      appendRows(cache, sequence, model, 150, random);
      compare(cache, sequence, model);
      expect(readdirSync(folder)).toEqual([]);
      const parked: Parked = { units: [], rest: model[1]! };
      const units = scatter(150, 4, 9);
      sequence.preparePark([item(1, units, 'file')]).apply();
      parkModel(parked, units);
      expect(readdirSync(folder)).toHaveLength(1);
      expect(place.bytes).toBe(units.reduce((sum, unit) => sum + unit.length, 0) * rowBytes(sequence, 1));
      fetchAndCheck(sequence, model, 1, parked, [], [0, 4, 2]);
      fetchAndCheck(sequence, model, 1, parked, [0, 4, 2], [1, 2]);
      const { bytes } = place;
      sequence.preparePark([item(0, units, 'file')]).discard();
      sequence.preparePark([item(0, units, 'file')]).apply();
      expect(place.bytes).toBe(2 * bytes);
      const child = sequence.fork();
      sequence.free();
      expect(readdirSync(folder)).toHaveLength(1);
      child.free();
      expect(readdirSync(folder)).toEqual([]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test('refuses what cannot be parked or fetched', () => {
    const { sequence, model } = open();
    appendRows(cache, sequence, model, 20, random);
    compare(cache, sequence, model);
    const good = item(0, [Uint32Array.of(1, 2)]);
    const wrong: [ParkItem, string][] = [
      [item(1, [Uint32Array.of(1, 20)]), 'plan[1].units'],
      [item(1, [Uint32Array.of(2, 1)]), 'plan[1].units'],
      [item(1, [Uint32Array.of(1, 2), Uint32Array.of(2)]), 'plan[1].units'],
      [item(1, [new Uint32Array()]), 'plan[1].units'],
      [item(0, [Uint32Array.of(5)]), 'plan[1].head'],
      [item(9, [Uint32Array.of(5)]), 'slot'],
      [{ ...good, head: 1, place: 'tape' as 'file' }, 'plan[1].place'],
    ];
    for (const [bad, field] of wrong) {
      expect(() => sequence.preparePark([good, bad]), field).toThrow(
        expect.objectContaining({ code: 'invalid_request', field }),
      );
    }
    expect(() => sequence.preparePark([{ ...good, place: 'file' }])).toThrow(
      expect.objectContaining({ code: 'unsupported', field: 'plan[0].place' }),
    );
    expect(cache.stats().parked).toBe(0);
    const late = sequence.preparePark([good]);
    sequence.preparePark([good]).apply();
    expect(() => late.apply()).toThrow(expect.objectContaining({ field: 'plan' }));
    expect(() => sequence.fetch(0, 0, Uint32Array.of(1))).toThrow(expect.objectContaining({ field: 'units' }));
    expect(() => sequence.fetch(0, 0, Uint32Array.of(0, 0))).toThrow(expect.objectContaining({ field: 'units' }));
    expect(() => sequence.fetch(0, 1, Uint32Array.of(0))).toThrow(expect.objectContaining({ field: 'units' }));
    sequence.fetch(0, 0, Uint32Array.of(0));
    expect(() => sequence.preparePark([item(0, [Uint32Array.of(1)])])).toThrow(
      expect.objectContaining({ field: 'plan[0].units' }),
    );
    expect(() => sequence.shift(-1, 5, 9)).toThrow(expect.objectContaining({ code: 'invalid_request' }));
    expect(() => sequence.renumber(0)).toThrow(expect.objectContaining({ code: 'invalid_request' }));
    checkInvariants(cache, [sequence]);
    cache.dispose();

    const joint = open('f32', { span: { slots: 1, kvHeads: 2 } });
    appendRows(cache, joint.sequence, joint.model, 20, random);
    expect(() => joint.sequence.preparePark([good])).toThrow(expect.objectContaining({ field: 'plan[0].head' }));
    cache.dispose();

    const turned = open();
    appendRows(cache, turned.sequence, turned.model, 20, random);
    turned.sequence.shift(-1, 1, 5);
    expect(() => turned.sequence.preparePark([good])).toThrow(expect.objectContaining({ field: 'plan[0].units' }));
    cache.dispose();

    const unturned = open('f32', { keysUnrotated: true });
    appendRows(cache, unturned.sequence, unturned.model, 20, random);
    compare(cache, unturned.sequence, unturned.model);
    unturned.sequence.shift(-1, 1, 5);
    for (const entries of unturned.model) for (const entry of entries.slice(1, 5)) entry.shift = -1;
    unturned.sequence.preparePark([good]).apply();
    unturned.sequence.fetch(0, 0, Uint32Array.of(0));
    const back = unturned.model[0]!.splice(1, 2).map(e => ({ ...e, stored: e.stored - 1, shift: 0 }));
    unturned.model[0]!.unshift(...back);
    compare(cache, unturned.sequence, unturned.model);
  });

  test('a place that fails leaves everything as it was', () => {
    const place = new BadPlace();
    const { sequence, model } = open('f32', {}, place);
    appendRows(cache, sequence, model, 100, random);
    compare(cache, sequence, model);
    const units = scatter(100, 0, 5);
    place.left = 3;
    expect(() => sequence.preparePark([item(0, units, 'file')])).toThrow(
      expect.objectContaining({ code: 'backend_failed' }),
    );
    expect([place.count, cache.stats().parked]).toEqual([0, 0]);
    place.left = Number.POSITIVE_INFINITY;
    sequence.preparePark([item(0, units, 'file')]).apply();
    const parked: Parked = { units: [], rest: model[0]! };
    parkModel(parked, units);
    fetchAndCheck(sequence, model, 0, parked, [], [0, 1]);
    place.left = 1;
    const stats = { ...cache.stats(), peak: 0 };
    expect(() => sequence.fetch(0, 0, Uint32Array.of(1, 2, 3))).toThrow(
      expect.objectContaining({ code: 'backend_failed' }),
    );
    expect({ ...cache.stats(), peak: 0 }).toEqual(stats);
    check(sequence, model, 0, parked, [0, 1]);
    checkInvariants(cache, [sequence]);
    place.left = Number.POSITIVE_INFINITY;
    fetchAndCheck(sequence, model, 0, parked, [0, 1], [1, 2, 3]);
  });

  test('a full cache leaves the old rows resident and the promise whole', () => {
    const { sequence, model } = open();
    appendRows(cache, sequence, model, 400, random);
    compare(cache, sequence, model);
    const parked: Parked = { units: [], rest: model[0]! };
    const units = Array.from({ length: 6 }, (_, n) => Uint32Array.from({ length: 60 }, (_, i) => n * 60 + i));
    sequence.preparePark([item(0, units)]).apply();
    parkModel(parked, units);
    fetchAndCheck(sequence, model, 0, parked, [], [2]);
    sequence.reserve(100);
    const { reserved: promised } = cache.stats();
    const other = cache.create({ owner: 'other', pages: { formatK: 'f32', formatV: 'f32' } });
    for (let tokens = 2 ** 20, room = 0; tokens >= 1; tokens /= 2) {
      try {
        other.reserve(room + tokens);
        room += tokens;
      } catch {}
    }
    const stats = { ...cache.stats(), peak: 0 };
    expect(() => sequence.fetch(0, 0, Uint32Array.of(0, 1, 2, 3, 4))).toThrow(
      expect.objectContaining({ code: 'kv_cache_full' }),
    );
    expect({ ...cache.stats(), peak: 0 }).toEqual(stats);
    check(sequence, model, 0, parked, [2]);
    // Another unit of the same size takes the free rows and those of the one that goes.
    other.free();
    fetchAndCheck(sequence, model, 0, parked, [2], [3]);
    expect(cache.stats().reserved).toBe(promised);
    appendRows(cache, sequence, model, 100, random);
    checkInvariants(cache, [sequence]);
  });

  if (backend === 'plain') {
    test('a memory that runs out at any allocation leaves everything as it was', () => {
      const { sequence, model } = open();
      appendRows(cache, sequence, model, 200, random);
      compare(cache, sequence, model);
      const parked: Parked = { units: [], rest: model[0]! };
      const units = scatter(200, 0, 8);
      const alive = [sequence];
      const attempt = (run: () => void, least: number) => {
        const stats = { ...cache.stats(), peak: 0 };
        for (let allowance = 0; ; allowance++) {
          (memory as PlainMemory).allowance = allowance;
          try {
            run();
            (memory as PlainMemory).allowance = Number.POSITIVE_INFINITY;
            expect(allowance).toBeGreaterThanOrEqual(least);
            return;
          } catch (error) {
            expect(error).toMatchObject({ code: 'memory_limit' });
          }
          (memory as PlainMemory).allowance = Number.POSITIVE_INFINITY;
          expect({ ...cache.stats(), peak: 0 }).toEqual(stats);
          compare(cache, sequence, model);
          checkInvariants(cache, alive);
        }
      };
      attempt(() => sequence.preparePark([item(0, units)]).apply(), 8);
      parkModel(parked, units);
      check(sequence, model, 0, parked, []);
      attempt(() => sequence.fetch(0, 0, Uint32Array.of(0, 1, 2, 3, 4)), 4);
      check(sequence, model, 0, parked, [0, 1, 2, 3, 4]);
      const child = sequence.fork();
      alive.push(child);
      attempt(() => sequence.fetch(0, 0, Uint32Array.of(3, 4, 5, 6)), 2);
      check(sequence, model, 0, parked, [3, 4, 5, 6]);
      child.free();
    });
  }
});
