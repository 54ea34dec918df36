import { expect, test } from 'vitest';
import type { Measured } from './evaluate.ts';
import { bestOf } from './goal.ts';
import { Lane } from './lane.ts';

const measured = (held: number, kl: number, agreement = 1): Measured => ({
  recipe: `${held} ${kl}`,
  held,
  kl,
  agreement,
});

test('within bytes the least loss; at an agreement the fewest bytes; ties by the other', () => {
  const all = [measured(10, 3, 0.9), measured(20, 1, 0.95), measured(15, 1, 0.92), measured(40, 0)];
  expect(bestOf({ memory: 30 }, all)).toBe(all[2]);
  expect(bestOf({ memory: 12 }, all)).toBe(all[0]);
  expect(bestOf({ memory: 9 }, all)).toBeNull();
  expect(bestOf({ agreement: 0.93 }, all)).toBe(all[1]);
  expect(bestOf({ agreement: 0.5 }, [...all, measured(10, 2, 0.9)])!.kl).toBe(2);
});

test('a lane learns how far its promises are off', () => {
  const table = (bits: number, damage: number) => ({ pairs: [{ k: 4, v: 4 } as const], bits, damage });
  const tried = table(16, 0.2);
  // One layer: 64 bits an element pair. Half of what is kept stays exact, which the lane does not know at first.
  const lane = new Lane('', measured(1000, 0), { base: 'kivi', groups: [[0]], choices: [], front: [tried] }, 1, 0, 0);
  expect(lane.held(tried)).toBeCloseTo(250, 9);
  lane.learn(tried, measured(625, 0.4), true);
  expect(lane.held(tried)).toBeCloseTo(625, 9);
  expect(lane.held(table(32, 0.1))).toBeCloseTo(750, 9);
  expect(lane.kl(table(32, 0.1))).toBeCloseTo(0.2, 9);
  expect(lane.next({ memory: 700 })).toBeNull();
});
