import { REF_BYTES } from '../../kernels/abi.ts';
import { hasRow, rangeHi, rangeLo } from './bits.ts';
import type { Content } from './content.ts';
import { Ref, RefList } from './ref-list.ts';

/** A part of a view as records of its own: what a step reads where it does not read all. */

const ref = new Ref();
const list = new RefList();
const named = new Set<number>();

/** See CacheSequence.writePieces. Pieces that there are not any more are passed over. */
export function writePieces(c: Content, view: number, pieces: Uint32Array, count: number, address: number): number {
  const parked = c.parked.get(view);
  const halvings = parked?.shape.halvings ?? 0;
  named.clear();
  for (let n = 0; n < count; n++) {
    const unit = parked?.units[pieces[n]! >>> halvings];
    if (unit) named.add(unit.stored.serial + (pieces[n]! & ((1 << halvings) - 1)));
  }
  const { fetched } = c.storage.pages;
  list.clear();
  for (let i = 0; i < c.refs[view]!; i++) {
    ref.load(c.storage.memory, c.ref(view, i));
    const units = fetched.get(ref.page);
    if (!units) {
      push(c, ref.lo, ref.hi);
      continue;
    }
    let lo = 0;
    let hi = 0;
    for (let row = ref.first; row < ref.end; row++) {
      if (!hasRow(ref.lo, ref.hi, row) || !named.has(units[row]!)) continue;
      if (row < 32) lo = (lo | (1 << row)) >>> 0;
      else hi = (hi | (1 << (row - 32))) >>> 0;
    }
    push(c, lo, hi);
  }
  return write(c, address);
}

/** See CacheSequence.writeRanges. */
export function writeRanges(c: Content, view: number, ranges: Uint32Array, count: number, address: number): number {
  list.clear();
  let entry = 0;
  let n = 0;
  for (let i = 0; i < c.refs[view]! && n < count; i++) {
    ref.load(c.storage.memory, c.ref(view, i));
    const end = entry + ref.live;
    let lo = 0;
    let hi = 0;
    for (; n < count && ranges[2 * n]! < end; n++) {
      const from = Math.max(0, ranges[2 * n]! - entry);
      const to = Math.min(end, ranges[2 * n + 1]!) - entry;
      const first = rowOf(from);
      const stop = to === end - entry ? ref.end : rowOf(to);
      lo = (lo | (ref.lo & rangeLo(first, stop))) >>> 0;
      hi = (hi | (ref.hi & rangeHi(first, stop))) >>> 0;
      if (ranges[2 * n + 1]! > end) break;
    }
    push(c, lo, hi);
    entry = end;
  }
  return write(c, address);
}

/** Row of the n-th live row of the record in `ref`. */
function rowOf(n: number): number {
  if (ref.live === ref.end - ref.first) return ref.first + n;
  let left = n;
  for (let row = ref.first; row < ref.end; row++) if (hasRow(ref.lo, ref.hi, row) && left-- === 0) return row;
  return ref.end;
}

function push(c: Content, lo: number, hi: number): void {
  const { pages, blocks } = c.storage;
  const contiguous = blocks.contiguous[pages.positions[ref.page]!]!;
  list.push(ref.cell, ref.positions, contiguous, ref.layout, ref.shift, ref.page, lo, hi);
}

function write(c: Content, address: number): number {
  c.storage.memory.u32.set(list.words.subarray(0, (list.count * REF_BYTES) >>> 2), address >>> 2);
  return list.count;
}
