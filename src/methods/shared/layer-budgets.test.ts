import { describe, expect, test } from 'vitest';
import { plainRandom } from '../testing.ts';
import { layerBudgets } from './layer-budgets.ts';

const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);

describe('budgets of layers', () => {
  test('sum to exactly layers x mean and respect the floor', () => {
    const random = plainRandom(5);
    for (let round = 0; round < 200; round++) {
      const layers = 1 + Math.floor(random() * 40);
      const mean = 1 + Math.floor(random() * 300);
      const weights = Array.from({ length: layers }, () => random() ** 4);
      for (const floor of [0, 0.25, 1]) {
        const budgets = layerBudgets(weights, mean, floor);
        expect(sum(budgets)).toBe(layers * mean);
        expect(Math.min(...budgets)).toBeGreaterThanOrEqual(Math.floor(floor * mean));
        expect(budgets.every(Number.isInteger)).toBe(true);
      }
    }
  });

  test('follow the weights', () => {
    expect(layerBudgets([1, 3, 2, 2], 100)).toEqual([50, 150, 100, 100]);
    expect(layerBudgets([0, 1, 1], 100, 0.25)).toEqual([25, 138, 137]);
    expect(layerBudgets([0, 0, 0], 7)).toEqual([7, 7, 7]);
    const random = plainRandom(8);
    const weights = Array.from({ length: 12 }, random);
    const budgets = layerBudgets(weights, 100, 0.25);
    for (const [i, a] of weights.entries())
      for (const [j, b] of weights.entries()) if (a > b) expect(budgets[i]! + 1).toBeGreaterThanOrEqual(budgets[j]!);
  });
});
