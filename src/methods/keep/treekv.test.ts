import { describe, expect, test } from 'vitest';
import { PlainCache, plainModel, plainPrompt, plainRandom } from '../testing.ts';
import { range, treeCard } from '../testing-cards.ts';
import { held, lengths, runPlain, SHAPES, SIZES } from '../testing-policy.ts';
import { PlainDecoder } from '../testing-step.ts';
import { sweep } from './sweep.ts';
import { treekv } from './treekv.ts';

describe('a sweep', () => {
  test.each([0, 1, 5, 63, 64, 65, 700])('of %i entries one by one is the card', total => {
    const random = plainRandom(total);
    const scores = Float32Array.from({ length: total }, () => Math.floor(random() * 20));
    for (const capacity of [1, 2, 5, 64]) {
      const { entries, cursor } = sweep(scores, capacity, 1);
      expect([...entries]).toEqual(treeCard([...scores], capacity));
      expect(cursor).toBe(Math.max(0, total - capacity) % capacity);
    }
  });

  test.each([
    [8, 64],
    [8, 60],
    [64, 3],
    [64, 1],
    [16, 100],
  ])('in blocks of %i leaves exactly %i entries, whole blocks but for the edges', (block, capacity) => {
    const random = plainRandom(block + capacity);
    const scores = Float32Array.from({ length: 1013 }, () => random());
    const kept = [...sweep(scores, capacity, block).entries];
    expect(kept).toHaveLength(capacity);
    expect(kept).toEqual([...new Set(kept)].sort((a, b) => a - b));
    expect([...sweep(scores, capacity, block).entries]).toEqual(kept);
  });

  test('in blocks is the card over blocks where these fit', () => {
    const random = plainRandom(77);
    const scores = Float32Array.from({ length: 8 * 50 }, () => Math.fround(random()));
    const means = range(50).map(b => scores.subarray(8 * b, 8 * b + 8).reduce((x, y) => x + y, 0) / 8);
    expect([...sweep(scores, 80, 8).entries]).toEqual(treeCard(means, 10).flatMap(b => range(8).map(i => 8 * b + i)));
  });

  test('thins the past out: gaps fall from left to right, about by powers of two', () => {
    const gaps = new Float64Array(8);
    for (let seed = 0; seed < 8; seed++) {
      const random = plainRandom(seed);
      const { entries: kept } = sweep(
        Float32Array.from({ length: 8192 }, () => random()),
        512,
        1,
      );
      for (let e = 0; e < 8; e++) gaps[e]! += (kept[64 * e + 63]! - kept[64 * e]!) / 63 / 8;
    }
    for (let e = 1; e < 8; e++) expect(gaps[e]).toBeLessThanOrEqual(gaps[e - 1]! * 1.1);
    expect(gaps[0]).toBeGreaterThan(40);
    [8, 4, 4, 2, 2, 2, 2].forEach((gap, i) => {
      expect(gaps[i + 1]! / gap).toBeGreaterThan(0.6);
      expect(gaps[i + 1]! / gap).toBeLessThan(1.6);
    });
  });
});

test.each(SHAPES.flatMap(shape => SIZES.map(rows => [rows, shape] as const)))(
  '%i tokens of %o: sinks, the survivors of the managed part, recent ones',
  (rows, shape) => {
    const options = { budget: 40, positions: 'kept', block: 1 } as const;
    const { cache, attention } = runPlain(treekv, options, rows, shape);
    const group = attention[0]!.length / shape.kvHeads;
    held(cache).forEach((heads, layer) => {
      heads.forEach((head, kv) => {
        // Blocks of one token: the last token's attention, averaged over the group.
        const members = attention[layer]!.slice(kv * group, (kv + 1) * group);
        const scores = range(rows).map(i => members.reduce((sum, matrix) => sum + matrix[rows - 1]![i]!, 0) / group);
        const survivors = treeCard(scores.slice(4, rows - 16), 20).map(i => 4 + i);
        const expected = [0, 1, 2, 3, ...survivors, ...range(16).map(i => rows - 16 + i)];
        expect(head).toEqual(rows <= 40 ? range(rows) : expected);
      });
    });
  },
);

test('while decoding the managed part stays full, sinks and recent ones are never touched', () => {
  const { cache, policy } = runPlain(treekv, { budget: 24, positions: 'kept' }, 50, { layers: 1 });
  const decoder = new PlainDecoder(cache, policy);
  for (let step = 0; step < 60; step++) {
    decoder.step(plainPrompt(cache.model, 1, plainRandom(step)));
    expect(lengths(cache)).toEqual([[24, 24]]);
    for (const head of held(cache)[0]!) {
      expect(head.slice(0, 4)).toEqual([0, 1, 2, 3]);
      expect(head.slice(-8)).toEqual(range(8).map(i => 43 + step + i));
    }
  }
});

test('decoding goes on with the pair at which the sweep of the prompt stood', () => {
  const options = { budget: 24, positions: 'kept', block: 1, sinks: 2, managed: 0.5 } as const;
  const { cache, policy } = runPlain(treekv, options, 61, { layers: 2, kvHeads: 2 });
  // 49 tokens went through a part of 12: pairs 0 to 11 three times, then 0.
  for (const layer of [0, 1]) expect(policy.step!(layer, cache.at(layer))!.evict!.cursors).toEqual([1, 1]);
  const decoder = new PlainDecoder(cache, policy);
  for (let step = 0; step < 30; step++) {
    const before = held(cache)[0]!;
    decoder.step(plainPrompt(cache.model, 1, plainRandom(step)));
    for (const [head, after] of held(cache)[0]!.entries()) {
      const pair = 2 + ((1 + step) % 12);
      const gone = before[head]!.findIndex(position => !after.includes(position));
      expect([pair, pair + 1]).toContain(gone);
    }
  }
  const short = runPlain(treekv, options, 20);
  expect(short.policy.step!(0, short.cache.at(0))!.evict!.cursors).toBeUndefined();
});

test('an average is over the queries that an entry has lived through', () => {
  const { cache, policy } = runPlain(treekv, { budget: 100, block: 8 }, 20, { layers: 1 });
  const queries = () => [...cache.at(0).column('queries', 0)];
  expect(queries()).toEqual([...Array(13).fill(8), 7, 6, 5, 4, 3, 2, 1]);
  const decoder = new PlainDecoder(cache, policy);
  decoder.step(plainPrompt(cache.model, 1, plainRandom(1)));
  expect(queries()).toEqual([...Array(13).fill(9), 8, 7, 6, 5, 4, 3, 2, 1]);
});

test('the step rule is the card: one stream of scores leaves the same survivors', () => {
  const model = plainModel({ layers: 1, kvHeads: 1, group: 1, headDim: 2 });
  const policy = treekv.create(treekv.options.parse({ budget: 20, sinks: 0, managed: 1, positions: 'kept' }), model);
  const cache = new PlainCache(model);
  const random = plainRandom(11);
  cache.prompt(policy, plainPrompt(model, 1, random));
  const decoder = new PlainDecoder(cache, policy);
  const stream: { position: number; sum: number; count: number }[] = [];
  cache.apply([
    { do: 'column', layer: 0, name: 'score', values: [Float32Array.of(0)] },
    { do: 'column', layer: 0, name: 'queries', values: [Float32Array.of(0)] },
  ]);
  stream.push({ position: 0, sum: 0, count: 0 });
  let idx = 1;
  for (let position = 1; position < 400; position++) {
    stream.push({ position, sum: 0, count: 0 });
    const given = Float64Array.from(stream, () => Math.fround(random()));
    stream.forEach((entry, i) => {
      entry.sum = Math.fround(entry.sum + given[i]!);
      entry.count++;
    });
    cache.append(0, plainPrompt(model, 1, random)[0]!, Int32Array.of(position));
    decoder.settle(0, [given]);
    if (stream.length > 20) {
      const [a, b] = [stream[idx - 1]!, stream[idx]!];
      stream.splice(a.sum / a.count <= b.sum / b.count ? idx - 1 : idx, 1);
      idx = (idx % 20) + 1;
    }
    expect([...cache.views[0]![0]!.positions]).toEqual(stream.map(entry => entry.position));
  }
});

test('renumbered, positions count on from the entries held', () => {
  const { cache, policy } = runPlain(treekv, { budget: 24 }, 50);
  const decoder = new PlainDecoder(cache, policy);
  for (let step = 0; step < 10; step++) decoder.step(plainPrompt(cache.model, 1, plainRandom(step)));
  for (const head of held(cache).flat()) expect(head).toEqual(range(24));
});
