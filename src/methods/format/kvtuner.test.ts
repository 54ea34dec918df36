import { describe, expect, test } from 'vitest';
import { plainModel } from '../testing.ts';
import { BASES, formatPairs, kvtuner, parsePairs } from './kvtuner.ts';
import { TrackedLayer } from './testing.ts';

const model = plainModel({ layers: 3, kvHeads: 2, headDim: 64 });
const create = (given: object) => kvtuner.create(kvtuner.options.parse(given), model);
const upTo = (n: number) => Array.from({ length: n }, (_, i) => i);

describe('pairs as text', () => {
  test.each([
    ['k8v4', [{ k: 8, v: 4 }], 'k8v4'],
    [
      'k8v4*2  k4v2',
      [
        { k: 8, v: 4 },
        { k: 8, v: 4 },
        { k: 4, v: 2 },
      ],
      'k8v4*2 k4v2',
    ],
    ['k3v2', [{ k: 3, v: 2 }], 'k3v2'],
    [
      ' k16v2 k16v2 ',
      [
        { k: 16, v: 2 },
        { k: 16, v: 2 },
      ],
      'k16v2',
    ],
  ])('%s', (text, pairs, shortest) => {
    expect(parsePairs(text)).toEqual(pairs);
    expect(formatPairs(parsePairs(text)!)).toBe(shortest);
  });

  test.each(['', 'k8', 'k8v5', 'v4k8', 'k8v4*0', 'k8v4,k4v2', 'k8v4*x'])('%j is none', text => {
    expect(parsePairs(text)).toBeNull();
    expect(kvtuner.options.safeParse({ pairs: text }).success).toBe(false);
  });

  test('one pair a layer, or one for all', () => {
    expect(() => create({ pairs: 'k8v4*2' })).toThrow(
      expect.objectContaining({ code: 'invalid_request', field: 'pairs', value: 'k8v4*2', allowed: 'one pair, or 3' }),
    );
    expect(() => create({ pairs: 'k8v4*3' })).not.toThrow();
  });
});

test('pairs of another model are refused', () => {
  expect(() => create({ model: 'ffffffff' })).toThrow(expect.objectContaining({ field: 'model', value: 'ffffffff' }));
  expect(() =>
    kvtuner.create(kvtuner.options.parse({ model: 'ab12cd34' }), { ...model, fingerprint: 'ab12cd34ef' }),
  ).not.toThrow();
  expect(kvtuner.options.safeParse({ model: 'xyz' }).success).toBe(false);
});

test('16 bits throughout do nothing at all', () => {
  expect(create({ pairs: 'k16v16' })).toEqual({});
  expect(create({ pairs: 'k16v16*2 k16v8' })).not.toEqual({});
});

test.each([0, 1, 63, 64, 65, 127, 128, 200, 640])('each layer has its own formats, of %i tokens what is due', n => {
  const policy = create({ pairs: 'k8v2 k16v4 k4v16' });
  const formats = [
    { k: 8, v: 2 },
    { k: 0, v: 4 },
    { k: 4, v: 0 },
  ];
  for (const [layer, { k, v }] of formats.entries()) {
    const tracked = new TrackedLayer(model);
    tracked.prompt(policy, n, undefined, layer);
    const dueK = n - (n % 64);
    const dueV = Math.floor(Math.max(0, n - 64) / 64) * 64;
    expect(tracked.encodedPositions(1, 'k')).toEqual(upTo(k === 0 ? 0 : dueK));
    expect(tracked.encodedPositions(1, 'v')).toEqual(upTo(v === 0 ? 0 : dueV));
    const page = tracked.pages[0]![0];
    if (n >= 128 && k > 0) expect(page!.k).toEqual({ kind: 'scalar', parts: [{ bits: k, along: 'token', group: 32 }] });
    if (n >= 128 && v > 0)
      expect(page!.v).toEqual({ kind: 'scalar', parts: [{ bits: v, along: 'channel', group: 32 }] });
  }
});

test('base=token: a group a head, all whole pages', () => {
  const policy = create({ pairs: 'k4v2', base: 'token' });
  const tracked = new TrackedLayer(model);
  tracked.prompt(policy, 130);
  tracked.decode(policy, 70);
  expect(tracked.encodedPositions(0, 'k')).toEqual(upTo(192));
  expect(tracked.encodedPositions(1, 'v')).toEqual(upTo(192));
  expect(tracked.pages[0]![0]!.k).toEqual({ kind: 'scalar', parts: [{ bits: 4, along: 'channel', group: 64 }] });
});

test('base=page: keys along a page, values a group a head, all whole pages', () => {
  const policy = create({ pairs: 'k4v3', base: 'page' });
  const tracked = new TrackedLayer(model);
  tracked.prompt(policy, 130);
  tracked.decode(policy, 70);
  expect(tracked.encodedPositions(0, 'k')).toEqual(upTo(192));
  expect(tracked.encodedPositions(1, 'v')).toEqual(upTo(192));
  expect(tracked.pages[0]![0]).toMatchObject({
    k: { kind: 'scalar', parts: [{ bits: 4, along: 'token', group: 64 }] },
    v: { kind: 'scalar', parts: [{ bits: 3, along: 'channel', group: 64 }] },
  });
});

test('prompts cut anywhere and decoding end in the same pages, each element encoded once', () => {
  for (const base of BASES) {
    const policy = create({ pairs: 'k4v2', base });
    const whole = new TrackedLayer(model);
    whole.prompt(policy, 700);
    const cut = new TrackedLayer(model);
    cut.prompt(policy, 333);
    cut.decode(policy, 200);
    cut.prompt(policy, 167);
    expect(cut.pages).toEqual(whole.pages);
    const keys = cut.encoded.map(({ head, plane, position }) => `${head} ${plane} ${position}`);
    expect(new Set(keys).size).toBe(keys.length);
  }
});
