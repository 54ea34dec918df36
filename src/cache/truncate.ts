import { notePeak } from './account.ts';
import { hasRow, rangeHi, rangeLo } from './bits.ts';
import type { Content } from './content.ts';
import { setParked } from './parked.ts';
import { renewPromise } from './promise.ts';
import { Ref, RefList } from './ref-list.ts';

const ref = new Ref();
const list = new RefList();

/** See CacheSequence.truncate. */
export function truncate(c: Content, position: number): void {
  let measured = false;
  for (let view = 0; view < c.refs.length; view++) {
    if (!reaches(c, view, position)) continue;
    if (!measured) notePeak(c);
    measured = true;
    cutView(c, view, position);
  }
  for (const [view, parked] of c.parked) {
    const cut = parked.cut(position);
    if (cut !== parked) setParked(c, view, cut);
  }
  for (let slot = 0; slot < c.next.length; slot++) c.next[slot] = Math.min(c.next[slot]!, position);
  c.changed();
  renewPromise(c);
}

/** Has the view an entry at or after `position`? */
function reaches(c: Content, view: number, position: number): boolean {
  for (let i = c.refs[view]! - 1; i >= 0; i--) {
    ref.load(c.storage.memory, c.ref(view, i));
    if (ref.contiguous) {
      if (c.storedPosition(ref, ref.end - 1) + ref.shift >= position) return true;
      continue;
    }
    for (let row = ref.first; row < ref.end; row++) if (isFrom(c, row, position)) return true;
  }
  return false;
}

function cutView(c: Content, view: number, position: number): void {
  const { memory, pages, blocks } = c.storage;
  list.clear();
  for (let i = 0; i < c.refs[view]!; i++) {
    ref.load(memory, c.ref(view, i));
    let { lo, hi } = ref;
    if (ref.contiguous) {
      const end = Math.max(ref.first, Math.min(ref.end, position - ref.shift - c.storedPosition(ref, 0)));
      lo = (lo & rangeLo(ref.first, end)) >>> 0;
      hi = (hi & rangeHi(ref.first, end)) >>> 0;
    } else {
      for (let row = ref.first; row < ref.end; row++) {
        if (!isFrom(c, row, position)) continue;
        lo = (lo & ~rangeLo(row, row + 1)) >>> 0;
        hi = (hi & ~rangeHi(row, row + 1)) >>> 0;
      }
    }
    const contiguous = blocks.contiguous[pages.positions[ref.page]!]!;
    list.push(ref.cell, ref.positions, contiguous, ref.layout, ref.shift, ref.page, lo, hi);
  }
  c.replace(view, list);
}

function isFrom(c: Content, row: number, position: number): boolean {
  return hasRow(ref.lo, ref.hi, row) && c.storedPosition(ref, row) + ref.shift >= position;
}
