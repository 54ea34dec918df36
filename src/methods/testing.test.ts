import { expect, test } from 'vitest';
import { PlainCache, plainModel, plainPrompt, plainRandom } from './testing.ts';
import type { AttentionSignal, SignalRequest } from './types.ts';

/** Signals of one prompt at layer 0. */
function signals<S extends SignalRequest>(rows: number, requests: readonly S[], shape = {}) {
  const model = plainModel(shape);
  const cache = new PlainCache(model);
  const prompt = plainPrompt(model, rows, plainRandom(rows + 1));
  let values: unknown[] = [];
  cache.prompt(
    {
      sense: () => requests,
      decide: at => {
        if (at.layer === 0) values = requests.map(request => at.signal(request));
        return [];
      },
    },
    prompt,
  );
  return { model, prompt: prompt[0]!, values };
}

const asked = { signal: 'attention', rows: 'all', reduce: 'sum' } satisfies AttentionSignal;

test.each([1, 63, 64, 65])('column sums of %i rows add up to the rows', rows => {
  const { values } = signals(rows, [asked, { ...asked, group: 'mean' } as AttentionSignal], { group: 8, kvHeads: 1 });
  const [each, mean] = values as Float32Array[][];
  expect(each).toHaveLength(8);
  expect(mean).toHaveLength(1);
  for (const heads of [each!, mean!]) {
    for (const head of heads) expect(head.reduce((a, b) => a + b, 0)).toBeCloseTo(rows, 4);
  }
});

test('a probability is the softmax of scaled products over the entries that a row sees', () => {
  const { prompt, values } = signals(3, [{ signal: 'attention', rows: 2, reduce: 'sum' }], { kvHeads: 1, group: 1 });
  const dot = (r: number, i: number) =>
    Math.exp(prompt.q.subarray(r * 8, r * 8 + 8).reduce((s, x, c) => s + x * prompt.k[i * 8 + c]!, 0) / Math.sqrt(8));
  const [a, b] = [
    [dot(1, 0), dot(1, 1), 0],
    [dot(2, 0), dot(2, 1), dot(2, 2)],
  ];
  const sum = (x: number[]) => x.reduce((s, y) => s + y, 0);
  const head = (values as Float32Array[][])[0]![0]!;
  for (let i = 0; i < 3; i++) expect(head[i]).toBeCloseTo(a![i]! / sum(a!) + b![i]! / sum(b!), 6);
});

test('pooling counts the zeros outside and comes after `drop`', () => {
  const plain: AttentionSignal = { signal: 'attention', rows: 4, reduce: 'mean', drop: 4 };
  const { values } = signals(20, [
    plain,
    { ...plain, pool: { kind: 'mean', width: 5 } },
    { ...plain, pool: { kind: 'max', width: 3 } },
  ]);
  const [raw, mean, max] = (values as Float32Array[][]).map(heads => heads[0]!);
  expect(raw).toHaveLength(16);
  expect(mean![0]).toBeCloseTo((raw![0]! + raw![1]! + raw![2]!) / 5, 6);
  expect(mean![15]).toBeCloseTo((raw![13]! + raw![14]! + raw![15]!) / 5, 6);
  expect(max![0]).toBe(Math.max(raw![0]!, raw![1]!));
});

test('a group of two: pooling and then reducing differs from reducing and then pooling for max alone', () => {
  const pool = (kind: 'mean' | 'max', after: boolean): AttentionSignal => ({
    signal: 'attention',
    rows: 4,
    reduce: 'sum',
    group: 'mean',
    pool: { kind, width: 3, ...(after && { after: 'group' as const }) },
  });
  const { values } = signals(30, [pool('mean', false), pool('mean', true), pool('max', false), pool('max', true)]);
  const [a, b, c, d] = (values as Float32Array[][]).map(heads => [...heads[0]!]);
  a!.forEach((x, i) => {
    expect(x).toBeCloseTo(b![i]!, 6);
  });
  expect(c).not.toEqual(d);
});

test('variance and entropy of rows', () => {
  const base = { signal: 'attention', rows: 3 } as const;
  const { values } = signals(9, [
    { ...base, reduce: 'sum' },
    { ...base, reduce: 'mean' },
    { ...base, reduce: 'variance' },
    { ...base, reduce: 'entropy' },
    { ...base, reduce: 'max' },
    { ...base, rows: 1, reduce: 'variance' },
  ] as AttentionSignal[]);
  const [sum, mean, variance, entropy, max, alone] = (values as Float32Array[][]).map(heads => heads[0]!);
  mean!.forEach((x, i) => {
    expect(x * 3).toBeCloseTo(sum![i]!, 5);
    expect(max![i]).toBeGreaterThanOrEqual(x);
    expect(variance![i]).toBeGreaterThanOrEqual(0);
    expect(entropy![i]).toBeGreaterThan(-1e-6);
  });
  expect(alone!.every(x => x === 0)).toBe(true);
});

test('rows that a layer drops are missing from the layers after it, at their true positions', () => {
  const model = plainModel({ layers: 3 });
  const cache = new PlainCache(model);
  const kept = Uint32Array.of(1, 4, 9);
  const seen: number[] = [];
  cache.prompt(
    {
      decide: at => {
        seen.push(at.rows);
        return at.layer === 1 ? [{ do: 'rows', rows: kept }] : [];
      },
    },
    plainPrompt(model, 10, plainRandom(3)),
  );
  expect(seen).toEqual([10, 10, 3]);
  expect([...cache.at(2).positions(0)]).toEqual([1, 4, 9]);
  expect(cache.at(1).entries(0)).toBe(10);
  expect(cache.next).toEqual([10, 10, 10]);
});

test('an empty cache answers', () => {
  const cache = new PlainCache(plainModel());
  expect(cache.at(0).entries(0)).toBe(0);
  expect(cache.at(0).fullPages(0)).toEqual([]);
});

test('keep, columns and renumbering move together', () => {
  const model = plainModel({ layers: 1, kvHeads: 1 });
  const cache = new PlainCache(model);
  const prompt = plainPrompt(model, 6, plainRandom(5));
  cache.prompt({}, prompt);
  const k = cache.views[0]![0]!.k.slice();
  cache.apply([
    { do: 'column', layer: 0, name: 'score', values: [Float32Array.of(1, 2, 3, 4, 5, 6)] },
    { do: 'keep', layer: 0, entries: [Uint32Array.of(0, 3, 5)] },
  ]);
  const at = cache.at(0);
  expect([...at.column('score', 0)]).toEqual([1, 4, 6]);
  expect([...at.positions(0)]).toEqual([0, 3, 5]);
  expect([...cache.views[0]![0]!.k.subarray(8, 16)]).toEqual([...k.subarray(24, 32)]);
  cache.apply([{ do: 'renumber', layer: 0 }]);
  expect([...at.positions(0)]).toEqual([0, 1, 2]);
  expect(() => cache.apply([{ do: 'keep', layer: 0, entries: [Uint32Array.of(2, 1)] }])).toThrow('after');
});

test('merged members go, the target holds their weighted sum', () => {
  const model = plainModel({ layers: 1, kvHeads: 1, headDim: 2 });
  const cache = new PlainCache(model);
  cache.prompt({}, plainPrompt(model, 5, plainRandom(6)));
  const { k, v } = cache.views[0]![0]!;
  const [k0, v0] = [k.slice(), v.slice()];
  cache.apply([
    {
      do: 'merge',
      layer: 0,
      head: 0,
      targets: Uint32Array.of(2),
      starts: Uint32Array.of(0, 3),
      members: Uint32Array.of(1, 2, 3),
      weightsK: Float32Array.of(0.25, 0.5, 0.25),
      weightsV: Float32Array.of(0.5, 0.25, 0.25),
      bias: Float32Array.of(Math.log(3)),
    },
  ]);
  const view = cache.views[0]![0]!;
  expect([...view.positions]).toEqual([0, 2, 4]);
  expect(view.k[2]).toBeCloseTo(0.25 * k0[2]! + 0.5 * k0[4]! + 0.25 * k0[6]!, 12);
  expect(view.v[3]).toBeCloseTo(0.5 * v0[3]! + 0.25 * v0[5]! + 0.25 * v0[7]!, 12);
  expect(view.columns.get('bias')![1]).toBeCloseTo(Math.log(3), 6);
});

test('maps of plain rows: a blend, a turn there and back, a net that passes rows on', () => {
  const model = plainModel({ headDim: 4 });
  const cache = new PlainCache(model);
  cache.prompt({}, plainPrompt(model, 3, plainRandom(8)));
  const rows = (layer: number, head: number, entry: number) => {
    const { k, v } = cache.views[layer]![head]!;
    return [k.slice(entry * 4, entry * 4 + 4), v.slice(entry * 4, entry * 4 + 4)] as const;
  };
  const [a, b] = [rows(0, 1, 2), rows(1, 0, 0)];
  const sources = [
    { layer: 0, head: 1, entries: Uint32Array.of(2) },
    { layer: 1, head: 0, entries: Uint32Array.of(0) },
  ];
  const at = { do: 'map', layer: 1, head: 0, targets: Uint32Array.of(0) } as const;
  const [weightsK, weightsV] = [Float32Array.of(0.5, 2), Float32Array.of(-1, 0)];
  cache.apply([{ ...at, sources, by: { kind: 'blend', weightsK, weightsV } }]);
  expect([...rows(1, 0, 0)[0]]).toEqual([...a[0].map((x, c) => 0.5 * x + 2 * b[0][c]!)]);
  expect([...rows(1, 0, 0)[1]]).toEqual([...a[1].map(x => -x)]);

  const own = [{ entries: Uint32Array.of(0) }];
  const before = rows(1, 0, 0);
  const turn = (by: number) => ({ ...at, sources: own, by: { kind: 'rotate', by: Int32Array.of(by) } }) as const;
  cache.apply([turn(5)]);
  expect(Math.hypot(...rows(1, 0, 0)[0])).toBeCloseTo(Math.hypot(...before[0]), 10);
  expect(rows(1, 0, 0)[0][0]).toBeCloseTo(before[0][0]! * Math.cos(5) - before[0][2]! * Math.sin(5), 10);
  cache.apply([turn(-5)]);
  for (const [c, x] of before[0].entries()) expect(rows(1, 0, 0)[0][c]).toBeCloseTo(x, 10);

  // silu(x) - silu(-x) = x.
  const pass = (sign: number, row: number) => Array.from({ length: 8 }, (_, i) => (i === row ? sign : 0));
  const each = Array.from({ length: 8 }, (_, row) => row);
  const by = {
    kind: 'net',
    weights1: Float32Array.from(each.flatMap(row => [...pass(1, row), ...pass(-1, row)])),
    bias1: new Float32Array(16),
    weights2: Float32Array.from(each.flatMap(row => each.flatMap(i => (i === row ? [1, -1] : [0, 0])))),
    bias2: new Float32Array(8),
  } as const;
  cache.apply([{ ...at, head: 1, sources: [sources[0]!], by }]);
  for (const [c, x] of a[0].entries()) expect(rows(1, 1, 0)[0][c]).toBeCloseTo(x, 10);
  for (const [c, x] of a[1].entries()) expect(rows(1, 1, 0)[1][c]).toBeCloseTo(x, 10);
});
