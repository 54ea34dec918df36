import {
  PAGE_TOKENS,
  POSITIONS_BASE,
  POSITIONS_DELTA,
  REF_FLAG_CONTIGUOUS,
  REF_FLAGS,
  REF_POSITIONS,
  REF_SHIFT,
} from '../../kernels/abi.ts';
import { KvasirError } from '../errors.ts';
import type { Content } from './content.ts';
import { isUnrotated } from './entry-rows.ts';
import { redirect } from './page-copy.ts';
import { checkNothingParked } from './parked.ts';
import { PositionTable } from './positions.ts';
import { Ref } from './ref-list.ts';
import { openTail } from './tail.ts';

/** A record that moves: to another positions block (of its page or of a copy of its page), or to another shift. */
interface Moves {
  count: number;
  view: number[];
  record: number[];
  /** A reference is held on it; -1: the record gets a shift. */
  block: number[];
  /** The copy of a page that others refer to, which holds the reference on the block; -1: none. */
  copy: number[];
  shift: number[];
}

const PARTED = Number.MAX_SAFE_INTEGER;

const ref = new Ref();
const rows = new Int32Array(PAGE_TOKENS);
/** Used again and again, so that a step makes no objects. */
const moves: Moves = { count: 0, view: [], record: [], block: [], copy: [], shift: [] };

/** See CacheSequence.renumber. */
export function renumber(c: Content, slot: number): void {
  const { kvHeads } = c.storage.shape;
  const first = slot * kvHeads;
  checkNothingParked(c, 'renumber', slot, slot + 1);
  let next = 0;
  for (let view = first; view < first + kvHeads; view++) next = Math.max(next, c.entries[view]!);
  const { promised } = c.account;
  moves.count = 0;
  try {
    for (let view = first; view < first + kvHeads; view++) planView(c, view, next);
  } catch (error) {
    for (let n = 0; n < moves.count; n++) {
      if (moves.copy[n]! >= 0) c.storage.pages.destroy(moves.copy[n]!);
      else if (moves.block[n]! >= 0) c.storage.blocks.release(moves.block[n]!);
    }
    c.account.restorePromise(promised);
    throw error;
  }
  if (moves.count === 0 && c.next[slot] === next) return;
  for (let n = 0; n < moves.count; n++) applyMove(c, n);
  c.next[slot] = next;
  c.version++;
  c.lastRows.fill(0);
  const { groups, firstGroup } = c.spans;
  for (let g = firstGroup[slot]!; g < firstGroup[slot + 1]!; g++) openTail(c, groups[g]!);
  c.account.restorePromise(promised);
}

/** Decides for every record of a view. May fail; changes nothing but `moves`. */
function planView(c: Content, view: number, next: number): void {
  const { memory, pages, blocks } = c.storage;
  let start = 0;
  for (let i = 0; i < c.refs[view]!; i++) {
    ref.load(memory, c.ref(view, i));
    const live = ref.live;
    const last = i === c.refs[view]! - 1;
    const own = pages.refs[ref.page] === 1;
    const whole = live === ref.end - ref.first;
    // Rows that go on in the last page do so at the slot's next position, whatever the number of this head's entries.
    const block = pages.positions[ref.page]!;
    const goesOn = last && own && ref.shift === 0 && ref.end < PAGE_TOKENS && blocks.at(block, ref.end) !== next;
    // Rows before the first one are never seen, but stored positions must not be negative.
    const run = whole && start >= ref.first && (!last || start + live === next);
    const delta =
      run && ref.contiguous
        ? start - c.storedPosition(ref, ref.first) - ref.shift
        : fillRows(c, start, last ? next : start + live);
    if (delta !== 0) checkMovable(c, view);
    if (delta === 0 && !goesOn) {
      // Already there.
    } else if (own || delta === PARTED) {
      toBlock(c, view, i, own, run ? blocks.internRun(start - ref.first, c.account) : internRows(c));
    } else {
      addMove(view, i, -1, -1, ref.shift + delta);
    }
    start += live;
  }
}

/**
 * Positions of all rows of the record's page: `start` and on for live rows, `after` and on for rows after them. Rows that
 * nobody sees get any in between. Returns by how much all live rows move, PARTED where they do not move together.
 */
function fillRows(c: Content, start: number, after: number): number {
  const { i32, u16 } = c.storage.memory;
  const { first, end, lo, hi } = ref;
  const base = i32[(ref.positions + POSITIONS_BASE) >>> 2]! + ref.shift;
  const deltas = (ref.positions + POSITIONS_DELTA) >>> 1;
  const delta = start - base - u16[deltas + first]!;
  let position = start;
  let together = true;
  for (let row = 0; row < first; row++) rows[row] = start;
  for (let row = first; row < end; row++) {
    rows[row] = position;
    if ((row < 32 ? lo >>> row : hi >>> (row - 32)) & 1) {
      if (position - base - u16[deltas + row]! !== delta) together = false;
      position++;
    }
  }
  for (let row = end; row < PAGE_TOKENS; row++) rows[row] = after + row - end;
  return together ? delta : PARTED;
}

function checkMovable(c: Content, view: number): void {
  const unrotated = isUnrotated(c, ref.layout);
  const group = c.spans.groups[c.spans.groupOfView[view]!]!;
  if (unrotated && group.views.length === 1) return;
  const field = unrotated ? 'pages.span' : 'pages.keysUnrotated';
  throw new KvasirError('invalid_request', 'These entries cannot be renumbered.', {
    field,
    value: unrotated ? group.views.length : false,
    allowed: unrotated ? 'pages of one slot and one KV head' : 'keys stored before RoPE (keysUnrotated: true)',
  });
}

/** The block of what `fillRows` has numbered. */
function internRows(c: Content): number {
  const fits = PositionTable.fits(rows[0]!, rows[PAGE_TOKENS - 1]!);
  return c.storage.blocks.intern(rows, 0, fits ? PAGE_TOKENS : ref.end, c.account);
}

/** Plans other stored positions for a record: `block`, a reference on which is taken over. */
function toBlock(c: Content, view: number, i: number, own: boolean, block: number): void {
  const { pages, blocks } = c.storage;
  let copy = -1;
  if (!own) {
    try {
      copy = pages.copy(ref.page, c.account);
    } catch (error) {
      blocks.release(block);
      throw error;
    }
    pages.setPositions(copy, block);
  }
  addMove(view, i, block, copy, 0);
}

function addMove(view: number, record: number, block: number, copy: number, shift: number): void {
  const n = moves.count++;
  moves.view[n] = view;
  moves.record[n] = record;
  moves.block[n] = block;
  moves.copy[n] = copy;
  moves.shift[n] = shift;
}

function applyMove(c: Content, n: number): void {
  const { pages, blocks, memory } = c.storage;
  const view = moves.view[n]!;
  const i = moves.record[n]!;
  const block = moves.block[n]!;
  const copy = moves.copy[n]!;
  const at = c.ref(view, i) >>> 2;
  if (memory.i32[at + REF_SHIFT / 4] !== moves.shift[n]) {
    memory.i32[at + REF_SHIFT / 4] = moves.shift[n]!;
    c.edits++;
  }
  if (block < 0) return;
  const page = c.pageAt(view, i);
  if (copy >= 0) {
    redirect(c, view, i, copy);
  } else {
    c.undo?.positions(page);
    pages.setPositions(page, block);
    memory.u32[at + REF_POSITIONS / 4] = blocks.address[block]!;
  }
  ref.load(memory, c.ref(view, i));
  const flags = memory.u32[at + REF_FLAGS / 4]!;
  const contiguous = blocks.contiguous[block]! >= ref.end;
  memory.u32[at + REF_FLAGS / 4] = contiguous ? flags | REF_FLAG_CONTIGUOUS : flags & ~REF_FLAG_CONTIGUOUS;
}
