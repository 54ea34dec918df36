import {
  COPY_BYTES,
  COPY_COUNT,
  COPY_FROM,
  COPY_LAYOUT,
  COPY_LAYOUTS,
  COPY_PAIRS,
  COPY_TO,
  REF_CELL,
  REF_PAGE,
  REF_POSITIONS,
} from '../../kernels/abi.ts';
import type { Content } from './content.ts';
import type { Group } from './spans.ts';

/** COPY records of rows 0 .. rows - 1 of all cells of a page; returns the address after them. */
export function writePageCopies(
  c: Content,
  group: Group,
  from: number,
  to: number,
  rows: number,
  items: number,
): number {
  const { memory, pages, layouts, identityPairs } = c.storage;
  const { u32 } = memory;
  let item = items;
  for (const view of group.views) {
    const at = item >>> 2;
    u32[at + COPY_FROM / 4] = pages.address[from]! + c.spans.cellOffset[view]!;
    u32[at + COPY_TO / 4] = pages.address[to]! + c.spans.cellOffset[view]!;
    u32[at + COPY_LAYOUT / 4] = pages.layout[from]!;
    u32[at + COPY_PAIRS / 4] = identityPairs;
    u32[at + COPY_COUNT / 4] = rows;
    u32[at + COPY_LAYOUTS / 4] = layouts.address;
    item += COPY_BYTES;
  }
  return item;
}

/** Columns of a whole page: the kernels know none but the bias. */
export function copyColumns(c: Content, group: Group, from: number, to: number): void {
  const { memory, pages, layouts } = c.storage;
  const layout = layouts.get(pages.layout[from]!);
  if (layout.columns.size === 0) return;
  for (const view of group.views) {
    const source = pages.address[from]! + c.spans.cellOffset[view]!;
    const target = pages.address[to]! + c.spans.cellOffset[view]! + layout.columnsAt;
    memory.u8.copyWithin(target, source + layout.columnsAt, source + layout.cellBytes);
  }
}

/** Points a record at `page` (a copy of its page, or the same with other positions). */
export function redirect(c: Content, view: number, i: number, page: number): void {
  const { pages, blocks, memory } = c.storage;
  const at = c.ref(view, i) >>> 2;
  const before = memory.u32[at + REF_PAGE / 4]!;
  memory.u32[at + REF_CELL / 4]! += pages.address[page]! - pages.address[before]!;
  memory.u32[at + REF_POSITIONS / 4] = blocks.address[pages.positions[page]!]!;
  memory.u32[at + REF_PAGE / 4] = page;
  if (before !== page) {
    pages.retain(page);
    pages.release(before);
  }
}
