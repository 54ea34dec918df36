import {
  COPY_BYTES,
  KIND_COPY,
  PAGE_TOKENS,
  REF_BYTES,
  REF_CELL,
  REF_FLAG_CONTIGUOUS,
  REF_FLAG_FULL_MASK,
  REF_FLAGS,
  REF_MASK_HI,
  REF_MASK_LO,
  REF_PAGE,
  REF_POSITIONS,
  REF_SHIFT,
} from '../../kernels/abi.ts';
import { badPosition, checkAppend } from './append-check.ts';
import { ALL } from './bits.ts';
import type { Content, Growth } from './content.ts';
import { copyColumns, redirect, writePageCopies } from './page-copy.ts';
import { PageTable } from './pages.ts';
import { MAX_POSITION, PositionTable } from './positions.ts';
import type { Group } from './spans.ts';
import { findTail, limitReady, type Tail } from './tail.ts';

/** What a group gets for its new rows: decided and allocated before anything changes. */
interface Step {
  readonly group: Group;
  /** Rows that go on in the last page, after `end` rows. */
  readonly tailRows: number;
  readonly tail: Tail | null;
  /** Positions block that the last page gets, with a reference on it; -1: it has the right one. */
  tailBlock: number;
  /** Copy of the shared last page; -1: written in place. */
  copy: number;
  /** Lengths of the new pages, then the pages. */
  readonly lengths: number[];
  readonly pages: number[];
}

/** See CacheSequence.prepareAppend. */
export function prepareAppend(
  c: Content,
  rows: number,
  positions: Int32Array | undefined,
  fromSlot: number,
  toSlot: number,
): void {
  if (positions === undefined && isReady(c, rows, fromSlot, toSlot)) {
    for (let slot = fromSlot; slot < toSlot; slot++) c.ready[slot]! -= rows;
  } else {
    checkAppend(c, rows, positions, fromSlot, toSlot);
    if (rows === 0) return;
    prepareSlowly(c, rows, positions, fromSlot, toSlot);
  }
  c.version++;
  for (let slot = fromSlot; slot < toSlot; slot++) {
    c.pending[slot] = rows;
    c.lastRows[slot] = rows;
    c.nextBefore[slot] = c.next[slot]!;
  }
  c.pendingSlots += toSlot - fromSlot;
}

/** Have all last pages of the slots room for the rows that come next? */
function isReady(c: Content, rows: number, fromSlot: number, toSlot: number): boolean {
  const { isBorder } = c.spans;
  if (!(Number.isInteger(rows) && rows > 0 && fromSlot < toSlot && isBorder[fromSlot] && isBorder[toSlot]))
    return false;
  for (let slot = fromSlot; slot < toSlot; slot++) if (c.pending[slot] !== 0 || c.ready[slot]! < rows) return false;
  return true;
}

function prepareSlowly(
  c: Content,
  rows: number,
  given: Int32Array | undefined,
  fromSlot: number,
  toSlot: number,
): void {
  const { groups, firstGroup } = c.spans;
  const { account } = c;
  const promised = account.promised;
  // A last page takes fewer than 64 of the rows, so at least this much is needed: known before any work by the row.
  let least = 0;
  for (let g = firstGroup[fromSlot]!; g < firstGroup[toSlot]!; g++) {
    least += Math.floor(rows / PAGE_TOKENS) * PageTable.cost(groups[g]!);
  }
  account.require(least, 'rows', rows, true);
  const steps: Step[] = [];
  const growths: Growth[] = [];
  let source = given;
  try {
    for (let g = firstGroup[fromSlot]!; g < firstGroup[toSlot]!; g++) {
      const group = groups[g]!;
      if (!given) source = countOn(c.next[group.slot]!, rows, source);
      steps.push(plan(c, group, source!, rows));
    }
    let needed = 0;
    for (const step of steps) {
      const pages = step.lengths.length + (step.tail?.shared && step.tailRows > 0 ? 1 : 0);
      needed += pages * PageTable.cost(step.group);
    }
    account.require(needed, 'rows', rows, true);
    for (const step of steps) {
      if (!given) source = countOn(c.next[step.group.slot]!, rows, source);
      allocate(c, step, source!);
      for (const view of step.group.views) {
        const growth = c.stageGrowth(view, c.refs[view]! + step.lengths.length, true);
        if (growth) growths.push(growth);
      }
    }
    copySharedTails(c, steps);
  } catch (error) {
    for (const step of steps) discard(c, step);
    for (const growth of growths) c.dropGrowth(growth);
    account.setPromise(promised);
    throw error;
  }
  for (const growth of growths) c.applyGrowth(growth);
  c.ready.fill(PAGE_TOKENS, fromSlot, toSlot);
  for (const step of steps) limitReady(c, step.group, apply(c, step));
}

/** Decides how many rows go where. Changes nothing. */
function plan(c: Content, group: Group, source: Int32Array, rows: number): Step {
  const tail = findTail(c, group);
  let row = 0;
  if (tail) {
    const base = c.storage.blocks.base(tail.block);
    while (row < rows && tail.end + row < PAGE_TOKENS && PositionTable.fits(base, source[row]!)) row++;
  }
  const tailRows = row;
  const lengths: number[] = [];
  while (row < rows) {
    const from = row;
    while (row < rows && row - from < PAGE_TOKENS && PositionTable.fits(source[from]!, source[row]!)) row++;
    lengths.push(row - from);
  }
  return { group, tail: tailRows > 0 ? tail : null, tailRows, tailBlock: -1, copy: -1, lengths, pages: [] };
}

/** Allocates what a step needs; `discard` gives it back. */
function allocate(c: Content, step: Step, source: Int32Array): void {
  const { blocks, pages } = c.storage;
  const { account } = c;
  const { tail, tailRows, group } = step;
  if (tail) {
    let same = 0;
    while (same < tailRows && blocks.at(tail.block, tail.end + same) === source[same]) same++;
    if (same < tailRows) {
      const rows = new Int32Array(tail.end + tailRows);
      for (let i = 0; i < tail.end; i++) rows[i] = blocks.at(tail.block, i);
      rows.set(source.subarray(0, tailRows), tail.end);
      step.tailBlock = blocks.intern(rows, 0, rows.length, account);
    }
    if (tail.shared) {
      const block = step.tailBlock >= 0 ? step.tailBlock : tail.block;
      // The copy holds the block; the step gives its own reference away.
      if (step.tailBlock < 0) blocks.retain(block);
      step.tailBlock = -1;
      step.copy = pages.create(group, block, account, true);
    }
  }
  let row = tailRows;
  for (const length of step.lengths) {
    let run = 1;
    while (run < length && source[row + run] === source[row]! + run) run++;
    const block =
      run === length ? blocks.internRun(source[row]!, account) : blocks.intern(source, row, length, account);
    step.pages.push(pages.create(group, block, account, true));
    row += length;
  }
}

function discard(c: Content, step: Step): void {
  const { pages, blocks } = c.storage;
  if (step.tailBlock >= 0) blocks.release(step.tailBlock);
  if (step.copy >= 0) pages.destroy(step.copy);
  for (const page of step.pages) pages.destroy(page);
}

/** Copies the rows of shared last pages to their copies, in one run. */
function copySharedTails(c: Content, steps: readonly Step[]): void {
  let cells = 0;
  for (const step of steps) if (step.copy >= 0) cells += step.group.views.length;
  if (cells === 0) return;
  const { memory, kernels } = c.storage;
  const items = memory.alloc(cells * COPY_BYTES);
  try {
    let at = items;
    for (const { copy, tail, group } of steps) {
      if (copy >= 0 && tail) at = writePageCopies(c, group, tail.page, copy, tail.end, at);
    }
    kernels.run(KIND_COPY, items, cells);
  } finally {
    memory.free(items, cells * COPY_BYTES);
  }
  for (const { copy, tail, group } of steps) if (copy >= 0 && tail) copyColumns(c, group, tail.page, copy);
}

/** Installs what was allocated; returns how many rows more the group's last page takes at the positions that come next. */
function apply(c: Content, step: Step): number {
  const { pages, blocks, memory } = c.storage;
  const { group, tail, tailRows, lengths } = step;
  const { u32, u8 } = memory;
  let page = -1;
  let filled = 0;
  if (tail) {
    filled = tail.end + tailRows;
    page = step.copy >= 0 ? step.copy : tail.page;
    if (step.tailBlock >= 0) pages.setPositions(page, step.tailBlock);
    const contiguous = blocks.contiguous[pages.positions[page]!]! >= filled;
    const moved = step.copy >= 0 || step.tailBlock >= 0;
    for (const view of group.views) {
      const last = c.refs[view]! - 1;
      const flags = (c.ref(view, last) + REF_FLAGS) >>> 2;
      u32[flags] = contiguous ? u32[flags]! | REF_FLAG_CONTIGUOUS : u32[flags]! & ~REF_FLAG_CONTIGUOUS;
      c.at[view] = last;
      for (let i = last; moved && i >= 0 && c.pageAt(view, i) === tail.page; i--) redirect(c, view, i, page);
    }
    pages.limit[page] = lengths.length === 0 ? PAGE_TOKENS : filled;
  }
  for (const [n, length] of lengths.entries()) {
    page = step.pages[n]!;
    filled = length;
    const block = pages.positions[page]!;
    const contiguous = blocks.contiguous[block]! >= length ? REF_FLAG_CONTIGUOUS : 0;
    pages.limit[page] = n === lengths.length - 1 ? PAGE_TOKENS : length;
    pages.refs[page] = group.views.length;
    for (const view of group.views) {
      const address = c.ref(view, c.refs[view]! + n);
      const at = address >>> 2;
      u8.fill(0, address, address + REF_BYTES);
      u32[at + REF_CELL / 4] = pages.address[page]! + c.spans.cellOffset[view]!;
      u32[at + REF_POSITIONS / 4] = blocks.address[block]!;
      u32[at + 2] = group.layout.id << 16;
      u32[at + REF_SHIFT / 4] = 0;
      u32[at + REF_MASK_LO / 4] = ALL;
      u32[at + REF_MASK_HI / 4] = ALL;
      u32[at + REF_PAGE / 4] = page;
      u32[at + REF_FLAGS / 4] = REF_FLAG_FULL_MASK | contiguous;
    }
  }
  for (const view of group.views) {
    if (!tail) c.at[view] = c.refs[view]!;
    c.prepared[view] = lengths.length;
  }
  const block = pages.positions[page]!;
  const next = blocks.at(block, filled - 1) + 1;
  let room = 0;
  while (filled + room < PAGE_TOKENS && blocks.at(block, filled + room) === next + room) room++;
  return room;
}

function countOn(from: number, rows: number, reuse: Int32Array | undefined): Int32Array {
  if (reuse && reuse[0] === from) return reuse;
  if (from > MAX_POSITION - rows) throw badPosition(from + rows);
  const source = new Int32Array(rows);
  for (let i = 0; i < rows; i++) source[i] = from + i;
  return source;
}
