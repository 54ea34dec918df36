import { describe, expect, test } from 'vitest';
import { plainRandom } from '../../methods/testing.ts';
import { type Choice, pairsByLayer, prune, tables, thin } from './choices.ts';
import { clusterLayers, dbscan } from './cluster.ts';
import { frontOf } from './search.ts';
import { spearman } from './sensitivity.ts';

const WIDTHS = [2, 4, 8, 16] as const;

function choicesFrom(random: () => number, count: number): Choice[] {
  return Array.from({ length: count }, (_, i) => ({
    pair: { k: WIDTHS[i % 4]!, v: WIDTHS[(i >> 2) % 4]! },
    bits: 1 + Math.floor(random() * 12),
    damage: Math.floor(random() * 50) / 10,
  }));
}

/** All tables of all choices, without any pruning. */
function everything(groups: readonly (readonly Choice[])[]): { bits: number; damage: number }[] {
  return groups.reduce(
    (sums, choices) =>
      sums.flatMap(sum => choices.map(({ bits, damage }) => ({ bits: sum.bits + bits, damage: sum.damage + damage }))),
    [{ bits: 0, damage: 0 }],
  );
}

test('what pruning leaves is what nothing beats in both', () => {
  const random = plainRandom(11);
  for (let round = 0; round < 50; round++) {
    const choices = choicesFrom(random, 9);
    const left = prune(choices);
    for (const choice of choices)
      expect(left.some(each => each.bits <= choice.bits && each.damage <= choice.damage)).toBe(true);
    for (let i = 1; i < left.length; i++) {
      expect(left[i]!.bits).toBeGreaterThan(left[i - 1]!.bits);
      expect(left[i]!.damage).toBeLessThan(left[i - 1]!.damage);
    }
  }
});

test('tables: under every limit the best of all, found by trying all', () => {
  const random = plainRandom(12);
  for (let round = 0; round < 20; round++) {
    const groups = Array.from({ length: 1 + (round % 4) }, () => choicesFrom(random, 1 + Math.floor(random() * 7)));
    const found = tables(groups.map(prune));
    const all = everything(groups);
    for (let limit = 1; limit <= 48; limit++) {
      const least = (list: readonly { bits: number; damage: number }[]) =>
        Math.min(...list.filter(({ bits }) => bits <= limit).map(({ damage }) => damage));
      expect(least(found)).toBeCloseTo(least(all), 9);
    }
    for (const table of found) {
      const sum = table.pairs.map((pair, g) => groups[g]!.filter(each => each.pair === pair)[0]!);
      expect(sum.reduce((total, { bits }) => total + bits, 0)).toBe(table.bits);
    }
  }
});

test('a bound on tables keeps both ends', () => {
  const groups = Array.from({ length: 6 }, () => prune(choicesFrom(plainRandom(13), 9)));
  const whole = tables(groups);
  const bounded = tables(groups, 3);
  expect(bounded.length).toBeLessThanOrEqual(3);
  expect(bounded[0]!.bits).toBe(whole[0]!.bits);
  expect(bounded.at(-1)!.damage).toBeCloseTo(whole.at(-1)!.damage, 9);
  expect(thin([1, 2, 3], 5)).toEqual([1, 2, 3]);
  expect(thin([1, 2, 3, 4, 5], 2)).toEqual([1, 5]);
});

test('pairs of groups come back to their layers', () => {
  const table = { pairs: [{ k: 8, v: 4 } as const, { k: 2, v: 2 } as const], bits: 0, damage: 0 };
  expect(
    pairsByLayer(
      table,
      [
        [0, 3],
        [1, 2],
      ],
      4,
    ),
  ).toBe('k8v4 k2v2*2 k8v4');
});

describe('clusters', () => {
  test('dense points join over chains, lone ones stay alone', () => {
    const points = [[0], [0.9], [1.8], [10], [10.5], [50]];
    expect(dbscan(points, 1)).toEqual([[0, 1, 2], [3, 4], [5]]);
    expect(dbscan(points, 0.1)).toEqual([[0], [1], [2], [3], [4], [5]]);
    expect(dbscan([], 1)).toEqual([]);
  });

  test('layers join only where they keep the same choices', () => {
    const damages = [[0.001], [0.0011], [0.00105], [1]];
    expect(clusterLayers(['a', 'a', 'b', 'a'], damages, 0.35)).toEqual([[0, 1], [2], [3]]);
  });
});

test('rank correlation', () => {
  expect(spearman([1, 2, 3, 4], [10, 20, 30, 400])).toBeCloseTo(1, 12);
  expect(spearman([1, 2, 3, 4], [4, 3, 2, 1])).toBeCloseTo(-1, 12);
  expect(spearman([1, 1, 2, 3], [1, 1, 2, 3])).toBeCloseTo(1, 12);
});

test('the front of what was measured', () => {
  const measured = (held: number, kl: number) => ({ recipe: `${held}`, held, kl, agreement: 1 });
  const all = [measured(4, 1), measured(2, 2), measured(3, 3), measured(1, 5), measured(2, 4)];
  expect(frontOf(all).map(({ held, kl }) => [held, kl])).toEqual([
    [1, 5],
    [2, 2],
    [4, 1],
  ]);
});
