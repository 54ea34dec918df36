import { describe, expect, test } from 'vitest';
import { plainRandom } from '../../methods/testing.ts';
import { chooseCount, chooseLevels, chooseTokens } from './choose.ts';
import { evenness, layerPart } from './entropy.ts';
import { chooseHalving, type HalvingSource } from './halving.ts';

const NONE = { first: 0, last: 0 };
const ENDS = { first: 1, last: 1 };
const random = plainRandom(5);
const upTo = (n: number) => Array.from({ length: n }, (_, i) => i);

test('tokens: best first, each while there is room; those that are always read beside them', () => {
  const scores = Float64Array.of(1, 5, 3, 5, 2);
  const lengths = [4, 8, 4, 8, 2];
  expect([...chooseTokens(scores, lengths, 13, NONE)]).toEqual([1, 2]);
  expect([...chooseTokens(scores, lengths, 7, NONE)]).toEqual([2, 4]);
  expect([...chooseTokens(scores, lengths, 8, ENDS)]).toEqual([0, 1, 4]);
  expect([...chooseTokens(scores, lengths, 0, NONE)]).toEqual([]);
});

test('a count of units: ties go to the earlier', () => {
  expect([...chooseCount(Float64Array.of(2, 2, 1, 2), 2, NONE)]).toEqual([0, 1]);
  expect([...chooseCount(Float64Array.of(2, 2, 1, 2), 9, NONE)]).toEqual([0, 1, 2, 3]);
  expect([...chooseCount(Float64Array.of(9, 2, 1, 2), 1, ENDS)]).toEqual([0, 1, 3]);
});

describe('levels', () => {
  const levels = (coarse: number, fine: number) => [
    { units: 2, share: coarse },
    { units: 1, share: fine },
  ];

  test('fine units come from the best coarse groups, and as many as their share of all says', () => {
    for (let n = 1; n < 40; n += 3) {
      const scores = Float64Array.from({ length: n }, random);
      const of = (units: number) =>
        Float64Array.from({ length: Math.ceil(n / units) }, (_, g) =>
          Math.max(...scores.subarray(g * units, (g + 1) * units)),
        );
      const chosen = chooseLevels(n, levels(0.5, 0.2), of, NONE);
      const best = upTo(Math.ceil(n / 2)).sort((a, b) => of(2)[b]! - of(2)[a]!);
      const groups = new Set(best.slice(0, Math.ceil(0.5 * Math.ceil(n / 2))));
      const inside = upTo(n).filter(unit => groups.has(unit >> 1));
      const wanted = inside.sort((a, b) => scores[b]! - scores[a]!).slice(0, Math.ceil(0.2 * n));
      expect([...chosen]).toEqual(wanted.sort((a, b) => a - b));
    }
  });

  test('all of them at 1; both ends at every level', () => {
    const of = (units: number) => new Float64Array(Math.ceil(9 / units));
    expect([...chooseLevels(9, levels(1, 1), of, NONE)]).toEqual(upTo(9));
    const chosen = chooseLevels(9, levels(0.2, 0.1), of, ENDS);
    expect(chosen).toContain(0);
    expect(chosen).toContain(8);
    expect([...chooseLevels(0, levels(0.5, 0.5), () => new Float64Array(), ENDS)]).toEqual([]);
  });
});

describe('halving', () => {
  /** Units of 2^halvings pieces of so many rows; bounds are those of true scores of rows. */
  function sourceOf(scores: readonly Float64Array[], halvings: number): HalvingSource & { splits: number } {
    const part = (unit: number, level: number, piece: number) => {
      const { length } = scores[unit]!;
      const [from, to] = [piece, piece + 1].map(p => Math.floor((p * length) / 2 ** level));
      return scores[unit]!.subarray(from, to);
    };
    const ends = (rows: Float64Array): readonly [number, number] => [Math.max(...rows), Math.min(...rows)];
    return {
      splits: 0,
      count: scores.length,
      halvings,
      bounds: unit => ends(part(unit, 0, 0)),
      pair(unit, level, piece) {
        this.splits++;
        return [ends(part(unit, level, piece)), ends(part(unit, level, piece + 1))];
      },
      rows: (unit, level, piece) => part(unit, level, piece).length,
    };
  }

  test.each([1, 2, 7, 30])('%i units: the pieces of the best tokens, within the budget', count => {
    const halvings = 3;
    const scores = upTo(count).map(() => Float64Array.from({ length: 8 }, random));
    const source = sourceOf(scores, halvings);
    for (const tokens of [0, 1, 5, 8 * count]) {
      const chosen = chooseHalving(source, tokens, () => false);
      expect(chosen.length).toBe(Math.min(tokens, 8 * count));
      // With a row a piece and true bounds, these are the best rows of all.
      const all = scores.flatMap((rows, unit) => [...rows].map((score, row) => ({ score, id: unit * 8 + row })));
      const best = all.sort((a, b) => b.score - a.score).slice(0, tokens);
      expect([...chosen]).toEqual(best.map(({ id }) => id).sort((a, b) => a - b));
    }
  });

  test('a unit that lies above all others is taken without a split', () => {
    const source = sourceOf([Float64Array.of(9, 8, 9, 8), Float64Array.of(1, 2, 3, 4)], 2);
    expect([...chooseHalving(source, 4, () => false)]).toEqual([0, 1, 2, 3]);
    expect(source.splits).toBe(0);
  });

  test('units that are always read are beside the budget; short units have empty pieces', () => {
    const source = sourceOf([Float64Array.of(5), Float64Array.of(1, 2)], 2);
    expect([...chooseHalving(source, 1, unit => unit === 1)]).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect([...chooseHalving(source, 0, unit => unit === 1)]).toEqual([4, 5, 6, 7]);
    const rows = (ids: Uint32Array) => [...ids].reduce((sum, id) => sum + source.rows(id >> 2, 2, id & 3), 0);
    expect(rows(chooseHalving(source, 3, () => false))).toBe(3);
  });
});

describe('parts of layers by entropy', () => {
  const rule = { by: 'entropy', mean: 10, least: 2, most: 30, history: 2 } as const;

  test('evenness is 1 for equal scores and near 0 where one stands out', () => {
    expect(evenness(new Float64Array(7))).toBeCloseTo(1, 12);
    expect(evenness(Float64Array.of(50, 0, 0))).toBeLessThan(1e-9);
    expect(evenness(new Float64Array(1))).toBe(1);
  });

  test('equal parts until all layers have a history, then by its mean; within bounds', () => {
    expect(layerPart(rule, [[1], [1, 1]], 20, 100)).toBe(10);
    expect(
      layerPart(
        rule,
        [
          [0.9, 0.9],
          [0.3, 0.3],
        ],
        20,
        100,
      ),
    ).toBe(15);
    expect(layerPart(rule, [[0.9, 0.9]], 90, 100)).toBe(30);
    expect(
      layerPart(
        rule,
        [
          [0, 0],
          [1, 1],
        ],
        20,
        100,
      ),
    ).toBe(2);
    expect(layerPart(rule, [[1, 1]], 90, 7)).toBe(7);
  });

  test('parts of all layers never come to more than there is for them, and each has the least where that goes', () => {
    for (let round = 0; round < 500; round++) {
      const layers = 1 + Math.floor(12 * random());
      const [mean, least] = [1 + Math.floor(40 * random()), Math.floor(40 * random())];
      const given = {
        ...rule,
        mean,
        least,
        most: Math.max(least, Math.floor(90 * random())),
        history: 1 + (round % 2),
      };
      const steep = random();
      // Means that fall by a factor leave little for the layers at the end.
      const histories = upTo(layers).map(l => [round % 3 === 0 ? random() : steep ** l]);
      const count = round % 5 === 0 ? Math.floor(30 * random()) : 1000;
      let left = mean * layers;
      const parts = upTo(layers).map(l => {
        const part = layerPart(given, histories.slice(l), left, count);
        left -= part;
        return part;
      });
      expect(left).toBeGreaterThanOrEqual(0);
      for (const part of parts) {
        expect(part).toBeGreaterThanOrEqual(Math.min(mean, least, count));
        expect(part).toBeLessThanOrEqual(Math.min(count, given.most));
      }
    }
    const halving = upTo(10).map(l => [0.5 ** l, 0.5 ** l]);
    let left = 460;
    for (const l of upTo(10))
      left -= layerPart({ ...rule, mean: 46, least: 32, most: 92 }, halving.slice(l), left, 1000);
    expect(left).toBe(0);
  });
});
