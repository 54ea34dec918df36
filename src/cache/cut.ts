import { hasRow, rangeHi, rangeLo } from './bits.ts';
import type { Content } from './content.ts';
import { Ref, type RefList } from './ref-list.ts';

/** Entries [from, to) of a view that leave it (none where both are the same), and what comes in their place. */
export interface Cut {
  readonly from: number;
  readonly to: number;
  /** Adds the records that stand there instead. */
  readonly insert?: (list: RefList) => void;
}

const ref = new Ref();

/** Row of the n-th live row (from 0) of a record; its end where there are no more. */
export function rowOfEntry(ref: Ref, n: number): number {
  const rows = ref.end - ref.first;
  if (ref.live === rows) return ref.first + Math.min(n, rows);
  let left = n;
  for (let row = ref.first; row < ref.end; row++) if (hasRow(ref.lo, ref.hi, row) && left-- === 0) return row;
  return ref.end;
}

/**
 * Adds the view's records to `list`, less the cuts and with what stands in their place.
 * @param cuts ascending, disjoint
 */
export function cutView(c: Content, view: number, cuts: readonly Cut[], list: RefList): void {
  const { memory, pages, blocks } = c.storage;
  let entry = 0;
  let next = 0;
  let inserted = -1;
  for (let i = 0; i < c.refs[view]!; i++) {
    ref.load(memory, c.ref(view, i));
    const end = entry + ref.live;
    const contiguous = blocks.contiguous[pages.positions[ref.page]!]!;
    const start = entry;
    while (entry < end) {
      const cut = cuts[next];
      if (cut && cut.from <= entry) {
        if (inserted < next) cut.insert?.(list);
        inserted = next;
        if (cut.to <= end) next++;
        entry = Math.max(entry, Math.min(end, cut.to));
        continue;
      }
      const to = cut ? Math.min(end, cut.from) : end;
      const first = rowOfEntry(ref, entry - start);
      const last = to === end ? ref.end : rowOfEntry(ref, to - start);
      const lo = (ref.lo & rangeLo(first, last)) >>> 0;
      const hi = (ref.hi & rangeHi(first, last)) >>> 0;
      list.push(ref.cell, ref.positions, contiguous, ref.layout, ref.shift, ref.page, lo, hi);
      entry = to;
    }
  }
}
