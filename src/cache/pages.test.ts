import { expect, test } from 'vitest';
import type { Memory } from '../backend/types.ts';
import { CacheBudget } from './budget.ts';
import { LayoutTable } from './layout.ts';
import { Account, Ledger } from './ledger.ts';
import { PAGE_ENTRY_BYTES, PageTable } from './pages.ts';
import { PositionTable } from './positions.ts';
import { SharedTable } from './shared-blocks.ts';
import type { Group } from './spans.ts';
import { PlainMemory } from './testing.ts';

/** f32 planes of one row of 64 tokens and one channel pair, and a column: 1024 + 256 bytes. */
const shape = { slots: 4, kvHeads: 1, headDim: 2, rotary: 2 };

function table(memory: Memory, limit = 2 ** 40, columns = ['bias']) {
  const ledger = new Ledger(new CacheBudget(limit), 4);
  const account = new Account(ledger, 'owner', 0);
  const blocks = new PositionTable(memory, ledger);
  const layouts = new LayoutTable(memory, shape, new Account(ledger, 'cache', 0));
  const layout = layouts.intern({ formatK: 'f32', formatV: 'f32', columns });
  const pages = new PageTable(memory, ledger, blocks, layouts, new SharedTable(memory, ledger));
  const group: Group = {
    index: 0,
    ...{ layout, slot: 1, slots: 2, head: 0, heads: 1, views: Uint32Array.of(0, 1), pageBytes: 2 * layout.cellBytes },
  };
  return { ledger, account, blocks, pages, group, tableBytes: layouts.held };
}

test('a page has cleared columns, its share in each slot, and is freed with its last reference', () => {
  const memory = new PlainMemory(1 << 20);
  const { pages, blocks, account, ledger, group, tableBytes } = table(memory);
  const page = pages.create(group, blocks.internRun(0, account), account, false);
  pages.retain(page);
  pages.retain(page);
  const address = pages.address[page]!;
  for (const cell of [0, 1280]) {
    expect(new Set(memory.u8.subarray(address + cell + 1024, address + cell + 1280))).toEqual(new Set([0]));
    expect(memory.u8[address + cell]).not.toBe(0);
  }
  expect(ledger.bySlot[1]! + ledger.bySlot[2]!).toBe(2560 + PAGE_ENTRY_BYTES);
  expect(Math.abs(ledger.bySlot[1]! - ledger.bySlot[2]!)).toBeLessThanOrEqual(1);
  pages.release(page);
  expect(pages.count).toBe(1);
  pages.release(page);
  expect([pages.count, pages.held, blocks.count, memory.held - tableBytes, ledger.held]).toEqual([0, 0, 0, 0, 0]);
  expect([...ledger.bySlot]).toEqual([0, 0, 0, 0]);
});

test('a page that does not fit leaves nothing behind, its positions included', () => {
  const memory = new PlainMemory(1 << 20);
  const { pages, blocks, account, group, tableBytes } = table(memory, 1000);
  const positions = blocks.internRun(0, account);
  expect(() => pages.create(group, positions, account, false)).toThrow(
    expect.objectContaining({ code: 'kv_cache_full' }),
  );
  expect([blocks.count, memory.held]).toEqual([0, tableBytes]);
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
  const { pages, blocks, account, ledger, group: plain } = table(memory, 2 ** 40, []);
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
