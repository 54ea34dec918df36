import { describe, expect, test } from 'vitest';
import { decodeScalar, encodeScalar } from '../../../kernels/reference/scalar.ts';
import type { ScalarFormat } from '../../cache/format.ts';
import { planPlane } from '../../cache/plane-layout.ts';
import { plainModel, plainRandom } from '../testing.ts';
import type { SignalRequest } from '../types.ts';
import { TrackedLayer } from './testing.ts';
import { vidkv } from './vidkv.ts';

const D = 64;
const ROWS = 64;
const PAGES = 8;
const random = plainRandom(8);
const normal = () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
const model = plainModel({ kvHeads: 2, headDim: D });
const upTo = (n: number) => Array.from({ length: n }, (_, i) => i);
const policyOf = (given: object = {}, shape = model) => vidkv.create(vidkv.options.parse(given), shape);

/** f32 [entries][D] as pages in the order of tokens. */
const pagesOf = (element: (token: number, channel: number) => number) =>
  Array.from({ length: PAGES }, (_, p) =>
    Float64Array.from({ length: ROWS * D }, (_, i) => element(p * ROWS + Math.floor(i / D), i % D)),
  );

function error(pages: readonly Float64Array[], format: ScalarFormat): number {
  let lost = 0;
  let all = 0;
  for (const x of pages) {
    const y = decodeScalar(encodeScalar(x, ROWS, D, format), D, format);
    x.forEach((value, i) => {
      lost += (value - y[i]!) ** 2;
      all += value * value;
    });
  }
  return Math.sqrt(lost / all);
}

/** The formats that a prompt of a page and a half gets; channel c of head h has the range `spread(h, c)`. */
function formats(given: object, spread = (_head: number, channel: number) => channel) {
  const layer = new TrackedLayer(model);
  layer.signal = ranges(spread);
  layer.prompt(policyOf({ buffer: 64, ...given }), 96);
  return layer.pages.map(([page]) => page as unknown as { k: ScalarFormat; v: ScalarFormat });
}

const ranges = (spread: (head: number, channel: number) => number) => (request: SignalRequest) => {
  expect(request).toEqual({ signal: 'ranges', of: 'k' });
  return upTo(model.kvHeads).map(head => {
    const least = upTo(D).map(() => normal());
    return Float32Array.of(...least, ...least.map((low, c) => low + spread(head, c)));
  });
};

/** One part over all channels, as the 1-bit channels of a recipe have it. */
const arm = (name: 'mean' | 'sign' | 'hadamard'): ScalarFormat => {
  const { channels: _, ...part } = formats({ normal: name })[0]!.k.parts[1]!;
  return { kind: 'scalar', parts: [part] };
};

test('signs and three steps lose of normal numbers what theory says, a range of 1 bit is useless', () => {
  const pages = pagesOf(normal);
  expect(error(pages, arm('sign'))).toBeCloseTo(Math.sqrt(1 - 2 / Math.PI), 1);
  expect(error(pages, formats({})[0]!.v)).toBeCloseTo(0.45, 2);
  expect(error(pages, formats({ threshold: 0.7 })[0]!.v)).toBeCloseTo(0.426, 2);
  expect(error(pages, { kind: 'scalar', parts: [{ bits: 1, along: 'token', group: 32 }] })).toBeGreaterThan(1.3);
});

describe('1-bit channels', () => {
  const offsets = Array.from({ length: D }, normal);
  const turned = (token: number) => {
    const row = offsets.map(offset => offset + normal());
    return row.map((x, c) => {
      const i = c % (D / 2);
      const angle = token * 10000 ** (-i / (D / 2));
      const pair = row[(c + D / 2) % D]!;
      return x * Math.cos(angle) + (c < D / 2 ? -1 : 1) * pair * Math.sin(angle);
    });
  };
  const rows = Array.from({ length: PAGES * ROWS }, (_, token) => turned(token));
  // Of the card: plain signs, signs of a transform (of Fourier there), signs around means.
  test.each([
    ['an offset that all channels share', () => 1 + normal(), 0.556, 0.425, 0.414],
    ['offsets of their own', (_: number, c: number) => offsets[c]! + normal(), null, null, null],
    ['offsets turned by RoPE', (token: number, c: number) => rows[token]![c]!, null, null, null],
  ] as const)('%s', (_, element, sign, hadamard, mean) => {
    const pages = pagesOf(element);
    const [signs, transformed, around] = [
      error(pages, arm('sign')),
      error(pages, arm('hadamard')),
      error(pages, arm('mean')),
    ];
    // The control arm is never worse, and the transform pays for a common offset alone.
    expect(around).toBeLessThan(signs);
    expect(around).toBeLessThan(transformed);
    if (sign === null) {
      expect(transformed).toBeGreaterThan(0.97 * signs);
      return;
    }
    expect(signs).toBeCloseTo(sign, 1);
    expect(transformed).toBeCloseTo(hadamard, 1);
    expect(around).toBeCloseTo(mean, 1);
    expect(transformed).toBeLessThan(0.85 * signs);
  });
});

test('values by channel win where they change slowly, and lose where a token has a size of its own', () => {
  const { v } = formats({ bitsV: 2 })[0]!;
  const perToken: ScalarFormat = { kind: 'scalar', parts: [{ bits: 2, along: 'channel', group: 32 }] };
  const level = Array.from({ length: D }, () => 2 * normal());
  const slow = pagesOf((token, c) => level[c]! + 0.5 * Math.sin(token / 200 + c) + 0.1 * normal());
  expect(error(slow, v)).toBeLessThan(0.5 * error(slow, perToken));
  const size = Array.from({ length: PAGES * ROWS }, () => Math.exp(1.5 * normal()));
  const sized = pagesOf(token => size[token]! * normal());
  expect(error(sized, perToken)).toBeLessThan(error(sized, v));
});

test.each([
  [{ bitsK: 1.5 }, 32],
  [{ bitsK: 1.25 }, 16],
])('%o: the widest channels of each head keep 2 bits', (given, count) => {
  const spread = (head: number, channel: number) => 1 + ((channel * (head === 0 ? 5 : 11)) % D);
  for (const [head, { k }] of formats(given, spread).entries()) {
    const order = upTo(D).sort((a, b) => spread(head, b) - spread(head, a));
    const wide = order.slice(0, count).sort((a, b) => a - b);
    const rest = order.slice(count).sort((a, b) => a - b);
    expect(k).toEqual({
      kind: 'scalar',
      parts: [
        { bits: 2, along: 'token', group: 32, channels: wide },
        { bits: 1, along: 'token', group: 32, channels: rest, range: 'deviation' },
      ],
    });
  }
});

test('what is held: codes and parameters, not the nominal bits', () => {
  const bits = (given: object, plane: 'k' | 'v') => planPlane(formats(given)[0]![plane], D, plane).bitsPerElement;
  expect(bits({}, 'k')).toBe(2.5);
  expect(bits({ normal: 'sign' }, 'k')).toBe(2.25);
  expect(bits({ normal: 'hadamard', group: 64 }, 'k')).toBe(1.875);
  expect(bits({ bitsK: 1.25, normal: 'sign' }, 'k')).toBe(1.875);
  expect(bits({ bitsK: 2 }, 'k')).toBe(3);
  expect(bits({}, 'v')).toBe(2.5);
  expect(bits({ bitsV: 2 }, 'v')).toBe(3);
});

test('channels are settled by the first prompt that is encoded, and stay', () => {
  const layer = new TrackedLayer(model);
  const policy = policyOf({ buffer: 64 });
  const up = (_: number, channel: number) => channel;
  const down = (_: number, channel: number) => -channel;
  layer.signal = ranges(up);
  layer.prompt(policy, 40);
  // Nothing is encoded yet: a longer prompt tells more.
  layer.signal = ranges(down);
  layer.prompt(policy, 20);
  layer.decode(policy, 10);
  expect(layer.encodedPositions(0, 'k')).toEqual(upTo(64));
  layer.signal = ranges(up);
  layer.prompt(policy, 100);
  layer.decode(policy, 100);
  expect(layer.encodedPositions(1, 'v')).toEqual(upTo(256));
  const wide = layer.pages
    .flat()
    .flatMap(({ k }) => (typeof k === 'string' ? [] : [(k as ScalarFormat).parts[0]!.channels]));
  expect(new Set(wide.map(String))).toEqual(new Set([String(upTo(32))]));
});

test.each([0, 1, 63, 64, 65, 127, 128, 129, 300])('whole buffers of %i tokens, each entry once', n => {
  const layer = new TrackedLayer(model);
  layer.signal = ranges(() => 1);
  const policy = policyOf();
  layer.prompt(policy, n);
  const due = (tokens: number) => tokens - (tokens % 128);
  expect(layer.encodedPositions(0, 'k')).toEqual(upTo(due(n)));
  layer.decode(policy, 200);
  expect(layer.encodedPositions(1, 'v')).toEqual(upTo(due(n + 200)));
  expect(layer.encoded.length).toBe(4 * due(n + 200));
});

test('protect: pages that the end of the prompt looks at most have 2-bit values', () => {
  const layer = new TrackedLayer(model);
  const given = { protect: 0.3, window: 16, buffer: 64 };
  const policy = policyOf(given);
  const tell = ranges(() => 1);
  layer.signal = request => {
    if (request.signal !== 'attention') return tell(request);
    expect(request).toEqual({ signal: 'attention', rows: 16, reduce: 'mean', group: 'mean' });
    return upTo(2).map(head =>
      Float32Array.from({ length: 640 }, (_, i) => (Math.floor(i / 64) * (head ? 3 : 7)) % 10),
    );
  };
  expect(policy.sense!(0)).toHaveLength(2);
  layer.prompt(policy, 640);
  for (const [head, factor] of [
    [0, 7],
    [1, 3],
  ] as const) {
    const wide = layer.pages[head]!.map(({ v }) => (v as ScalarFormat).parts[0]!.range === undefined);
    expect(wide).toEqual(upTo(10).map(page => (page * factor) % 10 >= 7));
  }
  layer.decode(policy, 64);
  expect((layer.pages[0]!.at(-1)!.v as ScalarFormat).parts[0]!.range).toBe('ternary');
  expect(vidkv.traitsOf!(vidkv.options.parse(given))).toMatchObject({ needsPrompt: true, prefixStable: false });
});

test('2 bits and no protection ask for nothing, so that prefixes may be shared', () => {
  const policy = policyOf({ bitsK: 2 });
  expect(policy.sense!(0)).toEqual([]);
  expect(vidkv.traitsOf!(vidkv.options.parse({ bitsK: 2 }))).toEqual({ stage: 'encode', prefixStable: true });
  const layer = new TrackedLayer(model);
  layer.prompt(policy, 128);
  expect(layer.pages[0]![0]!.k).toEqual({ kind: 'scalar', parts: [{ bits: 2, along: 'token', group: 32 }] });
});

test('a transform needs a power of two of channels', () => {
  const refused = expect.objectContaining({ code: 'invalid_request', field: 'normal', value: 'hadamard' });
  expect(() => policyOf({ normal: 'hadamard', bitsK: 1.25 })).toThrow(refused);
  expect(() => policyOf({ normal: 'hadamard' }, plainModel({ headDim: 80 }))).toThrow(refused);
  expect(() => policyOf({ normal: 'hadamard' })).not.toThrow();
  expect(() => policyOf({ normal: 'hadamard', bitsK: 2 }, plainModel({ headDim: 80 }))).not.toThrow();
});
