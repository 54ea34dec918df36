import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Arena } from '../backend/cpu/arena.ts';
import { createKernels } from '../backend/cpu/kernels.ts';
import type { Kernels, Memory } from '../backend/types.ts';
import { KvasirError } from '../errors.ts';
import { KvCache } from './cache.ts';
import type { CacheSequence } from './sequence.ts';
import { PlainKernels, PlainMemory } from './testing.ts';
import { drawExact, encodeSome, joinSome } from './testing-actions.ts';
import { checkInvariants } from './testing-invariants.ts';
import { mapSome } from './testing-map-actions.ts';
import { appendRows, attend, compare, copyModel, fillSlot, type Model, numbers, positionOf } from './testing-model.ts';
import { dropSome, mergeSome } from './testing-row-actions.ts';
import { type CacheShape, FORMAT_NAMES, type KeepItem, type PageOptions } from './types.ts';

interface Living {
  readonly sequence: CacheSequence;
  model: Model;
  /** Rows that must still fit, whatever the limit. */
  promised: number;
}

interface World {
  readonly cache: KvCache;
  readonly memory: Memory;
  readonly living: Living[];
  readonly baseHeld: number;
  readonly baseMemory: number;
  /** Entries encoded and joined. */
  encoded: number;
  joined: number;
}

const columns = fc.constantFrom([], ['bias'], ['score', 'bias']);
const format = fc.constantFrom(...FORMAT_NAMES);
const span = fc.constantFrom(
  undefined,
  undefined,
  { slots: 2, kvHeads: 1 },
  { slots: 1, kvHeads: 2 },
  { slots: 2, kvHeads: 2 },
);
const pages: fc.Arbitrary<PageOptions> = fc
  .record({ formatK: format, formatV: format, columns, span })
  .map(({ span, ...rest }) => (span ? { ...rest, span } : rest));

const seed = fc.integer({ min: 1, max: 2 ** 31 - 1 });
const which = fc.nat(7);
const rows = fc.oneof(fc.constantFrom(1, 1, 1, 63, 64, 65), fc.integer({ min: 1, max: 130 }));
const op = fc.oneof(
  { weight: 6, arbitrary: fc.record({ op: fc.constant('append' as const), which, rows, seed }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('jump' as const), which, rows, seed, by: fc.nat(200_000) }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('layers' as const), which, rows, seed }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('slots' as const), which, rows, seed }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('probe' as const), which, rows, seed }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constant('fork' as const), which }) },
  {
    weight: 5,
    arbitrary: fc.record({
      op: fc.constant('keep' as const),
      which,
      seed,
      share: fc.constantFrom(0, 0.02, 0.3, 0.6, 0.97),
      joint: fc.boolean(),
      threshold: fc.constantFrom(1, 1, 0.5, 0),
      discard: fc.constantFrom(false, false, false, true),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      op: fc.constant('truncate' as const),
      which,
      share: fc.double({ min: 0, max: 1.1, noNaN: true }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      op: fc.constant('shift' as const),
      which,
      delta: fc.integer({ min: -100, max: 100 }),
      from: fc.double({ min: 0, max: 1, noNaN: true }),
      toEnd: fc.boolean(),
    }),
  },
  { weight: 4, arbitrary: fc.record({ op: fc.constant('encode' as const), which, seed }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('join' as const), which, seed }) },
  { weight: 4, arbitrary: fc.record({ op: fc.constant('drop' as const), which, seed }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('merge' as const), which, seed }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('map' as const), which, seed }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('column' as const), which, seed }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('state' as const), which, size: fc.nat(500) }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('reserve' as const), which, tokens: fc.nat(200) }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('free' as const), which }) },
);
type Op = typeof op extends fc.Arbitrary<infer T> ? T : never;

function createSequence(world: World, pages: PageOptions): void {
  const { slots, kvHeads } = world.cache.shape;
  const sequence = world.cache.create({ owner: `owner${world.living.length % 2}`, pages });
  world.living.push({ sequence, model: Array.from({ length: slots * kvHeads }, () => []), promised: 0 });
}

/** Carries out one step on cache and model. What may fail for lack of room leaves both as they were. */
function step(world: World, living: Living, op: Op): void {
  const { cache } = world;
  const { sequence, model } = living;
  const { slots, kvHeads } = cache.shape;
  const end = sequence.position;
  switch (op.op) {
    case 'append': {
      const sure = op.rows <= living.promised;
      try {
        appendRows(cache, sequence, model, op.rows, numbers(op.seed));
      } catch (error) {
        if (sure && (error as KvasirError).code === 'kv_cache_full')
          throw new Error('A promised append failed.', { cause: error });
        throw error;
      }
      living.promised = Math.max(0, living.promised - op.rows);
      break;
    }
    case 'jump': {
      const random = numbers(op.seed);
      let position = end + op.by;
      const positions = Array.from({ length: op.rows }, () => {
        position += random() > 0.9 ? Math.floor(Math.abs(random()) * 70_000) : 1;
        return position;
      });
      appendRows(cache, sequence, model, op.rows, random, positions);
      living.promised = 0;
      break;
    }
    case 'layers': {
      // Layer-major, each group of slots in tiles; the room is made at once, so that it fails for all or none.
      const random = numbers(op.seed);
      sequence.prepareAppend(op.rows);
      for (let slot = slots - 1; slot >= 0; slot--) {
        for (let done = 0; done < op.rows; done += 40) {
          const count = Math.min(40, op.rows - done);
          const from = sequence.nextPosition(slot);
          const added = fillSlot(
            cache,
            sequence,
            slot,
            Array.from({ length: count }, (_, i) => from + i),
            random,
          );
          for (let head = 0; head < kvHeads; head++) model[slot * kvHeads + head]!.push(...added[head]!);
        }
      }
      living.promised = Math.max(0, living.promised - op.rows);
      break;
    }
    case 'slots': {
      // Some slots only, so that they come to lie at different lengths.
      const { isBorder } = sequence.content.spans;
      const from = [0, 1, 2].filter(slot => isBorder[slot]).at(-(op.seed % 2))!;
      const to = [...isBorder.keys()].find(slot => slot > from && isBorder[slot])!;
      sequence.prepareAppend(op.rows, undefined, from, to);
      for (let slot = from; slot < to; slot++) {
        const next = sequence.nextPosition(slot);
        const positions = Array.from({ length: op.rows }, (_, i) => next + i);
        const added = fillSlot(cache, sequence, slot, positions, numbers(op.seed + slot));
        for (let head = 0; head < kvHeads; head++) model[slot * kvHeads + head]!.push(...added[head]!);
      }
      living.promised = Math.max(0, living.promised - op.rows);
      break;
    }
    case 'probe': {
      sequence.prepareAppend(op.rows);
      if (op.seed % 2 === 0) {
        sequence.rollback();
        break;
      }
      for (let slot = 0; slot < slots; slot++) {
        const from = sequence.nextPosition(slot);
        const positions = Array.from({ length: op.rows }, (_, i) => from + i);
        fillSlot(cache, sequence, slot, positions, numbers(op.seed));
      }
      sequence.undoAppend();
      expect(sequence.position).toBe(end);
      break;
    }
    case 'fork': {
      if (world.living.length > 4) break;
      const child = sequence.fork('child');
      world.living.push({ sequence: child, model: copyModel(model), promised: 0 });
      break;
    }
    case 'keep': {
      const random = numbers(op.seed);
      const plan: KeepItem[] = [];
      const kept = model.map(() => null as boolean[] | null);
      const mask = (n: number) => Array.from({ length: n }, () => Math.abs(random()) < op.share);
      let shared: boolean[] | null = null;
      for (let view = 0; view < model.length; view++) {
        const n = model[view]!.length;
        if (!op.joint && random() > 0.4) continue;
        if (!op.joint || !shared || shared.length !== n) shared = mask(n);
        kept[view] = shared;
        const flat: number[] = [];
        for (const [i, keep] of shared.entries()) if (keep) flat.push(i, i + 1);
        plan.push({ slot: Math.floor(view / kvHeads), head: view % kvHeads, ranges: Uint32Array.from(flat) });
      }
      const prepared = sequence.prepareKeep(plan, { threshold: op.threshold });
      if (op.discard) {
        prepared.discard();
        break;
      }
      prepared.apply();
      for (const [view, keep] of kept.entries()) if (keep) model[view] = model[view]!.filter((_, i) => keep[i]);
      break;
    }
    case 'truncate': {
      const position = positionNear(model, op.share, end);
      sequence.truncate(position);
      living.model = model.map(entries => entries.filter(entry => positionOf(entry) < position));
      living.promised = 0;
      expect(sequence.position).toBe(Math.min(end, position));
      break;
    }
    case 'shift': {
      const from = positionNear(model, op.from, end);
      const to = op.toEnd ? Number.POSITIVE_INFINITY : Math.min(end - 1, from + 90);
      try {
        sequence.shift(op.delta, from, to);
      } catch (error) {
        if (!(error instanceof KvasirError) || error.code !== 'invalid_request') throw error;
        break;
      }
      for (const entry of model.flat()) {
        const position = positionOf(entry);
        if (position >= from && position < to) entry.shift += op.delta;
      }
      living.promised = 0;
      if (model.flat().some(entry => positionOf(entry) >= sequence.position))
        throw new Error('An entry lies in the future.');
      break;
    }
    case 'encode':
      world.encoded += Math.max(0, encodeSome(sequence, model, op.seed, drawExact));
      break;
    case 'join':
      world.joined += joinSome(cache, sequence, model, op.seed);
      break;
    case 'drop':
      dropSome(sequence, model, op.seed);
      break;
    case 'merge':
      mergeSome(sequence, model, op.seed);
      break;
    case 'map':
      mapSome(sequence, model, op.seed);
      break;
    case 'column': {
      const view = op.seed % model.length;
      const name = sequence.options.pages.columns?.[0];
      if (!name) break;
      const random = numbers(op.seed);
      const values = Float32Array.from(model[view]!, () => random());
      sequence.setColumn(Math.floor(view / kvHeads), view % kvHeads, name, values);
      for (const [i, entry] of model[view]!.entries()) entry.columns[name] = values[i]!;
      break;
    }
    case 'state':
      sequence.setState('scores', new Float32Array(op.size));
      expect(sequence.state<Float32Array>('scores')!.length).toBe(op.size);
      break;
    case 'reserve':
      sequence.reserve(op.tokens);
      living.promised = op.tokens;
      break;
    case 'free':
      if (world.living.length === 1) break;
      sequence.free();
      world.living.splice(world.living.indexOf(living), 1);
      break;
  }
}

/** The position of some entry, so that cuts fall where entries are however far apart they lie. */
function positionNear(model: Model, share: number, end: number): number {
  const entries = model.flat();
  const entry = entries[Math.floor(share * entries.length)];
  return entry ? positionOf(entry) : end + Math.floor(share * 10);
}

function runWorld(
  memory: Memory,
  kernels: Kernels,
  shape: CacheShape,
  first: PageOptions,
  second: PageOptions,
  ops: readonly Op[],
  limit: number,
  starve: readonly (number | null)[] = [],
): { refused: number; encoded: number; joined: number } {
  const baseMemory = memory.held;
  const cache = new KvCache({ memory, kernels, shape, limit });
  const world: World = { cache, memory, living: [], baseHeld: cache.stats().held, baseMemory, encoded: 0, joined: 0 };
  let refused = 0;
  createSequence(world, first);
  createSequence(world, second);
  for (const [n, op] of ops.entries()) {
    const living = world.living[op.which % world.living.length]!;
    const before = copyModel(living.model);
    const stats = { ...cache.stats(), peak: 0 };
    try {
      if (memory instanceof PlainMemory) memory.allowance = starve[n] ?? Number.POSITIVE_INFINITY;
      step(world, living, op);
    } catch (error) {
      if (!(error instanceof KvasirError) || (error.code !== 'kv_cache_full' && error.code !== 'memory_limit'))
        throw error;
      refused++;
      living.model = before;
      expect({ ...cache.stats(), peak: 0 }, `accounts after a refused ${op.op}`).toEqual(stats);
    }
    if (memory instanceof PlainMemory) memory.allowance = Number.POSITIVE_INFINITY;
    const sequences = world.living.map(({ sequence }) => sequence);
    expect(memory.held - baseMemory, `bytes after ${op.op}`).toBe(checkInvariants(cache, sequences));
    if (world.living.includes(living)) compare(cache, living.sequence, living.model);
  }
  for (const { sequence, model } of world.living) {
    compare(cache, sequence, model);
    checkAttention(cache, sequence, model);
  }
  for (const { sequence } of world.living) sequence.free();
  expect(cache.stats()).toMatchObject({ held: world.baseHeld, reserved: 0, pages: 0, sequences: 0 });
  expect([...cache.stats().bySlot].every(bytes => bytes === 0)).toBe(true);
  cache.dispose();
  expect(memory.held).toBe(baseMemory);
  expect(cache.budget.held).toBe(0);
  return { refused, encoded: world.encoded, joined: world.joined };
}

function checkAttention(cache: KvCache, sequence: CacheSequence, model: Model): void {
  const { slots, kvHeads, headDim } = cache.shape;
  const random = numbers(77);
  for (let view = 0; view < slots * kvHeads; view++) {
    const end = sequence.position;
    const positions = [end, Math.floor(end / 2)];
    const group = 1 + (view % 3);
    const window = view % 2 === 0 ? 0 : 100;
    const q = Float32Array.from({ length: positions.length * group * headDim }, random);
    const slot = Math.floor(view / kvHeads);
    const { actual, expected } = attend(cache, sequence, model, slot, view % kvHeads, { positions, group, window, q });
    // int8 kernels also encode the query.
    const allowed = hasInt8(cache, sequence, view) ? 0.02 : 2e-3;
    for (let i = 0; i < actual.length; i++) {
      const off = Math.abs(actual[i]! - expected[i]!);
      if (!(off <= allowed)) throw new Error(`View ${view}: attention ${actual[i]}, not ${expected[i]}`);
    }
  }
}

function hasInt8(cache: KvCache, { content }: CacheSequence, view: number): boolean {
  const { layouts, pages } = cache.storage;
  for (let i = 0; i < content.refs[view]!; i++) {
    const { formatK, formatV } = layouts.get(pages.layout[content.pageAt(view, i)]!);
    if (formatK === 'int8' || formatV === 'int8') return true;
  }
  return false;
}

/** Begins where every view holds the same entries, so that each run joins some: later on few have any in common. */
const ops = fc
  .tuple(seed, seed, fc.array(op, { minLength: 4, maxLength: 24 }))
  .map(([rows, join, list]): Op[] => [
    { op: 'append', which: 0, rows: 65, seed: rows },
    { op: 'join', which: 0, seed: join },
    ...list,
  ]);
const shape: CacheShape = { slots: 3, kvHeads: 2, headDim: 8, rotary: 6 };

describe('random verbs agree with plain arrays', () => {
  const settings = { numRuns: Number(process.env.KVASIR_RUNS ?? 30), endOnFailure: true };

  test('on the reference executor', () => {
    let encoded = 0;
    let joined = 0;
    fc.assert(
      fc.property(pages, pages, ops, (first, second, ops) => {
        const memory = new PlainMemory(16 << 20);
        const done = runWorld(memory, new PlainKernels(memory), shape, first, second, ops, 8 << 20);
        encoded += done.encoded;
        joined += done.joined;
      }),
      settings,
    );
    expect(encoded).toBeGreaterThan(100);
    expect(joined).toBeGreaterThan(100);
  });

  test('with a memory that runs out at any allocation', () => {
    let refused = 0;
    const starve = fc.array(fc.option(fc.nat(14), { freq: 2 }), { minLength: 24 });
    fc.assert(
      fc.property(pages, pages, ops, starve, (first, second, ops, starve) => {
        const memory = new PlainMemory(16 << 20);
        refused += runWorld(memory, new PlainKernels(memory), shape, first, second, ops, 8 << 20, starve).refused;
      }),
      settings,
    );
    expect(refused).toBeGreaterThan(0);
  });

  test('with a limit that refuses some of them', () => {
    let refused = 0;
    fc.assert(
      fc.property(pages, pages, ops, fc.integer({ min: 30_000, max: 150_000 }), (first, second, ops, limit) => {
        const memory = new PlainMemory(16 << 20);
        refused += runWorld(memory, new PlainKernels(memory), shape, first, second, ops, limit).refused;
      }),
      settings,
    );
    expect(refused).toBeGreaterThan(0);
  });

  describe('on the real kernels', () => {
    let kernels: Awaited<ReturnType<typeof createKernels>>;
    beforeAll(async () => {
      kernels = await createKernels({ memory: new Arena({ limit: 64 << 20 }), threads: 1 });
    });
    afterAll(() => kernels.dispose());

    test('the same', () => {
      fc.assert(
        fc.property(pages, pages, ops, (first, second, ops) => {
          const known = ops.filter(({ op }) => op !== 'join');
          runWorld(kernels.memory, kernels, { ...shape, rotary: 8 }, first, second, known, 8 << 20);
        }),
        settings,
      );
    });
  });
});
