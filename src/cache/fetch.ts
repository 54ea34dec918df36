import { KvasirError } from '../errors.ts';
import { notePeakOnce } from './account.ts';
import { hasRow } from './bits.ts';
import type { Content, Growth } from './content.ts';
import { FetchPage } from './fetch-place.ts';
import { hotCopies, type ParkedUnit } from './parked.ts';
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

/** A part of a unit: rows [from, to) of it as it was parked. */
interface Piece {
  readonly unit: ParkedUnit;
  readonly from: number;
  readonly to: number;
  /** Rows that are left of it. */
  readonly rows: number;
}

const ref = new Ref();
const list = new RefList();
const staged = new Bytes();
/** Used again and again. */
const coming: Coming = { count: 0, rowBytes: [], at: [], to: [], row: [] };
let pair = new Float32Array(0);

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

/** A unit of a view by its number. Raises `invalid_request`. */
export function unitOf(c: Content, view: number, id: number): ParkedUnit {
  const units = c.parked.get(view)?.units ?? [];
  const unit = units[id];
  if (unit) return unit;
  throw new KvasirError('invalid_request', `There is no parked unit ${id}.`, {
    field: 'unit',
    value: id,
    allowed: units.length === 0 ? 'none: nothing is parked' : `units 0 to ${units.length - 1}`,
  });
}

/** Pieces by number (serial), those without rows left out. */
function wantedPieces(c: Content, view: number, ids: Uint32Array): Map<number, Piece> {
  const parked = c.parked.get(view);
  const units = parked?.units ?? [];
  const halvings = parked?.shape.halvings ?? 0;
  const wanted = new Map<number, Piece>();
  const seen = new Set<number>();
  for (const id of ids) {
    const unit = units[id >>> halvings];
    if (!unit || seen.has(id)) {
      const last = (units.length << halvings) - 1;
      throw new KvasirError('invalid_request', `Cannot fetch unit ${id}.`, {
        field: 'units',
        value: id,
        allowed: units.length === 0 ? 'none: nothing is parked' : `distinct units 0 to ${last}`,
      });
    }
    seen.add(id);
    const piece = id & ((1 << halvings) - 1);
    const { stored, rows: left } = unit;
    const [from, to] = [stored.start(piece), stored.start(piece + 1)];
    let rows = to - from;
    if (left) {
      rows = 0;
      for (const row of left) if (row >= from && row < to) rows++;
    }
    if (rows > 0) wanted.set(stored.serial + piece, { unit, from, to, rows });
  }
  return wanted;
}

/** Pieces that are resident and stay so, by number: rows. Valid until the next fetch. */
const present = new Map<number, number>();

/** The view's fetched pages with the rows that stay; does any row go? */
function whatStays(
  c: Content,
  view: number,
  wanted: ReadonlyMap<number, Piece>,
  chosen: number,
  resident: number,
): { pages: FetchPage[]; drops: boolean } {
  const { memory, pages, blocks } = c.storage;
  present.clear();
  const eachRow = (use: (page: number, row: number, piece: number) => void): void => {
    for (let i = 0; i < c.refs[view]!; i++) {
      const pieces = pages.fetched.get(c.pageAt(view, i));
      if (!pieces) break;
      ref.load(memory, c.ref(view, i));
      for (let row = ref.first; row < ref.end; row++) if (hasRow(ref.lo, ref.hi, row)) use(ref.page, row, pieces[row]!);
    }
  };
  eachRow((_, __, piece) => present.set(piece, (present.get(piece) ?? 0) + 1));
  let total = chosen;
  for (const [serial, rows] of present) {
    const piece = wanted.get(serial);
    if (!piece) total += rows;
    else if (piece.rows !== rows) present.delete(serial);
  }
  const recent = c.recent.get(view);
  const evict = (serial: number) => {
    if (total <= resident || wanted.has(serial) || !present.has(serial)) return;
    total -= present.get(serial)!;
    present.delete(serial);
  };
  for (const serial of present.keys()) if (!recent?.has(serial)) evict(serial);
  if (recent) for (const serial of recent) evict(serial);
  const byPage = new Map<number, FetchPage>();
  let drops = false;
  eachRow((page, row, piece) => {
    let fetched = byPage.get(page);
    if (!fetched) {
      fetched = new FetchPage(page);
      byPage.set(page, fetched);
    }
    if (present.has(piece)) fetched.add(row, blocks.at(pages.positions[page]!, row), piece);
    else drops = true;
  });
  for (const fetched of byPage.values()) fetched.open();
  return { pages: [...byPage.values()], drops };
}

/** The pieces now named are the ones chosen last. */
function remember(c: Content, view: number, wanted: ReadonlyMap<number, Piece>, resident: number): void {
  let recent = c.recent.get(view);
  if (resident === 0) {
    if (recent) c.recent.delete(view);
    return;
  }
  if (!recent) {
    recent = new Set();
    c.recent.set(view, recent);
  }
  for (const serial of recent) if (wanted.has(serial) || !present.has(serial)) recent.delete(serial);
  for (const serial of wanted.keys()) recent.add(serial);
}

/** Stages the rows of the pieces and finds room for each, in `pages` or in more of them: `coming`. May raise `backend_failed`. */
function place(c: Content, view: number, missing: readonly (readonly [number, Piece])[], pages: FetchPage[]): void {
  coming.count = 0;
  let at = 0;
  for (let n = 0; n < missing.length; ) {
    // Neighbours in one unit are read at once.
    const { unit, from } = missing[n]![1];
    let end = n + 1;
    while (end < missing.length && missing[end]![1].unit === unit && missing[end]![1].from === missing[end - 1]![1].to)
      end++;
    stage(c, view, missing.slice(n, end), at);
    const { size } = unit.stored.rowBytes;
    for (; n < end; n++) {
      const [serial, piece] = missing[n]!;
      for (let row = piece.from; row < piece.to; row++)
        if (!unit.rows || unit.rows.includes(row)) takeRow(unit, row, at + (row - from) * size, serial, pages);
    }
    at += (missing[n - 1]![1].to - from) * size;
  }
}

/** Bytes of neighbouring pieces of one unit to `staged`: from the copies in memory where all of them are there. */
function stage(c: Content, view: number, pieces: readonly (readonly [number, Piece])[], at: number): void {
  const { unit, from } = pieces[0]![1];
  const { stored } = unit;
  const size = stored.rowBytes.size;
  const { to } = pieces.at(-1)![1];
  staged.ensure(at + (to - from) * size);
  if (stored.tier === 'memory') {
    stored.readRows(staged, at, from * size, to * size);
    c.traffic.memory += (to - from) * size;
    return;
  }
  const hot = hotCopies(c, view);
  for (let n = 0; n < pieces.length; ) {
    const copy = hot.get(pieces[n]![0]);
    const start = pieces[n]![1].from;
    if (copy) {
      staged.u8.set(copy, at + (start - from) * size);
      c.traffic.memory += copy.length;
      n++;
      continue;
    }
    let end = n + 1;
    while (end < pieces.length && !hot.has(pieces[end]![0])) end++;
    const stop = pieces[end - 1]![1].to;
    stored.readRows(staged, at + (start - from) * size, start * size, stop * size);
    c.traffic.file += (stop - start) * size;
    for (; n < end; n++) {
      const [serial, piece] = pieces[n]!;
      const [begin, close] = [at + (piece.from - from) * size, at + (piece.to - from) * size];
      hot.put(serial, staged.u8.subarray(begin, close));
    }
  }
}

/** Gives one row a place. */
function takeRow(unit: ParkedUnit, row: number, at: number, serial: number, pages: FetchPage[]): void {
  const { stored } = unit;
  const position = stored.positions[row]!;
  let to = -1;
  let page: FetchPage | undefined;
  for (page of pages) {
    to = page.full ? -1 : page.take(position, serial);
    if (to >= 0) break;
  }
  if (!page || to < 0) {
    page = new FetchPage(-1);
    page.open();
    pages.push(page);
    to = page.take(position, serial);
  }
  const n = coming.count++;
  coming.rowBytes[n] = stored.rowBytes;
  coming.at[n] = at;
  coming.to[n] = page;
  coming.row[n] = to;
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

/** See CacheSequence.pieceBounds. */
export function pieceBounds(c: Content, view: number, id: number, level: number, piece: number): Float32Array {
  const { stored } = unitOf(c, view, id);
  const floats = 4 * c.storage.shape.headDim;
  if (pair.length !== floats) pair = new Float32Array(floats);
  const bytes = new Uint8Array(pair.buffer);
  if (stored.tier === 'memory') {
    stored.readPair(bytes, level, piece);
    c.traffic.memory += bytes.length;
    return pair;
  }
  const hot = hotCopies(c, view);
  const number = stored.pairNumber(level, piece);
  const copy = hot.get(number);
  if (copy) {
    bytes.set(copy);
    c.traffic.memory += bytes.length;
    return pair;
  }
  stored.readPair(bytes, level, piece);
  c.traffic.file += bytes.length;
  hot.put(number, bytes);
  return pair;
}
