import {
  APPEND_BYTES,
  APPEND_CELL,
  APPEND_FIRST,
  APPEND_K,
  APPEND_LAYOUT,
  APPEND_LAYOUTS,
  APPEND_ROWS,
  APPEND_STRIDE,
  APPEND_TURN,
  APPEND_V,
  PAGE_TOKENS,
  REF_BYTES,
  REF_CELL,
  REF_COUNT,
  REF_FIRST,
  REF_LAYOUT,
  REF_PAGE,
  REF_POSITIONS,
} from '../../kernels/abi.ts';
import { KvasirError } from '../errors.ts';
import type { Content } from './content.ts';

/** See CacheSequence.writeAppendItems. Allocates nothing: it runs for every slot of every step. */
export function writeAppendItems(
  c: Content,
  slot: number,
  items: number,
  k: number,
  v: number,
  stride: number,
  turn: number,
  rows: number,
): number {
  const { storage, spans } = c;
  const { kvHeads, headDim, rotary } = storage.shape;
  const { u32, u16, u8 } = storage.memory;
  const { limit } = storage.pages;
  const { columns } = spans.groups[spans.groupOfView[slot * kvHeads]!]!.layout;
  let count = 0;
  for (let head = 0; head < kvHeads; head++) {
    const view = slot * kvHeads + head;
    let ref = c.refsAt[view]! + c.at[view]! * REF_BYTES;
    let done = 0;
    while (done < rows) {
      const first = u8[ref + REF_FIRST]! + u8[ref + REF_COUNT]!;
      const room = limit[u32[(ref + REF_PAGE) >>> 2]!]! - first;
      if (room > 0) {
        const here = Math.min(room, rows - done);
        const at = (items + count * APPEND_BYTES) >>> 2;
        const offset = done * stride + head * headDim;
        const cell = u32[(ref + REF_CELL) >>> 2]!;
        u32[at + APPEND_K / 4] = k + offset * 4;
        u32[at + APPEND_V / 4] = v + offset * 4;
        u32[at + APPEND_STRIDE / 4] = stride;
        u32[at + APPEND_ROWS / 4] = here;
        u32[at + APPEND_CELL / 4] = cell;
        u32[at + APPEND_LAYOUT / 4] = u16[(ref + REF_LAYOUT) >>> 1]!;
        u32[at + APPEND_FIRST / 4] = first;
        u32[at + APPEND_TURN / 4] = turn + done * rotary * 4;
        u32[at + APPEND_LAYOUTS / 4] = storage.layouts.address;
        // Rows may hold values from before a truncate.
        if (columns.size > 0) for (const column of columns.values()) clearColumn(c, cell + column, first, here);
        count++;
        done += here;
      }
      ref += REF_BYTES;
    }
  }
  return count;
}

function clearColumn(c: Content, column: number, first: number, rows: number): void {
  c.storage.memory.f32.fill(0, (column >>> 2) + first, (column >>> 2) + first + rows);
}

/** See CacheSequence.appendItemCount. */
export function appendItemCount(c: Content, slot: number, rows: number): number {
  const { kvHeads } = c.storage.shape;
  const { u32, u8 } = c.storage.memory;
  const { limit } = c.storage.pages;
  let count = 0;
  for (let head = 0; head < kvHeads; head++) {
    const view = slot * kvHeads + head;
    let ref = c.refsAt[view]! + c.at[view]! * REF_BYTES;
    for (let left = rows; left > 0; ref += REF_BYTES) {
      const room = limit[u32[(ref + REF_PAGE) >>> 2]!]! - u8[ref + REF_FIRST]! - u8[ref + REF_COUNT]!;
      if (room > 0) count++;
      left -= room;
    }
  }
  return count;
}

/** See CacheSequence.commitAppend. Allocates nothing. */
export function commitAppend(c: Content, slot: number, rows: number): void {
  const { kvHeads } = c.storage.shape;
  const { u32, u8 } = c.storage.memory;
  const { limit } = c.storage.pages;
  let last = 0;
  let filled = 0;
  for (let head = 0; head < kvHeads; head++) {
    const view = slot * kvHeads + head;
    let i = c.at[view]!;
    let left = rows;
    for (;;) {
      const ref = c.refsAt[view]! + i * REF_BYTES;
      const used = u8[ref + REF_COUNT]!;
      const end = u8[ref + REF_FIRST]! + used;
      const here = Math.min(left, limit[u32[(ref + REF_PAGE) >>> 2]!]! - end);
      u8[ref + REF_COUNT] = used + here;
      left -= here;
      last = ref;
      if (here > 0 && end + here === PAGE_TOKENS) filled = 1;
      if (left === 0) break;
      i++;
    }
    c.at[view] = i;
    if (i >= c.refs[view]!) {
      c.prepared[view]! -= i + 1 - c.refs[view]!;
      c.refs[view] = i + 1;
    }
    c.entries[view]! += rows;
  }
  c.filled[slot] = filled;
  c.next[slot] = lastPosition(c, last) + 1;
  c.appended[slot]! += rows;
  c.pending[slot]! -= rows;
  if (c.pending[slot] === 0) c.pendingSlots--;
  c.version++;
}

/** Stored position of the last row of an unshifted record. */
function lastPosition(c: Content, ref: number): number {
  const { u32, u16, u8 } = c.storage.memory;
  const row = u8[ref + REF_FIRST]! + u8[ref + REF_COUNT]! - 1;
  const positions = u32[(ref + REF_POSITIONS) >>> 2]!;
  return u32[positions >>> 2]! + u16[(positions >>> 1) + 4 + row]!;
}

/** Drops the prepared rows of all slots. A copy of a shared last page, once made, stays. */
export function rollback(c: Content): void {
  const { pages, shape } = c.storage;
  for (let slot = 0; slot < shape.slots; slot++) {
    if (c.pending[slot] === 0) continue;
    c.pending[slot] = 0;
    for (let view = slot * shape.kvHeads; view < (slot + 1) * shape.kvHeads; view++) {
      for (let i = 0; i < c.prepared[view]!; i++) pages.release(c.pageAt(view, c.refs[view]! + i));
      c.prepared[view] = 0;
    }
  }
  c.pendingSlots = 0;
  c.changed();
}

/** See CacheSequence.undoAppend. */
export function undoAppend(c: Content, fromSlot: number, toSlot: number): void {
  const { pages, shape, memory } = c.storage;
  if (!c.lastRows.subarray(fromSlot, toSlot).some(rows => rows > 0)) {
    throw new KvasirError('invalid_request', 'There is no append to undo: the sequence has changed since.', {
      field: 'sequence',
      allowed: 'undoAppend right after the commit',
    });
  }
  for (let slot = fromSlot; slot < toSlot; slot++) {
    const rows = c.lastRows[slot]!;
    if (rows === 0) continue;
    for (let view = slot * shape.kvHeads; view < (slot + 1) * shape.kvHeads; view++) {
      let left = rows;
      while (left > 0) {
        const i = c.refs[view]! - 1;
        const count = c.ref(view, i) + REF_COUNT;
        const here = Math.min(left, memory.u8[count]!);
        memory.u8[count]! -= here;
        left -= here;
        if (memory.u8[count] === 0) {
          pages.release(c.pageAt(view, i));
          c.refs[view] = i;
        }
      }
      c.entries[view]! -= rows;
    }
    c.next[slot] = c.nextBefore[slot]!;
    c.appended[slot]! -= rows;
  }
  c.changed();
}
