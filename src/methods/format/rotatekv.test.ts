import { describe, expect, test } from 'vitest';
import { decodeJoint, encodeJoint } from '../../../kernels/reference/joint.ts';
import type { JointFormat, ScalarPart } from '../../cache/format.ts';
import { channelOrder, keyMeans } from '../calibrate/rotatekv.ts';
import { PlainCache, plainModel, plainPrompt, plainRandom } from '../testing.ts';
import type { JoinAction, ModelShape } from '../types.ts';
import { rotatekv } from './rotatekv.ts';

const range = (n: number) => Array.from({ length: n }, (_, i) => i);
const normal = (random: () => number) => () =>
  Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
const make = (options: object, model: ModelShape, profile?: unknown) =>
  rotatekv.create(rotatekv.options.parse(options), model, profile);

function joinsOf(options: object, model: ModelShape, rows: number, profile?: unknown, massive: readonly number[] = []) {
  const prompt = plainPrompt(model, rows, plainRandom(rows + 3));
  for (const { hidden } of prompt) for (const token of massive) hidden[token * 16 + 5] = 900;
  const actions = new PlainCache(model).prompt(make(options, model, profile), prompt);
  return actions.map(of => of.filter((action): action is JoinAction => action.do === 'join'));
}

/** Sylvester's: entry (i, j) has the sign of the parity of the ones that i and j share. */
const parity = (x: number): number => (x === 0 ? 0 : (x & 1) ^ parity(x >> 1));
const rotated = (x: readonly number[]) =>
  x.map((_, i) => x.reduce((sum, value, j) => sum + (parity(i & j) ? -value : value), 0));

describe('the profile', () => {
  test.each([1, 2, 16, 64, 512])('channels of %i in the order of their rotated means', width => {
    const mean = range(width).map(normal(plainRandom(width)));
    const order = channelOrder(mean, width);
    expect([...order].sort((a, b) => a - b)).toEqual(range(width));
    const means = rotated(mean);
    for (let i = 1; i < width; i++) expect(means[order[i]!]!).toBeGreaterThanOrEqual(means[order[i - 1]!]! - 1e-9);
    expect(channelOrder(null, width)).toEqual(range(width));
    expect(channelOrder(Array(width).fill(0), width)).toEqual(range(width));
  });

  test('holds means to four digits, by layer and channel', () => {
    const profile = keyMeans([Float64Array.of(3, -1, 0), Float64Array.of(2, 1e6, 7)], 3, 'model');
    expect(profile).toEqual({
      kind: 'rotatekv',
      fingerprint: 'model',
      layers: [{ mean: [1, -0.3333, 0] }, { mean: [0.6667, 333300, 2.333] }],
    });
  });
});

describe.each([
  [{ layers: 2, kvHeads: 1, group: 1, headDim: 32 }, 1],
  [{ layers: 2, kvHeads: 1, group: 8, headDim: 32 }, 1],
  [{ layers: 1, kvHeads: 6, group: 1, headDim: 16 }, 2],
  [{ layers: 1, kvHeads: 8, group: 2, headDim: 32 }, 4],
])('%o', (shape, together) => {
  test.each([0, 1, 63, 64, 65, 66, 130])(
    '%i tokens: whole pages of all but the tokens of the greatest elements, heads together',
    rows => {
      const model = plainModel(shape);
      const massive = rows > 1 ? [0, rows >> 1] : [];
      for (const [n, joins] of joinsOf({ peaks: 2 }, model, rows, undefined, massive).entries()) {
        expect(n).toBeLessThan(model.layers);
        const free = range(rows).filter(i => !massive.includes(i));
        // One token has both greatest elements where there is no other.
        const count = Math.floor((rows > 1 ? free.length : 0) / 64) * 64;
        expect(joins).toHaveLength(count > 0 ? model.kvHeads / together : 0);
        const views = joins.flatMap(join => join.views.map(({ head }) => head));
        if (count > 0) expect(views).toEqual(range(model.kvHeads));
        for (const { entries } of joins) for (const own of entries) expect([...own]).toEqual(free.slice(0, count));
      }
    },
  );
});

describe('two bits of keys with channels that stand out, a group of 128', () => {
  const [heads, d, tokens] = [4, 128, 64];
  const model = plainModel({ layers: 1, kvHeads: heads, group: 1, headDim: d });
  const random = plainRandom(8);
  const draw = normal(random);
  const outlying = new Set(range(12).map(() => Math.floor(random() * heads * d)));
  const offset = range(heads * d).map(c => (outlying.has(c) ? (random() < 0.5 ? -8 : 8) : 0));
  const keys = () =>
    range(heads).map(h => Float64Array.from({ length: tokens * d }, (_, i) => draw() + offset[h * d + (i % d)]!));
  const other = keys();
  const sums = Float64Array.from(offset, (_, c) =>
    range(tokens).reduce((sum, t) => sum + other[Math.floor(c / d)]![t * d + (c % d)]!, 0),
  );
  const profile = keyMeans([sums], tokens, model.fingerprint);
  const given = keys();

  const formatOf = (options: object, known?: unknown): JointFormat => {
    const { k } = joinsOf({ peaks: 0, ...options }, model, 64, known)[0]![0]!;
    if (k.kind !== 'own') throw new Error('not of its own');
    if (k.format.kind === 'joint') return k.format;
    // One head by itself is stored as a scalar plane of the same kind.
    const [part] = k.format.parts;
    const { transform: _, ...rest } = part!;
    return { kind: 'joint', heads: 1, parts: [rest] };
  };
  const error = (format: JointFormat) => {
    let [wrong, all] = [0, 0];
    for (let h = 0; h < heads; h += format.heads) {
      const own = given.slice(h, h + format.heads);
      const back = decodeJoint(encodeJoint(own, tokens, d, format), d, format);
      for (const [n, x] of own.entries())
        for (const [i, value] of x.entries()) {
          wrong += (value - back[n]![i]!) ** 2;
          all += value * value;
        }
    }
    return Math.sqrt(wrong / all);
  };
  const plain = (clip: number) => {
    const part: ScalarPart = { bits: 2, along: 'channel', ...(clip < 1 && { clip }) };
    let [wrong, all] = [0, 0];
    const levels = 3;
    for (const x of given)
      for (let t = 0; t < tokens; t++) {
        const row = [...x.subarray(t * d, (t + 1) * d)];
        const [least, most] = [Math.min(...row), Math.max(...row)];
        const aside = ((1 - (part.clip ?? 1)) / 2) * (most - least);
        const step = (most - least - 2 * aside) / levels;
        for (const value of row) {
          const code = Math.max(0, Math.min(levels, Math.round((value - least - aside) / step)));
          wrong += (value - (least + aside + code * step)) ** 2;
          all += value * value;
        }
      }
    return Math.sqrt(wrong / all);
  };

  test.each([1, 0.8])('clip %d: less error by a rotation, least with the order of the means', clip => {
    const none = plain(clip);
    const head = error(formatOf({ heads: 1, clip }));
    const joint = error(formatOf({ heads: 4, clip }));
    const ordered = error(formatOf({ heads: 4, clip }, profile));
    expect(none).toBeGreaterThan(1.05 * head);
    expect(joint).toBeLessThan(none);
    expect(ordered).toBeLessThan(0.9 * Math.min(head, joint));
  });

  test('clipped codes of rotated keys err less', () => {
    for (const known of [undefined, profile])
      expect(error(formatOf({ heads: 4 }, known))).toBeLessThan(error(formatOf({ heads: 4, clip: 1 }, known)));
  });

  test('rotated keys have their greatest value nearer to the others', () => {
    const peak = (rows: readonly (readonly number[])[]) => {
      const all = rows.flat();
      return Math.max(...all.map(Math.abs)) / Math.sqrt(all.reduce((sum, x) => sum + x * x, 0) / all.length);
    };
    const rows = range(4).map(t => given.flatMap(x => [...x.subarray(t * d, (t + 1) * d)]));
    expect(peak(rows.map(rotated))).toBeLessThan(0.8 * peak(rows));
  });
});

test('heads that no transform fits are refused', () => {
  const error = () => make({}, plainModel({ headDim: 24 }));
  expect(error).toThrowError(expect.objectContaining({ field: 'model', value: 'head size 24' }));
});
