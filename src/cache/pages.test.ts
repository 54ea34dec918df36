import { expect, test } from 'vitest';
import type { Memory } from '../backend/types.ts';
import { CacheBudget } from './budget.ts';
import type { CellLayout } from './layout.ts';
import { Account, Ledger } from './ledger.ts';
import { PAGE_ENTRY_BYTES, PageTable } from './pages.ts';
import { PositionTable } from './positions.ts';
import type { Group } from './spans.ts';
import { PlainMemory } from './testing.ts';

const layout: CellLayout = {
  id: 3,
  formatK: 'f32',
  formatV: 'f32',
  columns: new Map([['bias', 512]]),
  columnsAt: 512,
  cellBytes: 768,
};
const group: Group = {
  index: 0,
  layout,
  slot: 1,
  slots: 2,
  head: 0,
  heads: 1,
  views: Uint32Array.of(0, 1),
  pageBytes: 1536,
};

function table(memory: Memory, limit = 2 ** 40) {
  const ledger = new Ledger(new CacheBudget(limit), 4);
  const account = new Account(ledger, 'owner', 0);
  const blocks = new PositionTable(memory, ledger);
  return { ledger, account, blocks, pages: new PageTable(memory, ledger, blocks) };
}

test('a page has cleared columns, its share in each slot, and is freed with its last reference', () => {
  const memory = new PlainMemory(1 << 20);
  const { pages, blocks, account, ledger } = table(memory);
  const page = pages.create(group, blocks.internRun(0, account), account, false);
  pages.retain(page);
  pages.retain(page);
  const address = pages.address[page]!;
  for (const cell of [0, 768]) {
    expect(new Set(memory.u8.subarray(address + cell + 512, address + cell + 768))).toEqual(new Set([0]));
    expect(memory.u8[address + cell]).not.toBe(0);
  }
  expect(ledger.bySlot[1]! + ledger.bySlot[2]!).toBe(1536 + PAGE_ENTRY_BYTES);
  expect(Math.abs(ledger.bySlot[1]! - ledger.bySlot[2]!)).toBeLessThanOrEqual(1);
  pages.release(page);
  expect(pages.count).toBe(1);
  pages.release(page);
  expect([pages.count, pages.held, blocks.count, memory.held, ledger.held]).toEqual([0, 0, 0, 0, 0]);
  expect([...ledger.bySlot]).toEqual([0, 0, 0, 0]);
});

test('a page that does not fit leaves nothing behind, its positions included', () => {
  const memory = new PlainMemory(1 << 20);
  const { pages, blocks, account } = table(memory, 1000);
  const positions = blocks.internRun(0, account);
  expect(() => pages.create(group, positions, account, false)).toThrow(
    expect.objectContaining({ code: 'kv_cache_full' }),
  );
  expect([blocks.count, memory.held]).toEqual([0, 0]);
});

test('half a million pages: tens of bytes of table each, no objects, quick to make and to free', () => {
  // Addresses only: nothing is stored in the pages.
  let next = 64;
  const { u8, u16, i32, u32, f32, buffer } = new PlainMemory(1 << 20);
  const memory: Memory = {
    ...{ buffer, u8, u16, i32, u32, f32, held: 0, peak: 0 },
    alloc: bytes => {
      if (bytes === 192) return 64;
      next += bytes;
      return next - bytes;
    },
    free: () => {},
  };
  const plain: Group = { ...group, pageBytes: 768, layout: { ...layout, columns: new Map() } };
  const { pages, blocks, account, ledger } = table(memory);
  const count = 500_000;
  const heapBefore = process.memoryUsage();
  const start = performance.now();
  for (let i = 0; i < count; i++) {
    const page = pages.create(plain, blocks.internRun((i % 100) * 64, account), account, false);
    pages.retain(page);
  }
  const made = performance.now() - start;
  const heapAfter = process.memoryUsage();
  expect(pages.count).toBe(count);
  const perPage = (heapAfter.heapUsed + heapAfter.arrayBuffers - heapBefore.heapUsed - heapBefore.arrayBuffers) / count;
  // Arrays double: up to twice the entry, and what is not yet collected.
  expect(perPage).toBeLessThan(4 * PAGE_ENTRY_BYTES);
  for (let page = 0; page < count; page++) pages.release(page);
  expect([pages.count, ledger.held]).toEqual([0, 0]);
  // 2 microseconds a page on an idle machine; loaded ones get room.
  expect(made).toBeLessThan(5000);
});
