import { notePeakOnce } from './account.ts';
import type { Content, Growth } from './content.ts';
import { present, remember, wantedPieces, whatStays } from './fetch-pieces.ts';
import type { FetchPage } from './fetch-place.ts';
import { coming, place, staged } from './fetch-rows.ts';
import { Ref, RefList } from './ref-list.ts';

const ref = new Ref();
const list = new RefList();

/**
 * See CacheSequence.fetch. The fetched pages are the first of the view. Rows that come go to free rows of fetched pages (of a
 * copy where others refer to the page, so that a fork places rows as its parent does), then to new pages; the page table
 * remembers of which piece each row is (PageTable.fetched), so a piece that has lost rows here since it came (keep, drop) is
 * told from a whole one, and comes again.
 */
export function fetch(c: Content, view: number, ids: Uint32Array, resident: number): number {
  const wanted = wantedPieces(c, view, ids);
  let chosen = 0;
  for (const piece of wanted.values()) chosen += piece.rows;
  const { pages, drops } = whatStays(c, view, wanted, chosen, resident);
  const missing = [...wanted].filter(([serial]) => !present.has(serial));
  if (missing.length === 0 && !drops) {
    remember(c, view, wanted, resident);
    c.traffic.hits += chosen;
    return 0;
  }
  const { promised } = c.account;
  let growth: Growth | null = null;
  try {
    place(c, view, missing, pages);
    for (const page of pages) if (page.changed) allocate(c, view, page);
    growth = c.stageGrowth(view, pages.length + c.refs[view]!, false);
  } catch (error) {
    for (const page of pages) {
      if (page.made) c.storage.pages.destroy(page.page);
      if (page.block >= 0) c.storage.blocks.release(page.block);
    }
    c.account.restorePromise(promised);
    throw error;
  }
  if (pages.some(({ empty }) => empty)) notePeakOnce(c);
  if (growth) c.applyGrowth(growth);
  install(c, view, pages);
  c.account.restorePromise(promised);
  remember(c, view, wanted, resident);
  c.traffic.rows += coming.count;
  c.traffic.hits += chosen - coming.count;
  return coming.count;
}

/** A positions block, and the page where there is none that may be written. */
function allocate(c: Content, view: number, page: FetchPage): void {
  const { blocks, pages } = c.storage;
  page.block = blocks.intern(page.settle(), 0, page.positions.length, c.account, page.least);
  if (page.page >= 0 && pages.refs[page.page] === 1) return;
  if (page.page >= 0) page.page = pages.copy(page.page, c.account);
  else {
    const block = page.block;
    // The page takes the block over, also where it cannot be made.
    page.block = -1;
    page.page = pages.create(c.spans.groups[c.spans.groupOfView[view]!]!, block, c.account, false);
  }
  page.made = true;
}

function install(c: Content, view: number, fetched: readonly FetchPage[]): void {
  const { memory, pages, blocks, parked } = c.storage;
  const offset = c.spans.cellOffset[view]!;
  for (let n = 0; n < coming.count; n++) {
    const rowBytes = coming.rowBytes[n]!;
    rowBytes.put(pages.address[coming.to[n]!.page]! + offset, coming.row[n]!, staged, coming.at[n]!);
    parked.fetched += rowBytes.size;
    c.fetched += rowBytes.size;
  }
  coming.rowBytes.length = 0;
  coming.to.length = 0;
  list.clear();
  for (const { page, lo, hi, block, changed, units } of fetched) {
    if (block >= 0) pages.setPositions(page, block);
    if (changed) pages.fetched.set(page, units);
    const positions = pages.positions[page]!;
    const layout = pages.layout[page]!;
    const cell = pages.address[page]! + offset;
    list.push(cell, blocks.address[positions]!, blocks.contiguous[positions]!, layout, 0, page, lo, hi);
  }
  for (let i = 0; i < c.refs[view]!; i++) {
    ref.load(memory, c.ref(view, i));
    if (pages.fetched.has(ref.page)) continue;
    const contiguous = blocks.contiguous[pages.positions[ref.page]!]!;
    list.push(ref.cell, ref.positions, contiguous, ref.layout, ref.shift, ref.page, ref.lo, ref.hi);
  }
  c.replace(view, list);
  // The last page is as it was, so the next append needs no more work than before.
  c.at[view] = Math.max(0, c.refs[view]! - 1);
  c.version++;
  c.lastRows.fill(0);
}

/** See CacheSequence.fetchedEntries. */
export function fetchedEntries(c: Content, view: number): number {
  const { memory, pages } = c.storage;
  let entries = 0;
  for (let i = 0; i < c.refs[view]! && pages.fetched.has(c.pageAt(view, i)); i++) {
    entries += ref.load(memory, c.ref(view, i)).live;
  }
  return entries;
}
