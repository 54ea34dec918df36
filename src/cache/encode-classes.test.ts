import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { KvCache as Cache } from './cache.ts';
import { KvCache } from './cache.ts';
import type { ScalarBits, ScalarFormat } from './format.ts';
import type { CacheSequence } from './sequence.ts';
import { PlainKernels, PlainMemory } from './testing.ts';
import { openBackend } from './testing-backends.ts';
import { checkInvariants } from './testing-invariants.ts';
import { appendRows, attend, compare, type Entry, type Model, numbers } from './testing-model.ts';
import type { CacheShape, EncodeItem, PageOptions } from './types.ts';

/** Encoding of single entries: classes of tokens. */

const shape: CacheShape = { slots: 1, kvHeads: 2, headDim: 16, rotary: 16 };
const scalar = (bits: ScalarBits, side = false): ScalarFormat => ({
  kind: 'scalar',
  parts: [{ bits, along: 'channel', group: 8, ...(side && { side }) }],
});
const factors = {
  key: 'factors',
  values: Float32Array.from({ length: 16 }, (_, c) => 1 + (c % 5) / 8),
};
const random = numbers(11);

let cache: Cache;
let base = 0;
let backend: Awaited<ReturnType<typeof openBackend>>;

beforeAll(async () => {
  backend = await openBackend('wasm');
});
afterAll(() => backend.kernels.dispose());

function open(pages: Partial<PageOptions> = {}, { memory, kernels } = backend, limit = 8 << 20) {
  base = memory.held;
  cache = new KvCache({ memory, kernels, shape, limit });
  const sequence = cache.create({ owner: 'me', pages: { formatK: 'f32', formatV: 'f32', ...pages } });
  return { sequence, model: [[], []] as Model };
}

afterEach(() => {
  cache?.dispose();
  expect(cache.memory.held).toBe(base);
});

const list = (numbers: readonly number[]) => Uint32Array.from(numbers);
const upTo = (n: number) => Array.from({ length: n }, (_, i) => i);

/** The model after classes of one view were packed before entry `at`. */
function packed(
  entries: readonly Entry[],
  at: number,
  classes: readonly (readonly number[])[],
  allowed: number,
): Entry[] {
  const taken = new Set(classes.flat());
  const recoded = (i: number): Entry => {
    const { codes, ...entry } = entries[i]!;
    const { k, v } = codes!;
    return {
      ...entry,
      k: Float64Array.from(k),
      v: Float64Array.from(v),
      codes: null,
      allowed: { k: allowed, v: allowed },
    };
  };
  const left = (from: number, to: number) => entries.slice(from, to).filter((_, i) => !taken.has(from + i));
  return [...left(0, at), ...classes.flat().map(recoded), ...left(at, entries.length)];
}

function columns(sequence: CacheSequence, model: Model, head: number, name: string): void {
  sequence.setColumn(
    0,
    head,
    name,
    Float32Array.from(model[head]!, (entry, i) => (entry.columns[name] = Math.fround(1 + i / 7))),
  );
}

describe.each([1, 2, 63, 64, 65, 150])('%i rows in two classes', rows => {
  test('pages of their own before what is left; bytes are the allocator’s; attention sees the same', () => {
    const { sequence, model } = open({ columns: ['bias', 'score'] });
    appendRows(cache, sequence, model, rows, random);
    columns(sequence, model, 1, 'bias');
    columns(sequence, model, 1, 'score');
    compare(cache, sequence, model);
    const [low, high] = [upTo(rows).filter(i => i % 3 === 1), upTo(rows).filter(i => i % 5 === 0 && i % 3 !== 1)];
    const common = { slot: 0, head: 1, sharedK: factors } as const;
    const plan: EncodeItem[] = [
      { ...common, entries: list(low), k: scalar(4, true), v: scalar(4), without: ['score'] },
      { ...common, entries: list(high), k: scalar(8, true), v: scalar(8) },
    ];
    sequence.prepareEncode(plan).discard();
    compare(cache, sequence, model);
    sequence.prepareEncode(plan).apply();
    // The first of them is entry 0 or 1, in the first page.
    model[1] = packed(model[1]!, 0, [low, high], 0.3);
    for (const entry of model[1]!.slice(0, low.length)) entry.columns.score = 0;
    compare(cache, sequence, model);
    checkInvariants(cache, [sequence]);
    const pages = (entries: readonly number[]) => Math.ceil(entries.length / 64);
    // Codes of 16 x 64 a plane, 2 x 2 x 64 halves of parameters, a header that names the factors.
    const bytes = (bits: number) => Math.ceil((2 * (128 * bits + 512)) / 64) * 64 + 64;
    const { encoded, shared } = sequence.stats().bytes;
    expect(encoded).toBe(pages(low) * bytes(4) + pages(high) * bytes(8));
    expect(shared).toBe(rows > 0 ? 64 + 64 : 0);
    const q = Float32Array.from({ length: 32 }, random);
    const { actual, expected } = attend(cache, sequence, model, 0, 1, { positions: [rows], group: 2, window: 0, q });
    for (const [i, x] of expected.entries()) expect(Math.abs(actual[i]! - x)).toBeLessThan(2e-3);

    // The sequence goes on: rows, a fork, a cut, a second class out of what is left.
    appendRows(cache, sequence, model, 70, random);
    compare(cache, sequence, model);
    const fork = sequence.fork();
    const first = low.length + high.length;
    const more = upTo(model[1]!.length)
      .slice(first)
      .filter(i => i % 2 === 0);
    const before = model[1]!;
    sequence.prepareEncode([{ ...common, entries: list(more), k: scalar(4, true), v: scalar(4) }]).apply();
    if (more.length > 0) model[1] = packed(before, Math.min(first, before.length), [more], 0.3);
    compare(cache, sequence, model);
    compare(cache, fork, [model[0]!, before]);
    checkInvariants(cache, [sequence, fork]);
    fork.free();
    const cut = Math.floor(rows / 2);
    sequence.truncate(cut);
    for (const [view, entries] of model.entries()) model[view] = entries.filter(entry => entry.stored < cut);
    appendRows(cache, sequence, model, 5, random);
    compare(cache, sequence, model);
    checkInvariants(cache, [sequence]);
  });
});

test('the pages come before the page of the first entry, ranges of the same plan where they stood', () => {
  const { sequence, model } = open();
  appendRows(cache, sequence, model, 256, random);
  compare(cache, sequence, model);
  const single = [70, 71, 200, 255];
  sequence
    .prepareEncode([
      { slot: 0, head: 0, entries: list(single), k: scalar(8), v: scalar(8) },
      { slot: 0, head: 0, from: 10, to: 20, k: scalar(8), v: scalar(8) },
    ])
    .apply();
  model[0] = packed(packed(model[0]!, 10, [upTo(20).slice(10)], 0.05), 64, [single], 0.05);
  compare(cache, sequence, model);
  checkInvariants(cache, [sequence]);
});

test('a range that reaches over the place of the classes stays where it stood', () => {
  const { sequence, model } = open();
  appendRows(cache, sequence, model, 192, random);
  compare(cache, sequence, model);
  sequence
    .prepareEncode([
      { slot: 0, head: 0, entries: list([100, 130]), k: scalar(8), v: scalar(8) },
      { slot: 0, head: 0, from: 40, to: 90, k: scalar(8), v: scalar(8) },
    ])
    .apply();
  const range = packed(model[0]!, 40, [upTo(90).slice(40)], 0.05);
  model[0] = packed(range, 90, [[100, 130]], 0.05).map((entry, i) =>
    i >= 40 && i < 90 ? { ...entry, codes: null, allowed: { k: 0.05, v: 0.05 } } : entry,
  );
  compare(cache, sequence, model);
  checkInvariants(cache, [sequence]);
});

test('positions go with their rows where the rows of two pages fit one another', () => {
  const { sequence, model } = open();
  appendRows(cache, sequence, model, 128, random);
  compare(cache, sequence, model);
  // Rows 0..9 of the first page, then 10.. of the second.
  const taken = [...upTo(10), ...upTo(54).map(i => 74 + i)];
  sequence.prepareEncode([{ slot: 0, head: 0, entries: list(taken), k: scalar(8), v: scalar(8) }]).apply();
  model[0] = packed(model[0]!, 0, [taken], 0.05);
  compare(cache, sequence, model);
  checkInvariants(cache, [sequence]);
});

test.each([2, 3, 4, 8] as const)('rows of %i bits a token do not change when they are packed again', bits => {
  const { sequence, model } = open();
  appendRows(cache, sequence, model, 200, random);
  const both = { k: scalar(bits, true), v: scalar(bits), sharedK: factors };
  sequence.prepareEncode([{ slot: 0, head: 0, entries: list(upTo(192)), ...both }]).apply();
  const before = sequence.read(0, 0);
  const again = upTo(192).filter(i => i % 3 !== 0);
  const held = sequence.stats().bytes.encoded;
  sequence.keep(0, 0, Uint32Array.from([...again, ...upTo(8).map(i => 192 + i)].flatMap(i => [i, i + 1])));
  expect(sequence.stats().bytes.encoded).toBe(held);
  sequence.prepareEncode([{ slot: 0, head: 0, entries: list(upTo(again.length)), ...both, again: true }]).apply();
  expect(sequence.stats().bytes.encoded).toBe((held * 2) / 3);
  const after = sequence.read(0, 0);
  for (const plane of ['k', 'v'] as const)
    for (const [i, entry] of again.entries())
      expect(after[plane].subarray(i * 16, i * 16 + 16)).toEqual(before[plane].subarray(entry * 16, entry * 16 + 16));
  checkInvariants(cache, [sequence]);
});

describe('refuses', () => {
  const both = { slot: 0, head: 0, k: 'int8', v: 'int8' } as const;
  test.each<[string, readonly EncodeItem[]]>([
    ['plan[0].entries', [{ ...both, entries: list([3, 3]) }]],
    ['plan[0].entries', [{ ...both, entries: list([4, 3]) }]],
    ['plan[0].entries', [{ ...both, entries: list([100]) }]],
    ['plan[0].v', [{ slot: 0, head: 0, k: 'int8', entries: list([3]) }]],
    [
      'plan[1].entries',
      [
        { ...both, entries: list([3, 5]) },
        { ...both, entries: list([5]) },
      ],
    ],
    [
      'plan[1].entries',
      [
        { ...both, from: 0, to: 6 },
        { ...both, entries: list([5]) },
      ],
    ],
  ])('%s', (field, items) => {
    const { sequence, model } = open();
    appendRows(cache, sequence, model, 100, random);
    compare(cache, sequence, model);
    const held = cache.stats().held;
    expect(() => sequence.prepareEncode(items)).toThrow(expect.objectContaining({ code: 'invalid_request', field }));
    expect(cache.stats().held).toBe(held);
    compare(cache, sequence, model);
  });

  test('rows that are encoded, unless again', () => {
    const { sequence, model } = open();
    appendRows(cache, sequence, model, 100, random);
    const item: EncodeItem = { ...both, k: scalar(4), v: scalar(4), entries: list([0, 1]) };
    sequence.prepareEncode([item]).apply();
    expect(() => sequence.prepareEncode([item])).toThrow(expect.objectContaining({ field: 'plan[0].k' }));
    sequence.prepareEncode([{ ...item, again: true }]).apply();
    sequence.prepareEncode([{ ...both, entries: list([]) }]).apply();
    expect(sequence.entries(0, 0)).toBe(100);
  });
});

test('two classes where there is room for one: nothing has changed', () => {
  const memory = new PlainMemory(16 << 20);
  const { sequence, model } = open({}, { memory, kernels: new PlainKernels(memory) } as unknown as typeof backend);
  appendRows(cache, sequence, model, 128, random);
  compare(cache, sequence, model);
  const item = (entries: number[]): EncodeItem => ({ slot: 0, head: 0, entries: list(entries), k: 'f16', v: 'int8' });
  const plan = [item(upTo(128).filter(i => i % 2 === 0)), item(upTo(128).filter(i => i % 2 === 1))];
  const held = cache.stats().held;
  let refused = 0;
  for (let allowance = 0; allowance < 12; allowance++) {
    memory.allowance = allowance;
    try {
      sequence.prepareEncode(plan).discard();
    } catch (error) {
      expect((error as { code: string }).code).toBe('memory_limit');
      refused++;
    }
    memory.allowance = Number.POSITIVE_INFINITY;
    expect(cache.stats().held).toBe(held);
    compare(cache, sequence, model);
    checkInvariants(cache, [sequence]);
  }
  expect(refused).toBeGreaterThan(3);
  expect(refused).toBeLessThan(12);
});
