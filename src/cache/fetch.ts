import { KvasirError } from '../errors.ts';
import { notePeakOnce } from './account.ts';
import { hasRow } from './bits.ts';
import type { Content, Growth } from './content.ts';
import { FetchPage } from './fetch-place.ts';
import type { ParkedUnit } from './parked.ts';
import { Ref, RefList } from './ref-list.ts';
import { Bytes, type RowBytes } from './row-bytes.ts';

/** Rows that come: how their bytes are read, where they are staged, and where they go. */
interface Coming {
  count: number;
  readonly rowBytes: RowBytes[];
  readonly at: number[];
  readonly to: FetchPage[];
  readonly row: number[];
}

const ref = new Ref();
const list = new RefList();
const staged = new Bytes();
/** Used again and again. */
const coming: Coming = { count: 0, rowBytes: [], at: [], to: [], row: [] };

/**
 * See CacheSequence.fetch. The fetched pages are the first of the view. Rows that come go to free rows of fetched pages that
 * nobody else refers to, then to new pages; the page table remembers of which unit each row is (PageTable.fetched), so
 * a unit that has lost rows here since it came (keep, drop) is told from a whole one, and comes again.
 */
export function fetch(c: Content, view: number, ids: Uint32Array): number {
  const wanted = wantedUnits(c, view, ids);
  const { pages, drops } = whatStays(c, view, wanted);
  // What is left in `wanted` is not there.
  if (wanted.size === 0 && !drops) return 0;
  const { promised } = c.account;
  const old = pages.length;
  let growth: Growth | null = null;
  try {
    place(wanted, pages);
    for (const page of pages) if (page.changed) allocate(c, view, page);
    growth = c.stageGrowth(view, pages.length + c.refs[view]!, false);
  } catch (error) {
    for (const [n, page] of pages.entries()) {
      if (n >= old && page.page >= 0) c.storage.pages.destroy(page.page);
      else if (page.block >= 0) c.storage.blocks.release(page.block);
    }
    c.account.restorePromise(promised);
    throw error;
  }
  if (pages.some(({ empty }) => empty)) notePeakOnce(c);
  if (growth) c.applyGrowth(growth);
  install(c, view, pages);
  c.account.restorePromise(promised);
  return coming.count;
}

function wantedUnits(c: Content, view: number, ids: Uint32Array): Map<number, ParkedUnit> {
  const units = c.parked.get(view)?.units ?? [];
  const wanted = new Map<number, ParkedUnit>();
  for (const id of ids) {
    const unit = units[id];
    if (!unit || wanted.has(unit.stored.serial)) {
      throw new KvasirError('invalid_request', `Cannot fetch unit ${id}.`, {
        field: 'units',
        value: id,
        allowed: units.length === 0 ? 'none: nothing is parked' : `distinct units 0 to ${units.length - 1}`,
      });
    }
    wanted.set(unit.stored.serial, unit);
  }
  return wanted;
}

/** The view's fetched pages with the rows of wanted units that are there whole, which leave `wanted`; does any row go? */
function whatStays(c: Content, view: number, wanted: Map<number, ParkedUnit>): { pages: FetchPage[]; drops: boolean } {
  const { memory, pages, blocks } = c.storage;
  const rows = new Map<number, number>();
  const eachRow = (use: (page: number, row: number, unit: number) => void): void => {
    for (let i = 0; i < c.refs[view]!; i++) {
      const units = pages.fetched.get(c.pageAt(view, i));
      if (!units) break;
      ref.load(memory, c.ref(view, i));
      for (let row = ref.first; row < ref.end; row++) if (hasRow(ref.lo, ref.hi, row)) use(ref.page, row, units[row]!);
    }
  };
  eachRow((_, __, unit) => rows.set(unit, (rows.get(unit) ?? 0) + 1));
  const stays = new Set<number>();
  for (const [serial, unit] of wanted) {
    if (rows.get(serial) === (unit.rows ?? unit.stored.positions).length) stays.add(serial);
  }
  for (const serial of stays) wanted.delete(serial);
  const byPage = new Map<number, FetchPage>();
  let drops = false;
  eachRow((page, row, unit) => {
    let fetched = byPage.get(page);
    if (!fetched) {
      fetched = new FetchPage(page);
      byPage.set(page, fetched);
    }
    if (stays.has(unit)) fetched.add(row, blocks.at(pages.positions[page]!, row), unit);
    else drops = true;
  });
  for (const fetched of byPage.values()) if (pages.refs[fetched.page] === 1) fetched.open();
  return { pages: [...byPage.values()], drops };
}

/** Stages the rows of the units and finds room for each, in `pages` or in more of them: `coming`. May raise `backend_failed`. */
function place(units: ReadonlyMap<number, ParkedUnit>, pages: FetchPage[]): void {
  coming.count = 0;
  let at = 0;
  for (const unit of units.values()) {
    const { stored } = unit;
    stored.read(staged, at);
    const rows = unit.rows ?? stored.positions.keys();
    for (const row of rows) {
      const position = stored.positions[row]!;
      let to = -1;
      let page: FetchPage | undefined;
      for (page of pages) {
        to = page.full ? -1 : page.take(position, stored.serial);
        if (to >= 0) break;
      }
      if (!page || to < 0) {
        page = new FetchPage(-1);
        page.open();
        pages.push(page);
        to = page.take(position, stored.serial);
      }
      const n = coming.count++;
      coming.rowBytes[n] = stored.rowBytes;
      coming.at[n] = at + row * stored.rowBytes.size;
      coming.to[n] = page;
      coming.row[n] = to;
    }
    at += stored.positions.length * stored.rowBytes.size;
  }
}

/** A positions block, and the page where there is none yet. */
function allocate(c: Content, view: number, page: FetchPage): void {
  const { blocks, pages } = c.storage;
  page.block = blocks.intern(page.settle(), 0, page.positions.length, c.account, page.least);
  if (page.page >= 0) return;
  const block = page.block;
  // The page takes the block over, also where it cannot be made.
  page.block = -1;
  page.page = pages.create(c.spans.groups[c.spans.groupOfView[view]!]!, block, c.account, false);
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
