import { KvasirError } from '../errors.ts';
import { hasRow, rangeHi, rangeLo } from './bits.ts';
import type { Content, Growth } from './content.ts';
import { checkNothingParked } from './parked.ts';
import { MAX_POSITION } from './positions.ts';
import { renewPromise } from './promise.ts';
import { Ref, RefList } from './ref-list.ts';

const ref = new Ref();

/** See CacheSequence.shift. */
export function shift(c: Content, delta: number, from: number, to: number): void {
  for (const [field, value] of Object.entries({ delta, from, to })) {
    const whole = Number.isInteger(value) || (field === 'to' && value === Number.POSITIVE_INFINITY);
    if (!whole || Math.abs(delta) > MAX_POSITION) throw bad(field, value, 'a whole number');
  }
  if (delta === 0 || to <= from) return;
  checkNothingParked(c, 'shift', 0, c.next.length);
  checkLanding(c, delta, from, to);
  const lists: { view: number; list: RefList }[] = [];
  const growths: Growth[] = [];
  try {
    for (let view = 0; view < c.refs.length; view++) {
      const list = moved(c, view, delta, from, to);
      if (!list) continue;
      lists.push({ view, list });
      const growth = c.stageGrowth(view, list.count, false);
      if (growth) growths.push(growth);
    }
  } catch (error) {
    for (const growth of growths) c.dropGrowth(growth);
    throw error;
  }
  for (const growth of growths) c.applyGrowth(growth);
  for (const { view, list } of lists) c.replace(view, list);
  for (let slot = 0; slot < c.next.length; slot++) if (isEnd(c, slot, from, to)) c.next[slot]! += delta;
  c.changed();
  renewPromise(c);
}

/** Does the range take the end of the slot's sequence along? */
function isEnd(c: Content, slot: number, from: number, to: number): boolean {
  return from < c.next[slot]! && to >= c.next[slot]!;
}

/** Every moved entry must lie in 0 .. next - 1, and where the end moves along no unmoved entry may be left beyond it. */
function checkLanding(c: Content, delta: number, from: number, to: number): void {
  const { slots, kvHeads } = c.storage.shape;
  for (let slot = 0; slot < slots; slot++) {
    const end = c.next[slot]! + (isEnd(c, slot, from, to) ? delta : 0);
    if (end < 0 || end > MAX_POSITION) throw bad('delta', delta, 'what leaves the next position in 0 .. 2^31 - 1');
    for (let head = 0; head < kvHeads; head++) {
      const view = slot * kvHeads + head;
      for (let i = 0; i < c.refs[view]!; i++) {
        ref.load(c.storage.memory, c.ref(view, i));
        for (let row = ref.first; row < ref.end; row++) {
          if (!hasRow(ref.lo, ref.hi, row)) continue;
          const position = c.storedPosition(ref, row) + ref.shift;
          const after = position >= from && position < to ? position + delta : position;
          if (after < 0 || after >= end) {
            throw bad('delta', delta, `what leaves the entry at position ${position} within 0 .. ${end - 1}`);
          }
        }
      }
    }
  }
}

/** The view's references after the move, split where the range cuts a page; null where nothing moves. */
function moved(c: Content, view: number, delta: number, from: number, to: number): RefList | null {
  const { memory, pages, blocks } = c.storage;
  const list = new RefList();
  let any = false;
  for (let i = 0; i < c.refs[view]!; i++) {
    ref.load(memory, c.ref(view, i));
    const contiguous = blocks.contiguous[pages.positions[ref.page]!]!;
    const push = (by: number, lo: number, hi: number) =>
      list.push(ref.cell, ref.positions, contiguous, ref.layout, ref.shift + by, ref.page, lo, hi);
    let start = ref.first;
    let inside: boolean = false;
    for (let row = ref.first; row <= ref.end; row++) {
      let now: boolean = inside;
      if (row < ref.end) {
        if (!hasRow(ref.lo, ref.hi, row)) continue;
        const position = c.storedPosition(ref, row) + ref.shift;
        now = position >= from && position < to;
        if (now) any = true;
        if (row === ref.first) inside = now;
      }
      if (now === inside && row < ref.end) continue;
      push(inside ? delta : 0, (ref.lo & rangeLo(start, row)) >>> 0, (ref.hi & rangeHi(start, row)) >>> 0);
      start = row;
      inside = now;
    }
  }
  return any ? list : null;
}

function bad(field: string, value: unknown, allowed: string): KvasirError {
  return new KvasirError('invalid_request', `Cannot shift: ${field} is ${String(value)}.`, { field, value, allowed });
}
