import { expect, test } from 'vitest';
import { chooseOutliers, decodeScalar, encodeScalar } from '../../../kernels/reference/scalar.ts';
import type { ScalarFormat } from '../../cache/format.ts';
import { parseKvquantProfile } from '../profiles.ts';
import { plainModel, plainRandom } from '../testing.ts';
import { codebook, nearest, qNorm, type Samples } from './codebook.ts';
import { calibrateKvquant, channelRanges, normaliseChannels, normaliseTokens, withoutOutliers } from './kvquant.ts';

const random = plainRandom(21);
const normal = () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
/** Student's t with 3 degrees of freedom. */
const student = () => normal() / Math.sqrt((normal() ** 2 + normal() ** 2 + normal() ** 2) / 3);
const rows = (length: number, draw: () => number) => Float32Array.from({ length }, draw);

test('key ranges are percentiles of each channel, and never empty', () => {
  const x = Float32Array.from({ length: 101 * 2 }, (_, i) => (i % 2 === 0 ? Math.floor(i / 2) : 7));
  const { least, greatest } = channelRanges(x, 2, 0.1);
  expect([least[0], greatest[0]]).toEqual([5, 95]);
  expect(greatest[1]! - least[1]!).toBeCloseTo(1e-4, 9);
  expect((greatest[1]! + least[1]!) / 2).toBeCloseTo(7, 9);
});

test('normalised keys leave the share of outliers out and lie within -1 and 1', () => {
  const x = rows(4000 * 8, normal);
  const { least, greatest } = channelRanges(x, 8, 0.01);
  const { values } = normaliseChannels(x, least, greatest);
  expect(values.length / x.length).toBeCloseTo(0.99, 3);
  expect(Math.max(...values.map(Math.abs))).toBeLessThanOrEqual(1);
});

test('normalised values: the outermost are left out where ranges narrow most, the next are the ends', () => {
  const { values } = normaliseTokens(Float32Array.of(9, 1, 2, 3, -9, 5, 5, 5, 5, 5), 5, 5, 0.2);
  expect([...values]).toEqual([-1, 0, 1]);
});

test.each([0, 0.001, 0.01, 0.02, 0.05, 0.25])('values leave out what pages store apart, a share of %d', share => {
  for (const headDim of [8, 64, 128]) {
    const x = rows(64 * headDim, student);
    const sorted = Array.from({ length: 64 }, (_, t) =>
      Uint32Array.from({ length: headDim }, (_, c) => t * headDim + c).sort((a, b) => x[a]! - x[b]!),
    );
    const inside = withoutOutliers(x, sorted, share, headDim).flatMap(row => [...row]);
    const format: ScalarFormat = { kind: 'scalar', parts: [], outliers: { share, per: 'token' } };
    const apart = chooseOutliers(Float64Array.from(x), 64, headDim, format);
    expect(apart.size).toBe(share && 8 * Math.ceil(share * 8 * headDim - 1e-9));
    expect(inside.length).toBe(x.length - apart.size);
    expect(inside.filter(i => apart.has(i))).toEqual([]);
  }
});

test('the codebook is a fixed point of k-means, whatever the weights', () => {
  for (const weighted of [false, true]) {
    const values = Float64Array.from({ length: 5000 }, () => Math.tanh(normal() / 2));
    const weights = weighted ? values.map(x => Math.exp(2 * x)) : undefined;
    const samples: Samples = { values, ...(weights && { weights }) };
    for (const bits of [2, 3, 4]) {
      const lut = codebook(samples, bits, 2000);
      const sums = lut.map(() => [0, 0]);
      values.forEach((x, i) => {
        const sum = sums[nearest(lut, x)]!;
        sum[0]! += weights?.[i] ?? 1;
        sum[1]! += (weights?.[i] ?? 1) * x;
      });
      for (const [j, [mass, moment]] of sums.entries()) expect(moment! / mass!).toBeCloseTo(lut[j]!, 9);
    }
  }
});

test('two levels of normal numbers are the known best ones', () => {
  const samples = { values: Float64Array.from({ length: 200_000 }, normal) };
  const [a, b, c, d] = codebook(samples, 2);
  // Max (1960): 0.4528 and 1.510.
  expect([a, b, c, d].map(x => Math.abs(x!))).toEqual([
    expect.closeTo(1.51, 1),
    expect.closeTo(0.453, 1),
    expect.closeTo(0.453, 1),
    expect.closeTo(1.51, 1),
  ]);
});

test('Q-Norm gives decoded values the mean and the deviation of the samples', () => {
  const values = Float64Array.from({ length: 20_000 }, () => Math.tanh(0.3 + normal() / 3));
  const lut = codebook({ values }, 2);
  const stretched = qNorm(lut, { values });
  const moments = (x: Float64Array) => {
    const mean = x.reduce((a, b) => a + b, 0) / x.length;
    return [mean, Math.sqrt(x.reduce((a, b) => a + (b - mean) ** 2, 0) / x.length)];
  };
  const decoded = values.map(x => stretched[nearest(lut, x)]!);
  const [mean, deviation] = moments(values);
  expect(moments(decoded)[0]).toBeCloseTo(mean!, 9);
  expect(moments(decoded)[1]).toBeCloseTo(deviation!, 9);
  expect(qNorm([0, 0, 0, 0], { values })).toEqual([0, 0, 0, 0]);
});

test('2 bits: what runs encodes with the plain codebook, and its decoded inliers have the moments of the samples', () => {
  const [d, pages] = [64, 40];
  const v = rows(pages * 64 * d, () => Math.exp(normal() / 4));
  const profile = calibrateKvquant([{ k: v, v }], { kvHeads: 1, headDim: d, fingerprint: 'x', outliers: 0.02 });
  const { luts, borders } = profile.layers[0]!.v;
  const samples = normaliseTokens(v, d, d, 0.02);
  const plain = codebook(samples, 2);
  expect(borders[2]).toEqual([0, 1, 2].map(i => (plain[i]! + plain[i + 1]!) / 2));
  expect(luts[2]).toEqual(qNorm(plain, samples));
  const format: ScalarFormat = {
    kind: 'scalar',
    parts: [{ bits: 2, along: 'channel', lut: luts[2], borders: borders[2], lutRange: [-1, 1] }],
    outliers: { share: 0.02, per: 'token' },
  };
  const moments = { before: [0, 0], after: [0, 0] };
  let count = 0;
  for (let page = 0; page < pages; page++) {
    const x = Float64Array.from(v.subarray(page * 64 * d, (page + 1) * 64 * d));
    const plane = encodeScalar(x, 64, d, format);
    const decoded = decodeScalar(plane, d, format);
    const { scale, offset } = plane.parts[0]!;
    x.forEach((value, i) => {
      if (plane.outliers.has(i)) return;
      const token = Math.floor(i / d);
      for (const [name, y] of [
        ['before', value],
        ['after', decoded[i]!],
      ] as const) {
        const z = (y - offset[token]!) / scale[token]!;
        moments[name][0]! += z;
        moments[name][1]! += z * z;
      }
      count++;
    });
  }
  for (const i of [0, 1]) expect(moments.after[i]! / count).toBeCloseTo(moments.before[i]! / count, 3);
});

test('heavy tails: codebook and outliers each help, as on the card', () => {
  const d = 256;
  const tensors = (draw: () => number) => ({
    calibration: rows(d * 300, draw),
    pages: Array.from({ length: 4 }, () => Float64Array.from({ length: 64 * d }, draw)),
  });
  const error = (bits: 2 | 3, share: number, learned: boolean, { calibration, pages }: ReturnType<typeof tensors>) => {
    const lut = codebook(normaliseTokens(calibration, d, d, share), bits);
    const format: ScalarFormat = {
      kind: 'scalar',
      parts: [{ bits, along: 'channel', ...(learned && { lut, lutRange: [-1, 1] as const }) }],
      ...(share > 0 && { outliers: { share, per: 'token' as const } }),
    };
    let [lost, all] = [0, 0];
    for (const x of pages) {
      const y = decodeScalar(encodeScalar(x, 64, d, format), d, format);
      x.forEach((value, i) => {
        lost += (value - y[i]!) ** 2;
        all += value * value;
      });
    }
    return Math.sqrt(lost / all);
  };
  const heavy = tensors(student);
  for (const bits of [2, 3] as const) {
    const sparse = error(bits, 0.01, false, heavy);
    const both = error(bits, 0.01, true, heavy);
    expect(sparse).toBeLessThan(0.7 * error(bits, 0, false, heavy));
    expect(both).toBeLessThan(0.9 * sparse);
    // The card's figures for 1 % of each token.
    expect(both).toBeLessThan(bits === 2 ? 0.4 : 0.212);
  }
  const light = tensors(normal);
  expect(error(3, 0, false, light)).toBeCloseTo(0.234, 1);
  expect(error(3, 0, true, light)).toBeCloseTo(0.185, 1);
  expect(error(3, 0.01, true, light)).toBeLessThan(0.167);
});

test('calibration makes a profile that its parser takes, also of constant rows', () => {
  const model = plainModel({ layers: 2, kvHeads: 2, headDim: 16 });
  const layer = { k: rows(50 * 32, normal), v: rows(50 * 32, normal) };
  const constant = { k: new Float32Array(50 * 32).fill(3), v: new Float32Array(50 * 32) };
  const weighted = { ...layer, weightsK: layer.k.map(Math.abs), weightsV: layer.v.map(Math.abs) };
  const profile = calibrateKvquant([weighted, constant], { ...model });
  expect(parseKvquantProfile(JSON.parse(JSON.stringify(profile)), model)).toEqual(profile);
  expect(profile.layers[0]!.k.luts[3]).not.toEqual(calibrateKvquant([layer], model).layers[0]!.k.luts[3]);
});
