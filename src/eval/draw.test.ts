import { expect, test } from 'vitest';
import { Draw } from './draw.ts';

const numbers = (label: string) => {
  const draw = new Draw(label);
  return Array.from({ length: 5 }, () => draw.between(0, 999));
};

test('a label gives the same choices everywhere, and a like one others', () => {
  expect(numbers('niah/512/0/1')).toEqual(numbers('niah/512/0/1'));
  expect(numbers('niah/512/0/1')).not.toEqual(numbers('niah/512/0/2'));
  expect(numbers('niah/512/0/1')).not.toEqual(numbers('niah/512/1/0'));
  // Pinned: results of different machines and versions are compared instance by instance.
  expect(numbers('pinned')).toEqual(PINNED);
});
const PINNED = [360, 437, 141, 163, 195];

test('both ends of a range are drawn, evenly', () => {
  const draw = new Draw('range');
  const counts = [0, 0, 0, 0];
  for (let i = 0; i < 8000; i++) counts[draw.between(3, 6) - 3]!++;
  for (const count of counts) expect(Math.abs(count - 2000)).toBeLessThan(200);
});

test('a shuffle keeps all, a sample takes different ones, distinct values end where there are no more', () => {
  const draw = new Draw('lists');
  const list = Array.from({ length: 50 }, (_, i) => i);
  expect(draw.shuffled(list)).not.toEqual(list);
  expect([...draw.shuffled(list)].sort((a, b) => a - b)).toEqual(list);
  expect(new Set(draw.sample(list, 20)).size).toBe(20);
  expect(draw.distinct(10, () => draw.choice(['a', 'b', 'c'])).sort()).toEqual(['a', 'b', 'c']);
});
