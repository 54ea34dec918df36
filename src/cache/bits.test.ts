import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ALL, countBits, hasRow, highestRow, lowestRow, rangeHi, rangeLo } from './bits.ts';

const row = fc.nat(64);

test('a range sets exactly its rows', () => {
  fc.assert(
    fc.property(row, row, (first, end) => {
      const lo = rangeLo(first, end);
      const hi = rangeHi(first, end);
      for (let i = 0; i < 64; i++) expect(hasRow(lo, hi, i)).toBe(i >= first && i < end);
      expect(countBits(lo) + countBits(hi)).toBe(Math.max(0, end - first));
      if (end > first) expect([lowestRow(lo, hi), highestRow(lo, hi)]).toEqual([first, end - 1]);
    }),
  );
  expect([rangeLo(0, 64), rangeHi(0, 64)]).toEqual([ALL, ALL]);
});

test('counts and ends of any mask', () => {
  fc.assert(
    fc.property(fc.nat(ALL), fc.nat(ALL), (lo, hi) => {
      fc.pre(lo !== 0 || hi !== 0);
      const rows = Array.from({ length: 64 }, (_, i) => i).filter(i => hasRow(lo, hi, i));
      expect(countBits(lo) + countBits(hi)).toBe(rows.length);
      expect(lowestRow(lo, hi)).toBe(rows[0]);
      expect(highestRow(lo, hi)).toBe(rows.at(-1));
    }),
  );
});
