import { expect, test } from 'vitest';
import { plainRandom } from '../testing.ts';
import { topK } from './top-k.ts';

function sorted(scores: Float32Array, count: number): number[] {
  const order = Array.from(scores, (_, i) => i).sort((a, b) => scores[b]! - scores[a]! || a - b);
  return order.slice(0, count).sort((a, b) => a - b);
}

test.each([0, 1, 2, 63, 64, 65, 1000])('agrees with a stable sort on %i scores, many of them equal', length => {
  const random = plainRandom(length);
  for (const values of [2, 7, 1e9]) {
    const scores = Float32Array.from({ length }, () => Math.floor(random() * values) - values / 2);
    for (const count of [0, 1, length >> 1, length - 1, length, length + 5])
      expect([...topK(scores, count)]).toEqual(sorted(scores, Math.max(0, count)));
  }
});

test('ties go to the earliest entries, ascending scores or not', () => {
  expect([...topK(new Float32Array(10), 3)]).toEqual([0, 1, 2]);
  expect([...topK(Float32Array.of(1, 5, 2, 5, 5), 2)]).toEqual([1, 3]);
  const rising = Float32Array.from({ length: 100 }, (_, i) => i);
  expect([...topK(rising, 2)]).toEqual([98, 99]);
  expect([...topK(rising.slice().reverse(), 2)]).toEqual([0, 1]);
});

test('infinities and NaN have their place', () => {
  const scores = Float32Array.of(Number.NaN, -Infinity, Infinity, 0, -0);
  expect([...topK(scores, 1)]).toEqual([2]);
  expect([...topK(scores, 3)]).toEqual([2, 3, 4]);
  expect([...topK(scores, 4)]).toEqual([0, 2, 3, 4]);
});

test('the scores are left as they were', () => {
  const scores = Float32Array.of(3, 1, 2);
  topK(scores, 1);
  expect([...scores]).toEqual([3, 1, 2]);
});
