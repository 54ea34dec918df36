import { KvasirError } from '../errors.ts';
import { hasRow } from './bits.ts';
import type { Content } from './content.ts';
import { FetchPage } from './fetch-place.ts';
import type { ParkedUnit } from './parked.ts';
import { Ref } from './ref-list.ts';

/** A part of a unit: rows [from, to) of it as it was parked. */
export interface Piece {
  readonly unit: ParkedUnit;
  readonly from: number;
  readonly to: number;
  /** Rows that are left of it. */
  readonly rows: number;
}

const ref = new Ref();

/** Pieces by number (serial), those without rows left out. */
export function wantedPieces(c: Content, view: number, ids: Uint32Array): Map<number, Piece> {
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
export const present = new Map<number, number>();

/** The view's fetched pages with the rows that stay; does any row go? */
export function whatStays(
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
export function remember(c: Content, view: number, wanted: ReadonlyMap<number, Piece>, resident: number): void {
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
