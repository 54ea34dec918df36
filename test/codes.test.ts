import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { fitLowRank, half } from '../kernels/reference/scalar.ts';
import { type CpuKernels, createKernels } from '../src/backend/cpu/kernels.ts';
import type { ScalarFormat } from '../src/cache/format.ts';
import { gear } from '../src/methods/format/gear.ts';
import { kivi } from '../src/methods/format/kivi.ts';
import { kvquant } from '../src/methods/format/kvquant.ts';
import { TrackedLayer } from '../src/methods/format/testing.ts';
import { channelFactors, zipcache } from '../src/methods/format/zipcache.ts';
import { plainModel } from '../src/methods/testing.ts';
import type { Action, Policy, PromptLayer, SignalRequest } from '../src/methods/types.ts';
import { compareCodes, drawnRows, type GoldenCodes } from './helpers/golden-codes.ts';
import { PlaneCell } from './helpers/plane-cell.ts';

/** See golden/methods/README.md. */
interface Case extends Partial<GoldenCodes> {
  readonly method: string;
  readonly options: { readonly bits: number };
  readonly seed: number;
  readonly width: number;
  readonly plane?: 'k' | 'v';
  readonly factors?: readonly number[];
  readonly lut?: readonly number[];
  readonly stretch?: number;
  readonly shift?: number;
  readonly least?: number[];
  readonly greatest?: number[];
  readonly decoded?: readonly number[];
}

const TOKENS = 64;
const file = new URL('golden/methods/codes.json', import.meta.url);
const cases: readonly Case[] = JSON.parse(readFileSync(file, 'utf8'));
const of = (method: string) => cases.filter(item => item.method === method);
/** Of KIVI and ZipCache. */
const withCodes = (method: string) => of(method) as readonly (Case & GoldenCodes & { readonly plane: 'k' | 'v' })[];

const drawn = ({ seed, width }: Case) => drawnRows(seed, width);
const shapeOf = ({ width }: Case) => plainModel({ layers: 1, kvHeads: 1, headDim: width });

let kernels: CpuKernels;
beforeAll(async () => {
  kernels = await createKernels({ limit: 2 ** 26 });
});
afterAll(() => kernels.dispose());

/** The formats of a method's first page. */
function formatsOf(policy: Policy, golden: Case, signal?: (request: SignalRequest) => unknown) {
  const layer = new TrackedLayer(shapeOf(golden));
  if (signal) layer.signal = signal;
  layer.prompt(policy, 512);
  const { k, v } = layer.pages[0]![0]!;
  return { k: k as ScalarFormat, v: v as ScalarFormat };
}

test('there are cases of each method', () => {
  expect(['kivi', 'kvquant', 'gear', 'zipcache'].map(name => of(name).length)).toEqual([6, 6, 2, 4]);
});

describe.each(withCodes('kivi'))('$method $options, $width channels, $plane', golden => {
  test('has the codes, scales and minima of the authors', () => {
    const { k, v } = formatsOf(kivi.create(kivi.options.parse(golden.options), shapeOf(golden)), golden);
    const cell = new PlaneCell(kernels, golden.width, k, v);
    const x = drawn(golden);
    cell.encode(TOKENS, x, x);
    compareCodes(cell, golden.plane, 0, golden, x);
    cell.dispose();
  });
});

describe.each(withCodes('zipcache'))('$method $options, $plane', golden => {
  test('has the codes, parameters and channel factors of the authors', () => {
    const { bits } = golden.options;
    const x = drawn(golden);
    const { width } = golden;
    const column = (c: number) => Array.from({ length: TOKENS }, (_, t) => x[t * width + c]!);
    const channels = Array.from({ length: width }, (_, c) => column(c));
    const ranges = Float32Array.of(...channels.map(c => Math.min(...c)), ...channels.map(c => Math.max(...c)));
    const factors = Array.from(channelFactors(ranges), half);
    golden.factors?.forEach((factor, c) => {
      expect(Math.abs(factors[c]! - factor)).toBeLessThan(2 ** -10 * factor);
    });
    const all = { bitsRegular: bits, bitsSalient: bits };
    const { k, v } = formatsOf(zipcache.create(zipcache.options.parse(all), shapeOf(golden)), golden, ({ signal }) => [
      signal === 'ranges' ? ranges : new Float32Array(512),
    ]);
    const cell = new PlaneCell(kernels, width, k, v, { v: factors });
    cell.encode(TOKENS, x, x);
    const scaled = golden.factors ? x.map((value, i) => value / golden.factors![i % width]!) : x;
    compareCodes(cell, golden.plane, 0, golden, scaled);
    cell.dispose();
  });
});

describe.each(of('kvquant'))('$method $options, $plane', golden => {
  test('decodes as the authors do, outliers and Q-Norm included', () => {
    const { width, plane = 'k', lut = [], stretch = 1, shift = 0 } = golden;
    const { bits } = golden.options;
    const ends = Array(width).fill(1);
    const even = (length: number) => Array.from({ length }, (_, i) => (2 * i + 1) / length - 1);
    const between = lut.slice(1).map((high, i) => (lut[i]! + high) / 2);
    const books = {
      luts: { 2: even(4), 3: even(8), 4: even(16), [bits]: lut.map(x => x * stretch + shift) },
      borders: { 2: bits === 2 ? between : [-0.5, 0, 0.5] },
    };
    const { least = ends.map(x => -x), greatest = ends } = golden;
    const model = shapeOf(golden);
    const profile = {
      kind: 'kvquant',
      fingerprint: model.fingerprint,
      // Keys have slots for all that lies beyond their ranges; values have none.
      outliers: plane === 'k' ? 0.25 : 0,
      layers: [{ k: { least, greatest, ...books }, v: books }],
    };
    const policy = kvquant.create(kvquant.options.parse({ bits, sinks: 0 }), model, profile);
    const made: Action[] = [];
    const decide = (at: PromptLayer) => {
      made.push(...policy.decide!(at));
      return [];
    };
    new TrackedLayer(model).prompt({ ...policy, decide }, TOKENS);
    const [action] = made;
    if (action?.do !== 'encode') throw new Error('nothing to encode');
    const block = Array.from(action.sharedK!.values, half);
    const cell = new PlaneCell(kernels, width, action.k as ScalarFormat, action.v as ScalarFormat, { k: block });
    const x = drawn(golden);
    cell.encode(TOKENS, x, x);
    const ours = cell.read()[plane];
    let [differing, apart] = [0, 0];
    for (let at = 0; at < ours.length; at++) {
      const row = x.subarray(at - (at % width), at - (at % width) + width);
      const [low, high] =
        plane === 'k' ? [least[at % width]!, greatest[at % width]!] : [Math.min(...row), Math.max(...row)];
      const theirs = golden.decoded![at]!;
      if (x[at]! < low || x[at]! > high) apart++;
      if (Math.abs(ours[at]! - theirs) < 2 ** -9 * (Math.abs(x[at]!) + high - low)) continue;
      differing++;
      const z = (2 * x[at]! - high - low) / (high - low);
      expect(Math.min(...between.map(border => Math.abs(z - border)))).toBeLessThan(2 ** -8);
    }
    expect(differing).toBeLessThan(0.01 * ours.length);
    if (plane === 'k') expect(apart).toBeGreaterThan(0);
    cell.dispose();
  });
});

describe.each(of('gear'))('$method $options', golden => {
  test('has the pair that the authors find from the same start', () => {
    const { width } = golden;
    const { k } = formatsOf(gear.create(gear.options.parse(golden.options), shapeOf(golden)), golden);
    const { rank, rounds } = k.lowRank!;
    expect({ rank, rounds }).toEqual(golden.options);
    const x = Float64Array.from(drawn(golden));
    const [a, b] = fitLowRank(x, width, rank, rounds!);
    const most = Math.max(...golden.decoded!.map(Math.abs));
    for (let i = 0; i < x.length; i++) {
      let sum = 0;
      for (let r = 0; r < rank; r++) sum += a[Math.floor(i / width) * rank + r]! * b[r * width + (i % width)]!;
      expect(Math.abs(sum - golden.decoded![i]!)).toBeLessThan(1e-5 * most);
    }
  });
});
