import type { Content } from './content.ts';
import type { Piece } from './fetch-pieces.ts';
import { FetchPage } from './fetch-place.ts';
import { hotCopies, type ParkedUnit } from './parked.ts';
import { Bytes, type RowBytes } from './row-bytes.ts';

/** Rows that come: how their bytes are read, where they are staged, and where they go. */
export interface Coming {
  count: number;
  readonly rowBytes: RowBytes[];
  readonly at: number[];
  readonly to: FetchPage[];
  readonly row: number[];
}

/** Their bytes. */
export const staged = new Bytes();
/** Those of the last `place`; used again and again. */
export const coming: Coming = { count: 0, rowBytes: [], at: [], to: [], row: [] };

/** Stages the rows of the pieces and finds room for each, in `pages` or in more of them: `coming`. May raise `backend_failed`. */
export function place(
  c: Content,
  view: number,
  missing: readonly (readonly [number, Piece])[],
  pages: FetchPage[],
): void {
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
