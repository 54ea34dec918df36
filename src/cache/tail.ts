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
 * The group's last page, if all its views end in it at the same row, unshifted, in the group's layout, with room left. Where
 * the views of a joint group have come apart (keep), the next rows start a page.
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
      if (end === PAGE_TOKENS || ref.layout !== group.layout.id) return null;
    }
    if (ref.page !== page || ref.end !== end || ref.shift !== 0) return null;
  }
  const shared = pages.refs[page] !== c.trailingRefs(group, page);
  return { page, block: pages.positions[page]!, end, shared };
}
