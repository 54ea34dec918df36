import { afterEach, describe, expect, it } from 'vitest';
import type { ScalarFormat } from '../../cache/format.ts';
import type { CacheSequence } from '../../cache/sequence.ts';
import type { FormatName, PageOptions } from '../../cache/types.ts';
import type { KvasirError } from '../../errors.ts';
import { symmetricEigen } from '../../methods/shared/eigen.ts';
import { plainProbabilities, plainSignal } from '../../methods/testing-signals.ts';
import type { AttentionSignal, Clusters, GramSignal, PrincipalSignal, SignalRequest } from '../../methods/types.ts';
import { askedRows } from './query-rows.ts';
import { World, type WorldOptions } from './testing.ts';
import type { QueryRows } from './types.ts';

/** Sums over rows of f32 probabilities, relative to 1 or to the value. */
const EXACT = 3e-5;
const INTEGER = 1e-3;

const seed = Math.floor(Math.random() * 2 ** 31);
let world: World;

async function withWorld(options: WorldOptions, test: () => void | Promise<void>): Promise<void> {
  world = await World.open(seed, options);
  await test();
}

afterEach(async () => {
  const before = world.kernels.memory.held;
  expect(before).toBeGreaterThan(0);
  await world.dispose();
  expect(world.kernels.memory.held).toBe(0);
});

function span(from: number, to: number): Int32Array {
  return Int32Array.from({ length: to - from }, (_, i) => from + i);
}

function close(actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number): void {
  expect(actual.length).toBe(expected.length);
  let worst = 0;
  for (let i = 0; i < expected.length; i++) {
    const error = Math.abs(actual[i]! - expected[i]!) / Math.max(1, Math.abs(expected[i]!));
    if (!(error <= worst)) worst = error;
  }
  expect(worst, `seed ${seed}`).toBeLessThan(tolerance);
}

/** The same but for a few rows that lie as far from two centroids as f32 can tell. */
function sameClusters(actual: Clusters, expected: Clusters): void {
  expect(actual.assignment.length).toBe(expected.assignment.length);
  const others = expected.assignment.filter((j, i) => actual.assignment[i] !== j).length;
  expect(others, `seed ${seed}`).toBeLessThanOrEqual(1 + actual.assignment.length / 500);
}

const REQUESTS: readonly AttentionSignal[] = [
  { signal: 'attention', rows: 8, reduce: 'sum' },
  { signal: 'attention', rows: 32, reduce: 'mean', drop: 32, pool: { kind: 'mean', width: 5 }, group: 'mean' },
  { signal: 'attention', rows: 32, reduce: 'mean', drop: 4, pool: { kind: 'max', width: 7 }, group: 'max' },
  { signal: 'attention', rows: 32, reduce: 'variance', pool: { kind: 'mean', width: 3, after: 'group' }, group: 'sum' },
  { signal: 'attention', rows: 'all', reduce: 'max', group: 'mean' },
  { signal: 'attention', rows: 'all', reduce: 'variance' },
  { signal: 'attention', rows: 'all', reduce: 'entropy', group: 'sum' },
  { signal: 'attention', rows: 1, reduce: 'variance' },
];

function checkAll(
  sequence: CacheSequence,
  queries: QueryRows,
  tolerance: number,
  shiftOf?: (entry: number) => number,
): void {
  for (let layer = 0; layer < world.config.layers; layer++) {
    const signal = world.sensor.answer({ sequence, layer, queries, hidden: null }, REQUESTS);
    const scene = world.scene(sequence, layer, queries, shiftOf);
    for (const request of REQUESTS) {
      const expected = plainSignal(scene, request);
      const actual = signal(request);
      expect(actual.length).toBe(expected.length);
      for (const [head, values] of expected.entries()) close(actual[head]!, values, tolerance);
    }
  }
}

/** What stands for a whole prompt: some of its last rows and some drawn from the others. */
const SHARES: readonly AttentionSignal[] = [
  { signal: 'attention', rows: { last: 0.05, sampled: 0.05 }, reduce: 'seen-mean', group: 'sum' },
  { signal: 'attention', rows: { last: 0.05, sampled: 0.05 }, reduce: 'max' },
  { signal: 'attention', rows: { last: 0.1, sampled: 0.3 }, reduce: 'sum', group: 'mean' },
  { signal: 'attention', rows: { last: 1, sampled: 0 }, reduce: 'mean', group: 'sum' },
  { signal: 'attention', rows: 'all', reduce: 'seen-mean', pool: { kind: 'mean', width: 3 } },
  { signal: 'attention', rows: 7, reduce: 'seen-mean', drop: 2 },
];

describe('attention of rows that stand for all', () => {
  it.each([1, 19, 20, 63, 64, 65, 150])('of a prompt of %i tokens', async tokens => {
    await withWorld({ kvHeads: 2, group: 3 }, () => {
      const sequence = world.sequence({}, tokens + 30);
      const queries = world.queries(span(30, tokens + 30));
      for (const chosen of [1, 2 ** 31]) {
        const signal = world.sensor.answer({ sequence, layer: 1, queries, hidden: null, seed: chosen }, SHARES);
        const scene = { ...world.scene(sequence, 1, queries), seed: chosen };
        for (const request of SHARES)
          for (const [head, values] of plainSignal(scene, request).entries())
            close(signal(request)[head]!, values, EXACT);
      }
    });
  });

  it('within a sliding window, an entry counting the rows that see it', async () => {
    await withWorld({ window: 20 }, () => {
      const sequence = world.sequence({}, 130);
      const queries = world.queries(span(0, 130));
      const signal = world.sensor.answer({ sequence, layer: 0, queries, hidden: null }, SHARES);
      const scene = world.scene(sequence, 0, queries);
      for (const request of SHARES)
        for (const [head, values] of plainSignal(scene, request).entries())
          close(signal(request)[head]!, values, EXACT);
    });
  });

  it('needs the queries of those rows only, and computes no others', async () => {
    await withWorld({}, () => {
      const sequence = world.sequence({}, 100);
      const all = world.queries(span(0, 100));
      const asked = SHARES.slice(0, 2);
      const numbers = askedRows(asked, 100, 9);
      expect(numbers.length).toBe(10);
      const width = world.config.heads * world.config.headDim;
      const rows = Array.from(numbers, row =>
        world.kernels.memory.f32.slice(all.address / 4 + row * width, all.address / 4 + (row + 1) * width),
      );
      const some = {
        address: world.floats(Float32Array.from(rows.flatMap(row => [...row]))),
        rows: 10,
        positions: Int32Array.from(numbers),
        numbers,
        of: 100,
      };
      const at = { sequence, layer: 0, hidden: null, seed: 9 };
      const fromSome = world.sensor.answer({ ...at, queries: some }, asked);
      expect(world.sensor.counts.rows).toBe(10);
      const fromAll = world.sensor.answer({ ...at, queries: all }, asked);
      for (const request of asked) expect(fromSome(request)).toEqual(fromAll(request));
      expect(askedRows([...asked, { signal: 'attention', rows: 8, reduce: 'sum' }], 100, 9).slice(-8)).toEqual(
        Uint32Array.from(span(92, 100)),
      );
      expect(askedRows([{ signal: 'ranges', of: 'q' }], 100, 9).length).toBe(100);
    });
  });

  it('refuses shares that are none, and ranges of queries that were not all kept', async () => {
    await withWorld({}, () => {
      const sequence = world.sequence({}, 30);
      const queries = world.queries(span(0, 30));
      const answer = (request: SignalRequest, of?: number) =>
        world.sensor.answer({ sequence, layer: 0, queries: { ...queries, ...(of && { of }) }, hidden: null }, [
          request,
        ]);
      const bad = { signal: 'attention', rows: { last: 1.5, sampled: 0 }, reduce: 'sum' } as const;
      expect(() => answer(bad)).toThrow(
        expect.objectContaining({ code: 'invalid_request', field: 'signal.rows.last' }),
      );
      expect(() => answer({ signal: 'ranges', of: 'q' }, 31)).toThrow(expect.objectContaining({ field: 'signal.of' }));
    });
  });
});

describe('ranges of queries', () => {
  it.each([1, 64, 130])('after RoPE, over %i rows and the heads of a group', async rows => {
    for (const [kvHeads, group] of [
      [1, 8],
      [3, 1],
      [2, 3],
    ] as const) {
      await withWorld({ kvHeads, group, headDim: 16 }, () => {
        const sequence = world.sequence({}, rows + 5);
        const queries = world.queries(span(5, rows + 5));
        const request = { signal: 'ranges', of: 'q' } as const;
        const actual = world.sensor.answer({ sequence, layer: 0, queries, hidden: null }, [request])(request);
        const expected = plainSignal(world.scene(sequence, 0, queries), request);
        expect(actual.length).toBe(kvHeads);
        for (const [head, values] of expected.entries()) close(actual[head]!, values, EXACT);
      });
      if (group !== 3) await world.dispose();
    }
  });
});

describe('attention signals', () => {
  it.each([0, 1, 63, 64, 65, 150])('of a prompt of %i tokens', async tokens => {
    await withWorld({}, () => checkAll(world.sequence({}, tokens), world.queries(span(0, tokens)), EXACT));
  });

  it.each([
    [1, 1],
    [1, 8],
    [3, 2],
  ])('with %i KV heads of %i query heads', async (kvHeads, group) => {
    await withWorld({ kvHeads, group, headDim: 8 }, () =>
      checkAll(world.sequence({ formatK: 'f16' }, 70), world.queries(span(10, 70)), EXACT),
    );
  });

  it('within a sliding window', async () => {
    await withWorld({ window: 20 }, () => checkAll(world.sequence({}, 100), world.queries(span(40, 100)), EXACT));
  });

  it('with holes, shifts, bias and heads that hold different entries', async () => {
    await withWorld({ headDim: 8 }, () => {
      const sequence = world.sequence({ columns: ['bias'] }, 200);
      const keep = [
        {
          slot: 0,
          head: 0,
          ranges: [
            [0, 4],
            [70, 71],
            [75, 99],
            [150, 200],
          ] as const,
        },
        {
          slot: 0,
          head: 1,
          ranges: [
            [3, 9],
            [60, 120],
            [190, 200],
          ] as const,
        },
        { slot: 1, head: 1, ranges: [[100, 200]] as const },
      ];
      sequence.prepareKeep(keep, { threshold: 0 }).apply();
      for (const slot of [0, 1])
        for (const head of [0, 1]) {
          sequence.setColumn(slot, head, 'bias', world.normals(sequence.entries(slot, head)));
        }
      checkAll(sequence, world.queries(span(150, 200)), EXACT);
    });
    await world.dispose();
    await withWorld({}, () => {
      const sequence = world.sequence({}, 150);
      sequence.shift(-20, 100, 150);
      sequence.keep(1, 0, [
        [0, 30],
        [90, 150],
      ]);
      const positions = span(60, 130);
      for (let layer = 0; layer < 2; layer++) {
        for (const request of REQUESTS) {
          const queries = world.queries(positions);
          const signal = world.sensor.answer({ sequence, layer, queries, hidden: null }, [request]);
          // Stored positions 100.. were moved; kept ranges renumber the entries of one view.
          const stored = (head: number, i: number) => (layer === 1 && head === 0 && i >= 30 ? i + 60 : i);
          const group = 3;
          const of = (head: number) =>
            plainSignal(
              world.scene(sequence, layer, queries, i => (stored(head, i) >= 100 ? -20 : 0)),
              request,
            );
          const [ragged, expected] = [of(0), of(1)];
          const actual = signal(request);
          for (const [h, values] of actual.entries()) {
            const head = request.group ? h : Math.floor(h / group);
            close(values, head === 0 ? ragged[h]! : expected[h]!, EXACT);
          }
        }
      }
    });
  });

  it('over keys stored before RoPE', async () => {
    await withWorld({}, () =>
      checkAll(world.sequence({ keysUnrotated: true, formatK: 'f16' }, 90), world.queries(span(30, 90)), EXACT),
    );
  });

  it.each(['f16', 'int8'] as FormatName[])('over %s pages, and a sum over rows of nearly one a row', async format => {
    await withWorld({}, () => {
      const sequence = world.sequence({ formatK: format, formatV: 'int8' }, 130);
      const queries = world.queries(span(80, 130));
      checkAll(sequence, queries, format === 'int8' ? INTEGER : EXACT);
      const request: AttentionSignal = { signal: 'attention', rows: 'all', reduce: 'sum' };
      const [sums] = world.sensor.answer({ sequence, layer: 0, queries, hidden: null }, [request])(request);
      expect(sums!.reduce((a, b) => a + b, 0)).toBeCloseTo(50, 3);
    });
  });

  it.each([
    ['f16', EXACT],
    ['int8', INTEGER],
  ] as [FormatName, number][])('over views that go on in f32 after %s pages', async (format, tolerance) => {
    await withWorld({}, () => {
      const sequence = world.sequence({}, 150);
      const heads = [0, 1].map(head => ({ slot: 0, head, from: 0, to: 64 + head * 20, k: format, v: format }));
      sequence.prepareEncode(heads).apply();
      expect(sequence.refCount(0, 1)).toBeGreaterThan(2);
      checkAll(sequence, world.queries(span(90, 150)), tolerance);
    });
  });

  it.each([
    ['2 bits along tokens', { kind: 'scalar', parts: [{ bits: 2, along: 'token', group: 32 }] }],
    ['4 bits along channels', { kind: 'scalar', parts: [{ bits: 4, along: 'channel' }] }],
    ['8 bits turned by Hadamard', { kind: 'scalar', parts: [{ bits: 8, along: 'channel', transform: 'hadamard' }] }],
    [
      '3 bits, outliers, a pair',
      {
        kind: 'scalar',
        parts: [{ bits: 3, along: 'token' }],
        outliers: { share: 0.02, per: 'channel' },
        lowRank: { rank: 2 },
      },
    ],
  ] as [string, ScalarFormat][])('over scalar pages (%s) and exact ones', async (_, format) => {
    for (const keysUnrotated of [false, true]) {
      await withWorld({ headDim: 64, kvHeads: 1, layers: 1 }, () => {
        const sequence = world.sequence({ keysUnrotated }, 200);
        sequence.prepareEncode([{ slot: 0, head: 0, from: 3, to: 135, k: format, v: format }]).apply();
        sequence.keep(0, 0, [
          [0, 20],
          [31, 77],
          [80, 200],
        ]);
        const queries = world.queries(span(150, 200));
        checkAll(sequence, queries, INTEGER);
        const entries = sequence.entries(0, 0);
        const step = world.sensor.step(sequence, 0, { address: queries.address, row: 49 }, 199);
        const scene = world.scene(sequence, 0, queries);
        for (const [h, at] of step.offsets.entries()) {
          close(step.values.subarray(at, at + entries), plainProbabilities(scene, h, 49), INTEGER);
        }
      });
      if (!keysUnrotated) await world.dispose();
    }
  });

  it.each([16, 4] as const)('over rows that two layers share, directions of %i bits', async bits => {
    await withWorld({ headDim: 16, kvHeads: 1 }, () => {
      const sequence = world.sequence({}, 140);
      const views = [0, 1].map(slot => ({ slot, head: 0 }));
      const entries = Uint32Array.from({ length: 100 }, (_, i) => i + 5);
      const plane = () => ({
        format: { kind: 'latent', rank: 16, bits, basis: false, norms: true } as const,
        rows: world.normals(100 * 16),
        norms: views.map(() => world.normals(100).map(x => 1 + x * x)),
      });
      sequence.prepareJoin([{ views, entries: [entries, entries], k: plane(), v: plane() }]).apply();
      checkAll(sequence, world.queries(span(90, 140)), INTEGER);
    });
  });

  it('of rows at any positions, more rows than a block holds, on two threads', async () => {
    await withWorld({ threads: 2, kvHeads: 1, group: 1, headDim: 8, layers: 1 }, () => {
      const sequence = world.sequence({}, 1500);
      const positions = span(0, 1500).filter(() => world.random() < 0.8);
      checkAll(sequence, world.queries(positions), 1e-4);
      expect(world.sensor.counts.rows).toBe(positions.length);
    });
  });

  it('computes rows once for all, and nothing that nobody asks for', async () => {
    await withWorld({}, () => {
      const sequence = world.sequence({}, 100);
      const at = { sequence, layer: 0, queries: world.queries(span(0, 100)), hidden: null };
      world.sensor.answer(at, []);
      expect(world.sensor.counts).toEqual({ rows: 0, steps: 0, decoded: 0, hidden: 0, grams: 0, clusters: 0 });
      world.sensor.answer(at, REQUESTS.slice(1, 4));
      expect(world.sensor.counts.rows).toBe(32);
      world.sensor.answer(at, REQUESTS);
      expect(world.sensor.counts).toEqual({ rows: 132, steps: 0, decoded: 0, hidden: 0, grams: 0, clusters: 0 });
      const norms: SignalRequest[] = [{ signal: 'key-norm' }, { signal: 'ranges', of: 'k' }, { signal: 'key-norm' }];
      world.sensor.answer(at, norms);
      expect(world.sensor.counts).toEqual({ rows: 132, steps: 0, decoded: 200, hidden: 0, grams: 0, clusters: 0 });
    });
  });
});

describe('signals of rows', () => {
  const K: SignalRequest[] = [
    { signal: 'key-norm' },
    { signal: 'value-norm' },
    { signal: 'neighbour-cosine', of: 'k' },
    { signal: 'neighbour-cosine', of: 'v' },
    { signal: 'layer-cosine', of: 'v', layer: 1 },
    { signal: 'ranges', of: 'k' },
  ];

  it.each([
    [0, {}],
    [1, {}],
    [65, { formatK: 'f16' }],
    [4200, { formatV: 'int8' }],
  ] as [number, Partial<PageOptions>][])('of %i entries, %o', async (tokens, pages) => {
    await withWorld({ headDim: 8 }, () => {
      const sequence = world.sequence(pages, tokens);
      if (tokens > 100) {
        const ranges = [
          [1, 40],
          [41, 60],
          [70, tokens - 3],
        ] as const;
        const plan = [0, 1].flatMap(slot => [0, 1].map(head => ({ slot, head, ranges })));
        sequence.prepareKeep(plan, { threshold: 0 }).apply();
      }
      const signal = world.sensor.answer({ sequence, layer: 0, queries: null, hidden: null }, K);
      for (const head of [0, 1]) {
        const { k, v } = sequence.read(0, head);
        const other = sequence.read(1, head).v;
        const row = (x: Float32Array, i: number) => x.subarray(i * 8, i * 8 + 8);
        const rows = (x: Float32Array) => Array.from({ length: x.length / 8 }, (_, i) => row(x, i));
        const dot = (a: Float32Array, b: Float32Array) => a.reduce((sum, x, c) => sum + x * b[c]!, 0);
        const cosine = (a: Float32Array, b: Float32Array) => dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
        const neighbours = (x: Float32Array) =>
          rows(x)
            .slice(1)
            .map((b, i) => cosine(row(x, i), b));
        const expected = [
          rows(k).map(a => Math.sqrt(dot(a, a))),
          rows(v).map(a => Math.sqrt(dot(a, a))),
          neighbours(k),
          neighbours(v),
          rows(v).map((a, i) => cosine(a, row(other, i))),
          [Math.min, Math.max].flatMap(of => Array.from({ length: 8 }, (_, c) => of(...rows(k).map(a => a[c]!)))),
        ];
        for (const [i, request] of K.entries()) {
          const actual = (signal(request) as Float32Array[])[head]!;
          if (i === 5 && tokens === 0) expect([...actual]).toEqual(expected[i]);
          else close(actual, expected[i]!, 1e-6);
        }
      }
    });
  });

  it('of hidden rows', async () => {
    await withWorld({}, () => {
      const { hidden } = world.config;
      const values = world.normals(7 * hidden);
      values[3 * hidden + 5] = -40;
      values[6 * hidden] = 30;
      const at = { address: world.floats(values), rows: 7, position: (row: number) => 10 + 2 * row };
      const request = { signal: 'hidden-norm' } as const;
      const counts = [1, 2, 3, 5, 1000];
      const peaks = counts.map(count => ({ signal: 'hidden-peaks', count }) as const);
      const point = { sequence: world.sequence({}, 1), layer: 0, queries: null, hidden: at };
      const signal = world.sensor.answer(point, [request, ...peaks]);
      const expected = Array.from({ length: 7 }, (_, i) =>
        Math.hypot(...values.subarray(i * hidden, (i + 1) * hidden)),
      );
      close(signal(request), expected, 1e-6);
      const order = [...values.keys()].sort((a, b) => Math.abs(values[b]!) - Math.abs(values[a]!) || a - b);
      for (const [n, count] of counts.entries()) {
        const rows = new Set(order.slice(0, count).map(i => Math.floor(i / hidden)));
        expect([...signal(peaks[n]!)]).toEqual([...rows].map(row => 10 + 2 * row).sort((a, b) => a - b));
      }
      expect([...signal(peaks[0]!)]).toEqual([16]);
      expect([...signal(peaks[1]!)]).toEqual([16, 22]);
      const bad = { signal: 'hidden-peaks', count: 0 } as const;
      expect(() => world.sensor.answer(point, [bad])).toThrow(
        expect.objectContaining({ code: 'invalid_request', field: 'signal.count' }),
      );
    });
  });

  it.each([
    [0, undefined],
    [65, undefined],
    [65, 40],
    [1100, undefined],
  ])('Gram matrix of %i entries, of which %s count', async (tokens, entries) => {
    await withWorld({ headDim: 8, layers: 3, threads: 2 }, () => {
      const sequence = world.sequence({ formatV: 'f16' }, tokens);
      for (const of of ['k', 'v'] as const) {
        const request: GramSignal = { signal: 'gram', of, layers: [2, 0], ...(entries && { entries }) };
        const gram = world.sensor.answer({ sequence, layer: 2, queries: null, hidden: null }, [request])(request);
        const columns = [2, 0].flatMap(layer => [0, 1].map(head => sequence.read(layer, head)[of]));
        const value = (i: number, row: number) => columns[Math.floor(i / 8)]![row * 8 + (i % 8)]!;
        const expected = Float64Array.from({ length: 32 * 32 }, (_, at) => {
          let sum = 0;
          for (let row = 0; row < (entries ?? tokens); row++)
            sum += value(Math.floor(at / 32), row) * value(at % 32, row);
          return sum;
        });
        close(gram, expected, 2e-5 * Math.max(1, Math.sqrt(tokens)));
      }
    });
  });

  it.each([0, 65, 1100])('principal directions of %i entries are those of the Gram matrix', async tokens => {
    await withWorld({ headDim: 64, layers: 3, threads: 2 }, () => {
      const sequence = world.sequence({ formatV: 'f16' }, tokens);
      const at = { sequence, layer: 2, queries: null, hidden: null };
      for (const of of ['k', 'v'] as const) {
        const gram: GramSignal = { signal: 'gram', of, layers: [2, 0] };
        const principal: PrincipalSignal = { signal: 'principal', of, layers: [2, 0], rank: 16 };
        const signal = world.sensor.answer(at, [gram, principal]);
        const [matrix, basis] = [signal(gram), signal(principal)];
        const width = 2 * 2 * 64;
        expect(basis.length).toBe(width * 16);
        expect(basis.every(Number.isFinite)).toBe(true);
        let energy = 0;
        for (let j = 0; j < 16; j++)
          for (let a = 0; a < width; a++)
            for (let b = 0; b < width; b++) energy += basis[a * 16 + j]! * matrix[a * width + b]! * basis[b * 16 + j]!;
        const { values } = symmetricEigen(matrix, width, 16);
        const most = values.reduce((sum, x) => sum + x, 0);
        expect(energy).toBeLessThan(most * (1 + 1e-5) + 1e-9);
        expect(energy).toBeGreaterThanOrEqual(0.95 * most);
      }
    });
  });
});

describe('signals of pairs and clusters', () => {
  it('distances of pairs of entries, those of other blocks too', async () => {
    await withWorld({ headDim: 8 }, () => {
      const sequence = world.sequence({ formatV: 'f16' }, 4200);
      const pick = () => Math.floor(world.random() * 4200);
      const pairs = [0, 1].map(head => Uint32Array.from({ length: head * 300 }, pick));
      for (const of of ['k', 'v'] as const) {
        const request = { signal: 'distance', of, pairs } as const;
        const signal = world.sensor.answer({ sequence, layer: 1, queries: null, hidden: null }, [request]);
        for (const [head, list] of pairs.entries()) {
          const rows = sequence.read(1, head)[of];
          const expected = Array.from({ length: list.length / 2 }, (_, i) => {
            const [a, b] = [list[2 * i]! * 8, list[2 * i + 1]! * 8];
            return Array.from({ length: 8 }, (_, c) => (rows[a + c]! - rows[b + c]!) ** 2).reduce((x, y) => x + y, 0);
          });
          close(signal(request)[head]!, expected, 1e-6);
        }
      }
    });
  });

  it.each([1, 63, 64, 65, 700])('of %i centres the one most alike to each of other entries', async count => {
    await withWorld({ headDim: 8, threads: 2 }, () => {
      const sequence = world.sequence({ formatK: 'f16' }, 1500);
      sequence.keep(0, 1, [
        [0, 200],
        [300, 1500],
      ]);
      const pick = (n: number, entries: number) =>
        Uint32Array.from({ length: n }, () => Math.floor(world.random() * entries));
      for (const of of ['k', 'v'] as const) {
        const request = {
          signal: 'nearest',
          of,
          centres: [pick(count, 1500), pick(count, 1400)],
          members: [new Uint32Array(0), pick(600, 1400)],
        } as const;
        const actual = world.sensor.answer({ sequence, layer: 0, queries: null, hidden: null }, [request])(request);
        const expected = plainSignal(world.scene(sequence, 0, null), request);
        expect(actual[0]!.place).toHaveLength(0);
        close(actual[1]!.cosine, expected[1]!.cosine, 1e-5);
        const scene = world.scene(sequence, 0, null);
        for (const [i, place] of actual[1]!.place.entries()) {
          if (place === expected[1]!.place[i]) continue;
          // Another one only where two are as alike.
          const one = { ...request, centres: [request.centres[0], request.centres[1].subarray(place, place + 1)] };
          const only = plainSignal(scene, {
            ...one,
            members: [new Uint32Array(0), request.members[1].subarray(i, i + 1)],
          });
          expect(Math.abs(only[1]!.cosine[0]! - expected[1]!.cosine[i]!)).toBeLessThan(1e-6);
        }
      }
    });
  });

  it('rows of zeros are like none, and of equal centres the first is taken', async () => {
    await withWorld({ headDim: 8, layers: 1, kvHeads: 1 }, () => {
      const sequence = world.sequence({}, 70);
      const { memory } = world.kernels;
      expect(memory.held).toBeGreaterThan(0);
      const request = {
        signal: 'nearest',
        of: 'k',
        centres: [Uint32Array.from({ length: 66 }, (_, i) => (i < 3 ? 5 : i))],
        members: [Uint32Array.of(5, 69, 5)],
      } as const;
      const { held } = memory;
      const [found] = world.sensor.answer({ sequence, layer: 0, queries: null, hidden: null }, [request])(request);
      expect(memory.held).toBe(held);
      expect([found!.place[0], found!.place[2]]).toEqual([0, 0]);
      expect(found!.cosine[0]).toBeCloseTo(1, 6);
    });
  });

  it.each([1, 8, 63, 64, 65])('what the span of %i entries leaves of others', async count => {
    await withWorld({ headDim: 16, threads: 2 }, () => {
      const sequence = world.sequence({ formatK: 'f16' }, 300);
      const pick = (n: number) => Uint32Array.from({ length: n }, () => Math.floor(world.random() * 300));
      for (const of of ['k', 'v'] as const)
        for (const choose of ['first', 'pivot'] as const)
          for (const rank of [1, 5, 12]) {
            const request = {
              signal: 'residual',
              of,
              basis: [pick(count), new Uint32Array(0)],
              members: [pick(90), pick(3)],
              rank,
              choose,
            } as const;
            const actual = world.sensor.answer({ sequence, layer: 0, queries: null, hidden: null }, [request])(request);
            const expected = plainSignal(world.scene(sequence, 0, null), request);
            for (const head of [0, 1]) close(actual[head]!, expected[head]!, 1e-5);
          }
    });
  });

  it('entries of the span leave nothing, and a span of all channels nothing of any', async () => {
    await withWorld({ headDim: 8, layers: 1, kvHeads: 1 }, () => {
      const sequence = world.sequence({}, 70);
      const { held } = world.kernels.memory;
      const all = Uint32Array.from({ length: 70 }, (_, i) => i);
      for (const choose of ['first', 'pivot'] as const) {
        const ask = (rank: number, basis = all) => {
          const request = { signal: 'residual', of: 'k', basis: [basis], members: [all], rank, choose } as const;
          return world.sensor.answer({ sequence, layer: 0, queries: null, hidden: null }, [request])(request)[0]!;
        };
        expect(Math.max(...ask(5, all.subarray(0, 5)).subarray(0, 5))).toBeLessThan(1e-6);
        expect(Math.max(...ask(8))).toBeLessThan(1e-6);
        expect(Math.max(...ask(70))).toBeLessThan(1e-6);
        // A row that is there twice spans no more than once.
        expect(ask(9, Uint32Array.of(3, 3, 4))).toEqual(ask(9, Uint32Array.of(3, 4)));
        expect(Math.max(...ask(4))).toBeGreaterThan(0.1);
      }
      expect(world.kernels.memory.held).toBe(held);
    });
  });

  it.each([0, 1, 63, 64, 65, 700])('clusters of the keys of %i entries', async tokens => {
    await withWorld({ headDim: 8, threads: 2 }, () => {
      const sequence = world.sequence({}, tokens);
      for (const [size, rounds] of [
        [1, 1],
        [7, 3],
        [16, 5],
        [1000, 2],
      ] as const) {
        const request = { signal: 'clusters', size, rounds, skipFirst: 4, skipLast: 9 } as const;
        const at = { sequence, layer: 0, queries: null, hidden: null };
        const actual = world.sensor.answer(at, [request])(request);
        const expected = plainSignal(world.scene(sequence, 0, null), request);
        for (const head of [0, 1]) {
          expect(actual[head]!.count).toBe(expected[head]!.count);
          sameClusters(actual[head]!, expected[head]!);
        }
      }
    });
  });

  it('clusters blocks of 8,192 entries apart, more centroids than the kernel takes at once', async () => {
    await withWorld({ headDim: 8, layers: 1, kvHeads: 1 }, () => {
      const sequence = world.sequence({}, 8300);
      const request = { signal: 'clusters', size: 80, rounds: 2, skipFirst: 0, skipLast: 0 } as const;
      const signal = world.sensor.answer({ sequence, layer: 0, queries: null, hidden: null }, [request]);
      sameClusters(signal(request)[0]!, plainSignal(world.scene(sequence, 0, null), request)[0]!);
      expect(signal(request)[0]!.count).toBe(103 + 2);
    });
  });
});

describe('one decoding row', () => {
  it.each([
    [1, {}, {}],
    [65, { formatK: 'f16' }, {}],
    [2500, { formatK: 'f32' }, { threads: 2 }],
    [2500, { formatK: 'f32' }, { threads: 2, deterministic: true }],
    [130, { keysUnrotated: true }, { window: 50 }],
  ] as [number, Partial<PageOptions>, WorldOptions][])('over %i entries, %o, %o', async (tokens, pages, options) => {
    await withWorld({ headDim: 8, ...options }, () => {
      const sequence = world.sequence(pages, tokens);
      if (tokens === 2500)
        sequence.keep(0, 1, [
          [0, 9],
          [100, 2500],
        ]);
      const { heads } = world.config;
      const queries = world.queries(Int32Array.of(0, tokens - 1));
      for (const layer of [0, 1]) {
        const step = world.sensor.step(sequence, layer, { address: queries.address, row: 1 }, tokens - 1);
        const scene = world.scene(sequence, layer, queries);
        for (let h = 0; h < heads; h++) {
          const entries = sequence.entries(layer, Math.floor(h / 3));
          expect(step.entries[Math.floor(h / 3)]).toBe(entries);
          const expected = plainProbabilities(scene, h, 1);
          close(step.values.subarray(step.offsets[h], step.offsets[h]! + entries), expected, EXACT);
        }
      }
      expect(world.sensor.counts).toMatchObject({ rows: 0, steps: 2 });
    });
  });

  it('holds the same memory step after step', async () => {
    await withWorld({}, () => {
      const sequence = world.sequence({}, 60);
      const queries = world.queries(Int32Array.of(59));
      const first = world.sensor.step(sequence, 0, { address: queries.address, row: 0 }, 59);
      const { held } = world.kernels.memory;
      for (let i = 0; i < 100; i++) world.sensor.step(sequence, i & 1, { address: queries.address, row: 0 }, 59);
      expect(world.kernels.memory.held).toBe(held);
      expect(world.sensor.step(sequence, 0, { address: queries.address, row: 0 }, 59)).toBe(first);
    });
  });
});

describe('bad requests', () => {
  const refused = (request: unknown, field: string, layer = 0) => {
    const sequence = world.sequence({}, 20);
    sequence.keep(1, 0, [[0, 5]]);
    const at = { sequence, layer, queries: world.queries(span(0, 20)), hidden: null };
    let error: KvasirError | undefined;
    const { held } = world.kernels.memory;
    try {
      world.sensor.answer(at, [request as SignalRequest]);
    } catch (thrown) {
      error = thrown as KvasirError;
    }
    expect(error?.code).toBe('invalid_request');
    expect(error?.field).toBe(field);
    expect(error?.allowed).toBeDefined();
    expect(world.kernels.memory.held).toBe(held);
  };

  it('name the field, the value and what is allowed, and compute nothing', async () => {
    await withWorld({}, () => {
      refused({ signal: 'attention', rows: 0, reduce: 'sum' }, 'signal.rows');
      refused({ signal: 'attention', rows: 4, reduce: 'median' }, 'signal.reduce');
      refused({ signal: 'attention', rows: 4, reduce: 'sum', drop: -1 }, 'signal.drop');
      refused({ signal: 'attention', rows: 4, reduce: 'sum', group: 'min' }, 'signal.group');
      refused({ signal: 'attention', rows: 4, reduce: 'sum', pool: { kind: 'mean', width: 0 } }, 'signal.pool.width');
      refused({ signal: 'attention', rows: 4, reduce: 'sum', pool: { kind: 'mean', width: 4 } }, 'signal.pool.width');
      refused({ signal: 'hidden-norm' }, 'signal');
      refused({ signal: 'distance', of: 'k', pairs: [Uint32Array.of(0, 1)] }, 'signal.pairs');
      refused({ signal: 'distance', of: 'k', pairs: [Uint32Array.of(0, 20), new Uint32Array(0)] }, 'signal.pairs');
      const none = new Uint32Array(0);
      const one = Uint32Array.of(1);
      refused({ signal: 'nearest', of: 'q', centres: [one, one], members: [one, one] }, 'signal.of');
      refused({ signal: 'nearest', of: 'k', centres: [one], members: [one, one] }, 'signal.centres');
      refused({ signal: 'nearest', of: 'k', centres: [one, none], members: [one, one] }, 'signal.centres');
      refused(
        { signal: 'nearest', of: 'k', centres: [one, one], members: [Uint32Array.of(5), one] },
        'signal.members',
        1,
      );
      const residual = {
        signal: 'residual',
        of: 'k',
        basis: [one, one],
        members: [one, one],
        rank: 1,
        choose: 'first',
      };
      refused({ ...residual, basis: [one] }, 'signal.basis');
      refused({ ...residual, members: [Uint32Array.of(5), one] }, 'signal.members', 1);
      refused({ ...residual, rank: 0 }, 'signal.rank');
      refused({ ...residual, choose: 'last' }, 'signal.choose');
      refused({ signal: 'layer-cosine', of: 'k', layer: 2 }, 'signal.layer');
      refused({ signal: 'layer-cosine', of: 'k', layer: 1 }, 'signal.layer');
      refused({ signal: 'neighbour-cosine', of: 'q' }, 'signal.of');
      refused({ signal: 'gram', of: 'k', layers: [] }, 'signal.layers');
      refused({ signal: 'gram', of: 'k', layers: [0, 1] }, 'signal.layers');
      refused({ signal: 'principal', of: 'k', layers: [5], rank: 8 }, 'signal.layers');
      refused({ signal: 'principal', of: 'k', layers: [0], rank: 12 }, 'signal.rank');
      refused({ signal: 'principal', of: 'q', layers: [0], rank: 8 }, 'signal.of');
      refused({ signal: 'clusters', size: 0, rounds: 3, skipFirst: 0, skipLast: 0 }, 'signal.size');
      refused({ signal: 'entropy' }, 'signal');
      expect(world.sensor.counts).toEqual({ rows: 0, steps: 0, decoded: 0, hidden: 0, grams: 0, clusters: 0 });
    });
  });

  it('include reading what was not asked for', async () => {
    await withWorld({}, () => {
      const at = { sequence: world.sequence({}, 20), layer: 0, queries: world.queries(span(0, 20)), hidden: null };
      const signal = world.sensor.answer(at, [{ signal: 'key-norm' }]);
      expect(() => signal({ signal: 'value-norm' })).toThrow('not asked for');
      expect(signal({ signal: 'key-norm' })).toHaveLength(2);
    });
  });
});
