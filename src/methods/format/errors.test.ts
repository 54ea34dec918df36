import { expect, test } from 'vitest';
import { decodeScalar, encodeScalar, fitLowRank } from '../../../kernels/reference/scalar.ts';
import type { ScalarFormat } from '../../cache/format.ts';
import { symmetricEigen } from '../shared/eigen.ts';
import { plainModel, plainRandom } from '../testing.ts';
import { gear } from './gear.ts';
import { kivi } from './kivi.ts';
import { TrackedLayer } from './testing.ts';

/** What the formats of the cards lose, by the plain float64 encoder. Figures are those of the cards, on synthetic tensors. */

const ROWS = 64;
const random = plainRandom(11);
const normal = () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
const gaussian = (d: number) => Float64Array.from({ length: ROWS * d }, normal);

function formatOf(method: typeof kivi | typeof gear, given: object, headDim: number) {
  const model = plainModel({ kvHeads: 1, headDim });
  const layer = new TrackedLayer(model);
  layer.prompt((method as typeof kivi).create(method.options.parse(given) as never, model), 512);
  return layer.pages[0]![0]! as unknown as { k: ScalarFormat; v: ScalarFormat };
}

function relativeError(pages: readonly Float64Array[], d: number, format: ScalarFormat): number {
  let lost = 0;
  let all = 0;
  for (const x of pages) {
    const y = decodeScalar(encodeScalar(x, ROWS, d, format), d, format);
    x.forEach((value, i) => {
      lost += (value - y[i]!) ** 2;
      all += value * value;
    });
  }
  return Math.sqrt(lost / all);
}

test.each([
  [2, 32, 0.394],
  [2, 64, 0.45],
  [3, 32, 0.168],
  [3, 64, 0.193],
  [4, 32, 0.079],
  [4, 64, 0.09],
  [8, 32, 0.005],
] as const)('%i bits in groups of %i lose %f of normal numbers', (bits, group, expected) => {
  const { k, v } = formatOf(kivi, { bits, group }, 64);
  const pages = Array.from({ length: 8 }, () => gaussian(64));
  expect(relativeError(pages, 64, k)).toBeCloseTo(expected, 2);
  expect(relativeError(pages, 64, v)).toBeCloseTo(expected, 2);
});

test('kivi: keys with channels of great offsets lose less along tokens than along channels', () => {
  const offsets = Float64Array.from({ length: 64 }, (_, c) => (c % 16 === 3 ? 8 * (normal() > 0 ? 1 : -1) : 0));
  const keys = Array.from({ length: 8 }, () => gaussian(64).map((x, i) => x + offsets[i % 64]!));
  const perChannel = relativeError(keys, 64, formatOf(kivi, {}, 64).k);
  const perToken = relativeError(keys, 64, { kind: 'scalar', parts: [{ bits: 2, along: 'channel' }] });
  expect(perToken).toBeGreaterThan(2 * perChannel);
});

test('kivi: what attention reads of values of uneven tokens loses less along channels than along tokens', () => {
  const d = 64;
  let [perToken, perChannel, all] = [0, 0, 0];
  const { v } = formatOf(kivi, {}, d);
  for (let page = 0; page < 8; page++) {
    const sizes = Array.from({ length: ROWS }, () => Math.exp(normal()));
    const x = gaussian(d).map((value, i) => value * sizes[Math.floor(i / d)]!);
    // Attention is peaked, and tokens with large values get little of it, as sinks do the other way about.
    const weights = sizes.map(size => Math.exp(3 * normal()) / size ** 2);
    const total = weights.reduce((sum, w) => sum + w, 0);
    const read = (rows: Float64Array) =>
      Array.from({ length: d }, (_, c) => weights.reduce((sum, w, t) => sum + (w / total) * rows[t * d + c]!, 0));
    const lost = (format: ScalarFormat) =>
      read(decodeScalar(encodeScalar(x, ROWS, d, format), d, format).map((value, i) => value - x[i]!)).reduce(
        (sum, value) => sum + value ** 2,
        0,
      );
    perToken += lost(v);
    perChannel += lost({ kind: 'scalar', parts: [{ bits: 2, along: 'token', group: 32 }] });
    all += read(x).reduce((sum, value) => sum + value ** 2, 0);
  }
  expect(Math.sqrt(perToken / all)).toBeLessThan(0.6);
  expect(perChannel).toBeGreaterThan(4 * perToken);
});

test('kivi: no block of keys has a scale of 0, as blocks of one token would', () => {
  const model = plainModel({ kvHeads: 1, headDim: 64 });
  const layer = new TrackedLayer(model);
  const policy = kivi.create(kivi.options.parse({}), model);
  layer.prompt(policy, 65);
  layer.decode(policy, 400);
  const encoded = layer.pages[0]!.filter(page => page.k !== 'f32');
  expect(encoded.length).toBe(6);
  for (const { positions, k } of encoded) {
    expect(positions).toHaveLength(ROWS);
    const [part] = encodeScalar(gaussian(64), positions.length, 64, k as ScalarFormat).parts;
    expect(Math.min(...part!.scale)).toBeGreaterThan(0);
  }
});

test('gear: sparse slots help, the low-rank pair never hurts and finds structure', () => {
  const d = 64;
  const smooth = () => {
    const [u, w] = [gaussian(d), gaussian(d)];
    return gaussian(d).map((x, i) => 0.3 * x + 2 * u[Math.floor(i / d)]! * w[i % d]! * (normal() > 1.8 ? 4 : 1));
  };
  const { k, v } = formatOf(gear, {}, d);
  for (const format of [k, v]) {
    const { parts, outliers, lowRank } = format;
    for (let n = 0; n < 6; n++) {
      const pages = [n % 2 === 0 ? gaussian(d) : smooth()];
      const codes = relativeError(pages, d, { kind: 'scalar', parts });
      const sparse = relativeError(pages, d, { kind: 'scalar', parts, outliers: outliers! });
      const whole = relativeError(pages, d, format);
      const light = relativeError(pages, d, { kind: 'scalar', parts, lowRank: lowRank! });
      expect(sparse).toBeLessThan(codes);
      // The pair is a projection of the error; f16 alone may add to it.
      expect(whole).toBeLessThan(sparse + 1e-3);
      expect(light).toBeLessThan(codes + 1e-3);
    }
  }
});

test('gear: on structured errors the pair holds more energy than it would of noise', () => {
  const d = 64;
  const wave = Float64Array.from({ length: ROWS * d }, (_, i) => {
    const [t, c] = [Math.floor(i / d), i % d];
    return 3 * Math.cos(t * 10000 ** (-(c % 32) / 32)) + (c % 16 === 0 ? 8 : 0);
  });
  const keys = Array.from({ length: 6 }, () => gaussian(d).map((x, i) => 0.5 * x + wave[i]!));
  const { parts, lowRank } = formatOf(gear, {}, d).k;
  const without = relativeError(keys, d, { kind: 'scalar', parts });
  const repaired = relativeError(keys, d, { kind: 'scalar', parts, lowRank: lowRank! });
  expect(1 - (repaired / without) ** 2).toBeGreaterThan(0.125);
});

test('gear: three rounds find nearly what the best pair of that rank holds of structured errors', () => {
  const d = 64;
  const { parts, lowRank } = formatOf(gear, { rank: 2 }, d).k;
  expect(lowRank).toEqual({ rank: 2, rounds: 3 });
  const plain: ScalarFormat = { kind: 'scalar', parts };
  let [held, best] = [0, 0];
  for (let n = 0; n < 8; n++) {
    // Four channels stand far from 0 before RoPE, which turns each with another.
    const rows = gaussian(d).map((value, i) => value + ([3, 19, 40, 55].includes(i % d) ? 8 : 0));
    const x = rows.map((value, i) => {
      const [t, c] = [Math.floor(i / d), i % d];
      const angle = (n * ROWS + t) * 10000 ** (-(c % 32) / 32);
      const other = c < 32 ? -rows[i + 32]! : rows[i - 32]!;
      return value * Math.cos(angle) + other * Math.sin(angle);
    });
    const error = decodeScalar(encodeScalar(x, ROWS, d, plain), d, plain).map((value, i) => x[i]! - value);
    const gram = new Float64Array(d * d);
    for (let i = 0; i < d; i++)
      for (let j = 0; j < d; j++)
        for (let t = 0; t < ROWS; t++) gram[i * d + j]! += error[t * d + i]! * error[t * d + j]!;
    const [, b] = fitLowRank(error, d, 2, 3);
    // A is orthonormal: the energy of A B is that of B.
    held += b.reduce((sum, value) => sum + value ** 2, 0);
    best += Array.from(symmetricEigen(gram, d).values)
      .sort((a, b) => b - a)
      .slice(0, 2)
      .reduce((a, b) => a + b);
  }
  expect(held).toBeLessThanOrEqual(best * (1 + 1e-9));
  expect(held).toBeGreaterThan(0.85 * best);
});
