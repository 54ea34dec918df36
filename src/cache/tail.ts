import { PAGE_TOKENS } from '../../kernels/abi.ts';
import type { Content } from './content.ts';
import type { Group } from './spans.ts';

/** A last page that a group's next rows can go on in. */
export interface Tail {
  readonly page: number;
  /** Its positions block. */
  readonly block: number;
  /** Rows in use. */
  readonly end: number;
  /** Others refer to the page: it must be copied before it is written. */
  readonly shared: boolean;
}

/**
 * The group's last page, if all its views end in it at the same row, unshifted, in the group's layout, with room left, and it
 * holds no copies of parked rows. Where the views of a joint group have come apart (keep), the next rows start a page.
 */
export function findTail(c: Content, group: Group): Tail | null {
  const { pages, memory } = c.storage;
  let page = -1;
  let end = 0;
  for (const view of group.views) {
    const count = c.refs[view]!;
    if (count === 0) return null;
    const ref = c.scratch.load(memory, c.ref(view, count - 1));
    if (page < 0) {
      page = ref.page;
      end = ref.end;
      if (end === PAGE_TOKENS || ref.layout !== group.layout.id || pages.fetched.has(page)) return null;
    }
    if (ref.page !== page || ref.end !== end || ref.shift !== 0) return null;
  }
  const shared = pages.refs[page] !== c.trailingRefs(group, page);
  return { page, block: pages.positions[page]!, end, shared };
}

/** The slots of a group are ready for at most `rows` rows. */
export function limitReady(c: Content, group: Group, rows: number): void {
  for (let slot = group.slot; slot < group.slot + group.slots; slot++) c.ready[slot] = Math.min(c.ready[slot]!, rows);
}

/**
 * Limits Content.ready to the rows, at the positions that come next, that the group's last page takes without any work, and
 * opens the page for them: to be called where the group's views have changed.
 */
export function openTail(c: Content, group: Group): void {
  const most = c.ready[group.slot]!;
  if (most > 0) limitReady(c, group, roomOf(c, group, most));
}

function roomOf(c: Content, group: Group, most: number): number {
  const { blocks, pages } = c.storage;
  const next = c.next[group.slot]!;
  for (let slot = group.slot; slot < group.slot + group.slots; slot++) if (c.next[slot] !== next) return 0;
  const tail = findTail(c, group);
  if (!tail || tail.shared) return 0;
  let limit = Math.min(PAGE_TOKENS - tail.end, most);
  // Records that say their rows count up by one must stay right as they grow.
  for (const view of group.views) {
    const ref = c.scratch.load(c.storage.memory, c.ref(view, c.refs[view]! - 1));
    if (ref.contiguous) limit = Math.min(limit, blocks.contiguous[tail.block]! - tail.end);
  }
  let room = 0;
  while (room < limit && blocks.at(tail.block, tail.end + room) === next + room) room++;
  if (room > 0) pages.limit[tail.page] = PAGE_TOKENS;
  return room;
}
