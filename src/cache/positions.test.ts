import fc from 'fast-check';
import { expect, test } from 'vitest';
import { CacheBudget } from './budget.ts';
import { Account, Ledger } from './ledger.ts';
import { MAX_POSITION, POSITIONS_HELD, PositionTable } from './positions.ts';
import { PlainMemory } from './testing.ts';

function table(limit = 1 << 20) {
  const memory = new PlainMemory(1 << 20);
  const ledger = new Ledger(new CacheBudget(limit), 1);
  const account = new Account(ledger, 'owner', 8);
  return { memory, ledger, account, blocks: new PositionTable(memory, ledger) };
}

const ascending = fc.tuple(fc.nat(1_000_000), fc.array(fc.nat(900), { maxLength: 63 })).map(([base, gaps]) => {
  const positions = [base];
  for (const gap of gaps) positions.push(positions.at(-1)! + gap);
  return positions;
});

test('a block holds its positions and counts on from the last', () => {
  fc.assert(
    fc.property(ascending, positions => {
      const { blocks, account } = table();
      const block = blocks.intern(positions, 0, positions.length, account);
      const last = positions.at(-1)!;
      for (let row = 0; row < 64; row++) {
        expect(blocks.at(block, row)).toBe(row < positions.length ? positions[row] : last + row - positions.length + 1);
      }
      let run = 0;
      while (run < 64 && blocks.at(block, run) === positions[0]! + run) run++;
      expect(blocks.contiguous[block]).toBe(run);
    }),
  );
});

test('equal positions share a block until its last reference goes', () => {
  const { blocks, account, memory, ledger } = table();
  const a = blocks.intern([5, 9], 0, 2, account);
  const run = blocks.internRun(5, account);
  expect(blocks.intern([5, 9, 10], 0, 3, account)).toBe(a);
  expect(blocks.intern([5], 0, 1, account)).toBe(run);
  expect(blocks.internRun(6, account)).not.toBe(run);
  expect(blocks.count).toBe(3);
  expect(memory.held).toBe(3 * 192);
  expect(ledger.held).toBe(8 + 3 * POSITIONS_HELD);
  blocks.release(a);
  expect(blocks.at(a, 1)).toBe(9);
  blocks.release(a);
  expect(blocks.count).toBe(2);
  // The freed entry is used again and no longer answers for its old positions.
  const b = blocks.intern([5, 8], 0, 2, account);
  expect(b).toBe(a);
  expect(blocks.at(b, 1)).toBe(8);
});

test('blocks of equal hash are told apart, also after one of them is gone', () => {
  const { blocks, account } = table();
  // Found by search: these two have the same 32-bit hash.
  const one = [0, 222, 476];
  const two = [0, 478, 748];
  const a = blocks.intern(one, 0, 3, account);
  const b = blocks.intern(two, 0, 3, account);
  expect([blocks.at(a, 1), blocks.at(b, 1)]).toEqual([222, 478]);
  blocks.release(b);
  expect(blocks.intern(one, 0, 3, account)).toBe(a);
  expect(blocks.count).toBe(1);
});

test('deltas that overflow are not counted on', () => {
  const { blocks, account } = table();
  expect(PositionTable.fits(10, 10 + 65535)).toBe(true);
  expect(PositionTable.fits(10, 10 + 65536)).toBe(false);
  expect(PositionTable.fits(10, 9)).toBe(false);
  const wide = blocks.intern([0, 65535], 0, 2, account);
  expect(blocks.at(wide, 2)).toBe(65535);
  const top = blocks.internRun(MAX_POSITION - 2, account);
  expect(blocks.at(top, 63)).toBe(MAX_POSITION);
  expect(blocks.contiguous[top]).toBe(3);
});

test('a block that does not fit leaves nothing behind', () => {
  const { blocks, account, memory, ledger } = table(8 + POSITIONS_HELD);
  const block = blocks.internRun(0, account);
  expect(() => blocks.internRun(1, account)).toThrow(expect.objectContaining({ code: 'kv_cache_full' }));
  blocks.release(block);
  memory.allowance = 0;
  expect(() => blocks.internRun(2, account)).toThrow(expect.objectContaining({ code: 'memory_limit' }));
  expect([blocks.count, memory.held, ledger.held]).toEqual([0, 0, 8]);
});
