import { expect, test } from 'vitest';
import { rowsOfShares } from './row-shares.ts';

const shares = { last: 0.05, sampled: 0.05 };

test.each([0, 1, 19])('all of %i rows', rows => {
  expect([...rowsOfShares(shares, rows, 1)]).toEqual(Array.from({ length: rows }, (_, i) => i));
});

test.each([20, 21, 40, 41, 100, 999, 5000])('the last and as many others of %i rows, each once', rows => {
  const share = Math.ceil(rows / 20);
  const picked = [...rowsOfShares(shares, rows, 7)];
  expect(picked.length).toBe(2 * share);
  expect(picked).toEqual([...new Set(picked)].sort((a, b) => a - b));
  expect(picked.slice(-share)).toEqual(Array.from({ length: share }, (_, i) => rows - share + i));
  expect(picked[0]).toBeGreaterThanOrEqual(0);
});

test('the seed decides, and only it; every row gets its turn', () => {
  expect(rowsOfShares(shares, 300, 5)).toEqual(rowsOfShares(shares, 300, 5));
  expect(rowsOfShares(shares, 300, 5)).not.toEqual(rowsOfShares(shares, 300, 6));
  const counts = new Uint32Array(100);
  for (let seed = 0; seed < 2000; seed++) for (const row of rowsOfShares(shares, 100, seed)) counts[row]!++;
  // 5 of 95 rows a draw: about 105 times each, give or take 10.
  for (const count of counts.subarray(0, 95)) expect(Math.abs(count - 2000 / 19)).toBeLessThan(60);
  for (const count of counts.subarray(95)) expect(count).toBe(2000);
});

test('shares may be nothing or everything', () => {
  expect([...rowsOfShares({ last: 0, sampled: 0 }, 50, 1)]).toEqual([]);
  expect(rowsOfShares({ last: 0, sampled: 1 }, 50, 1).length).toBe(50);
  expect(rowsOfShares({ last: 1, sampled: 1 }, 50, 1).length).toBe(50);
});
