import { describe, expect, test } from 'vitest';
import { decodeScalar, encodeScalar } from '../../../kernels/reference/scalar.ts';
import type { ScalarFormat } from '../../cache/format.ts';
import { plainModel, plainRandom } from '../testing.ts';
import { type PlainScene, plainSignal } from '../testing-signals.ts';
import type { AttentionSignal, CacheLayer, SignalRequest } from '../types.ts';
import { TrackedLayer } from './testing.ts';
import { channelFactors, zipcache } from './zipcache.ts';

const ROWS = 64;
const random = plainRandom(21);
const normal = () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
const upTo = (n: number) => Array.from({ length: n }, (_, i) => i);
const policyOf = (given: object = {}, shape = plainModel({ kvHeads: 2, headDim: 64 })) =>
  zipcache.create(zipcache.options.parse(given), shape);

/** A layer whose saliency is `score`, by head and position. */
function tracked(score: (head: number, position: number) => number, headDim = 64): TrackedLayer {
  const layer = new TrackedLayer(plainModel({ kvHeads: 2, headDim }));
  layer.signal = (request: SignalRequest) =>
    layer.pages.map((pages, head) => {
      const positions = pages.flatMap(page => page.positions);
      if (request.signal === 'attention') return Float32Array.from(positions, position => score(head, position));
      expect(request).toEqual({ signal: 'ranges', of: 'v' });
      return Float32Array.from({ length: 2 * headDim }, (_, i) => (i < headDim ? -1 : 1) * (1 + (i % headDim)));
    });
  return layer;
}

const bitsOf = (page: { k: unknown }) => (page.k === 'f32' ? 32 : (page.k as ScalarFormat).parts[0]!.bits);

/** Positions of a head by bits of their keys, ascending. */
function classes(layer: TrackedLayer, head: number): Record<number, number[]> {
  const found: Record<number, number[]> = {};
  for (const page of layer.pages[head]!) {
    found[bitsOf(page)] = [...(found[bitsOf(page)] ?? []), ...page.positions];
  }
  for (const list of Object.values(found)) list.sort((a, b) => a - b);
  return found;
}

describe('values divided by the roots of their channels’ maxima', () => {
  const D = 128;
  const both = (given: object) => {
    const layer = tracked((_, position) => position, D);
    layer.prompt(policyOf(given, plainModel({ kvHeads: 2, headDim: D })), 256);
    return layer.pages[0]!.map(({ v }) => v as ScalarFormat);
  };
  const loss = (
    pages: readonly Float64Array[],
    format: ScalarFormat,
    side?: (most: Float32Array) => ArrayLike<number>,
  ): number => {
    let lost = 0;
    let all = 0;
    const ranges = new Float32Array(2 * D);
    for (const page of pages)
      page.forEach((x, i) => {
        ranges[i % D] = Math.min(ranges[i % D]!, x);
        ranges[D + (i % D)] = Math.max(ranges[D + (i % D)]!, x);
      });
    const shared = [{ side: side?.(ranges) ?? new Float32Array(D).fill(1) }];
    for (const x of pages) {
      const y = decodeScalar(encodeScalar(x, ROWS, D, format, shared), D, format, shared);
      x.forEach((value, i) => {
        lost += (value - y[i]!) ** 2;
        all += value * value;
      });
    }
    return Math.sqrt(lost / all);
  };
  const scaled = (sigma: number) => {
    const scales = Float64Array.from({ length: D }, () => Math.exp(sigma * normal()));
    return Array.from({ length: 16 }, () =>
      Float64Array.from({ length: ROWS * D }, (_, i) => scales[i % D]! * normal()),
    );
  };
  /** Figures of single draws of channel scales differ by a tenth: a few draws. */
  const mean = (sigma: number, of: (pages: Float64Array[]) => number) =>
    upTo(12).reduce(sum => sum + of(scaled(sigma)) / 12, 0);

  test.each([
    [2, 0.49, 0.74],
    [4, 0.097, 0.146],
  ] as const)('%i bits lose %f where plain groups of a token lose %f', (bits, withFactors, without) => {
    const [low, high] = [both({})[0]!, both({}).at(-1)!];
    expect([low.parts[0]!.bits, high.parts[0]!.bits].sort()).toEqual([2, 4]);
    const format = low.parts[0]!.bits === bits ? low : high;
    expect(format.parts).toEqual([{ bits, along: 'channel', side: true }]);
    const divided = mean(0.6, pages => loss(pages, format, channelFactors));
    const plain = mean(0.6, pages => loss(pages, format));
    expect(divided / withFactors).toBeCloseTo(1, 0);
    expect(Math.abs(divided - withFactors)).toBeLessThan(0.06 * withFactors);
    expect(Math.abs(plain - without)).toBeLessThan(0.12 * without);
    // About what groups of 32 channels would reach with four times the parameters.
    const fine = mean(0.6, pages => loss(pages, { kind: 'scalar', parts: [{ bits, along: 'channel', group: 32 }] }));
    expect(Math.abs(divided - fine)).toBeLessThan(0.1 * fine);
  });

  test('the root beats the maximum itself', () => {
    const format: ScalarFormat = { kind: 'scalar', parts: [{ bits: 2, along: 'channel', side: true }] };
    const root = mean(1, pages => loss(pages, format, channelFactors));
    const whole = mean(1, pages => loss(pages, format, ranges => channelFactors(ranges).map(c => c * c)));
    expect(root).toBeLessThan(0.97 * whole);
    expect(Math.abs(root - 0.467)).toBeLessThan(0.04);
  });

  test('nothing to divide by is 1', () => {
    expect([...channelFactors(Float32Array.of(0, -4, 0, -1e-12, 0, 1, 9, 1e-12))]).toEqual([1, 2, 3, 1]);
    const none = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
    expect([...channelFactors(Float32Array.of(...none))]).toEqual([1]);
  });
});

describe('rows that all look at everything alike', () => {
  const L = 2000;
  const scene: PlainScene = {
    headDim: 8,
    group: 1,
    window: 0,
    views: [
      [
        {
          k: new Float64Array(L * 8),
          v: new Float64Array(L * 8),
          positions: Int32Array.from(upTo(L)),
          columns: new Map(),
        },
      ],
    ],
    layer: 0,
    q: new Float64Array(L * 8),
    rowPositions: Int32Array.from(upTo(L)),
    hidden: new Float64Array(0),
    seed: 3,
  };
  const scores = (request: Partial<AttentionSignal>) =>
    plainSignal(scene, { signal: 'attention', rows: 'all', reduce: 'sum', ...request })[0]!;
  const mass = (x: Float32Array, from: number, to: number) => x.subarray(from, to).reduce((a, b) => a + b, 0);
  /** Mean of the first tenth over that of the last. */
  const slope = (x: Float32Array) => mass(x, 0, L / 10) / mass(x, L - L / 10, L);
  const asked = policyOf().sense!(0)[0] as AttentionSignal;

  test('sums favour early tokens, means over those that see them hardly, over probes less still', () => {
    expect(slope(scores({}))).toBeCloseTo(63, -1);
    expect(slope(scores({ reduce: 'seen-mean' }))).toBeCloseTo(3.4, 1);
    const probes = scores(asked);
    expect(slope(probes)).toBeGreaterThan(1);
    expect(slope(probes)).toBeLessThan(3);
    expect(mass(probes, 0.95 * L, L) / mass(probes, 0, L)).toBeLessThan(0.06);
  });

  test('dividing by all rows that see a token would favour late ones', () => {
    const sums = scores({ ...asked, reduce: 'sum' });
    const wrong = sums.map((x, i) => x / (L - i));
    expect(slope(wrong)).toBeLessThan(0.5);
    expect(mass(wrong, 0.95 * L, L) / mass(wrong, 0, L)).toBeGreaterThan(0.12);
  });
});

test('the tokens of least saliency of each head get few bits, the others more; what is left over stays', () => {
  const score = (head: number, position: number) => (head === 0 ? -position : position) + 1000;
  const layer = tracked(score);
  layer.prompt(policyOf({ buffer: 64 }), 345);
  // 320 are due: 128 of them regular.
  expect(classes(layer, 0)).toEqual({
    2: upTo(320).slice(192),
    4: upTo(192),
    32: upTo(345).slice(320),
  });
  expect(classes(layer, 1)).toEqual({ 2: upTo(128), 4: upTo(320).slice(128), 32: upTo(345).slice(320) });
  for (const page of layer.pages.flat())
    expect(
      page.k === 'f32' || (page.k as ScalarFormat).parts[0]!.bits === (page.v as ScalarFormat).parts[0]!.bits,
    ).toBe(true);
  const [page] = layer.pages[1]!;
  expect(page).toMatchObject({
    k: { kind: 'scalar', parts: [{ bits: 2, along: 'token' }] },
    v: { kind: 'scalar', parts: [{ bits: 2, along: 'channel', side: true }] },
  });
});

test.each([1, 19, 20, 63, 64, 65, 128, 300])('%i tokens, then 300 steps: each token is encoded once', rows => {
  const policy = policyOf();
  const layer = tracked((_, position) => (position * 7919) % 101);
  layer.prompt(policy, rows);
  layer.decode(policy, 300);
  for (const head of [0, 1]) {
    const keys = layer.encoded.filter(e => e.head === head && e.plane === 'k').map(({ position }) => position);
    expect(keys.sort((a, b) => a - b)).toEqual(upTo(rows + 300 - ((rows + 300) % 128)));
    const { 2: low = [], 4: high = [] } = classes(layer, head);
    expect(low.length + high.length).toBe(keys.length);
    // The nearest page to 40 %.
    expect(Math.abs(low.length - 0.4 * keys.length)).toBeLessThanOrEqual(32);
  }
});

test('all regular, all salient', () => {
  for (const [regular, bits] of [
    [1, 2],
    [0, 4],
  ] as const) {
    const layer = tracked((_, position) => position);
    layer.prompt(policyOf({ regular }), 256);
    expect(classes(layer, 0)).toEqual({ [bits]: upTo(256) });
  }
});

test('factors are those of the first prompt that something is encoded of', () => {
  let scale = 1;
  const layer = tracked((_, position) => position);
  const { signal } = layer;
  layer.signal = request =>
    request.signal === 'ranges'
      ? (signal(request) as Float32Array[]).map(range => range.map(x => scale * x))
      : signal(request);
  const policy = policyOf({ buffer: 64 });
  const blocks: Float32Array[] = [];
  const watched = {
    ...policy,
    decide: (at: Parameters<NonNullable<typeof policy.decide>>[0]) => {
      const actions = policy.decide!(at);
      for (const action of actions) if (action.do === 'encode') blocks.push(action.sharedV!.values);
      return actions.filter(action => action.do === 'encode');
    },
  };
  layer.prompt(watched, 30);
  scale = 4;
  layer.prompt(watched, 40);
  scale = 9;
  layer.prompt(watched, 100);
  expect(blocks.length).toBe(8);
  for (const block of blocks) expect(block[3]).toBeCloseTo(4, 6);
});

test('decoding looks at the same shares of steps: the last ones before a buffer is full, and some others', () => {
  const policy = policyOf();
  const layer = tracked((_, position) => position);
  let at: CacheLayer | undefined;
  layer.prompt(
    {
      ...policy,
      decide(point) {
        at = point;
        return policy.decide!(point).filter(({ do: kind }) => kind === 'encode');
      },
    },
    150,
  );
  const { within, columns } = policy.step!(0, at!)!;
  expect(columns).toMatchObject([{ value: { op: 'add', b: { op: 'attention', group: 'sum' } } }]);
  expect(within!.period).toBe(128);
  expect(new Set(within!.steps).size).toBe(14);
  // Entries 128..255 are encoded when 256 tokens have been seen.
  for (let seen = 250; seen <= 256; seen++) expect(within!.steps).toContain(seen % 128);
});

test('while decoding, sums are divided by the probes that saw a token; one that none saw is salient', () => {
  const policy = policyOf({ buffer: 64, last: 0.02, sampled: 0.03 });
  const layer = tracked((_, position) => position);
  let point: CacheLayer | undefined;
  layer.prompt(
    {
      ...policy,
      decide(at) {
        point = at;
        return policy.decide!(at).filter(({ do: kind }) => kind === 'encode');
      },
    },
    64,
  );
  const { steps } = policy.step!(0, point!)!.within!;
  expect(steps.length).toBe(4);
  const filled: number[] = [];
  layer.columns = () => Float32Array.from({ length: 128 }, () => 1);
  layer.decode(
    {
      ...policy,
      filled: at => {
        filled.push(at.seen);
        return policy.filled!(at);
      },
    },
    64,
  );
  expect(filled).toEqual([128]);
  // The same sum of fewer probes is more: the late ones are salient. 26 regular ones of 64 are due, after 26 of the first 64.
  const { 2: low = [], 4: high = [] } = classes(layer, 0);
  const before = { low: low.filter(p => p < 64).length, high: high.filter(p => p < 64).length };
  expect(before).toEqual({ low: 0, high: 64 });
  expect(low).toEqual(upTo(128).slice(64));
});
