import { PAGE_TOKENS } from '../../kernels/abi.ts';
import type { Content } from './content.ts';
import { prepareKeep } from './keep.ts';
import { isPackable } from './pack.ts';
import { SLACK } from './promise.ts';
import { Ref } from './ref-list.ts';
import { openTail } from './tail.ts';

/** Drops within which views that come to need packing at the same step do so, and to wait where packing has gained nothing. */
const WAIT = 64;

const ref = new Ref();

/**
 * Packs a view once its pages exceed ceil(live / 64) + 2, or up to 64 drops later, so that rows are moved every 200 drops
 * or so and views take turns. Pages that packing cannot change (shared, encoded) do not count. Cannot fail: without room the holes stay.
 */
export function packAfterDrop(c: Content, view: number): void {
  if (c.refs[view]! <= Math.ceil(c.entries[view]! / PAGE_TOKENS) + SLACK) {
    c.packWait[view] = 0;
    return;
  }
  if (c.packWait[view] === 0) c.packWait[view] = 1 + (view % WAIT);
  if (--c.packWait[view]! > 0) return;
  const group = c.spans.groups[c.spans.groupOfView[view]!]!;
  let records = 0;
  let live = 0;
  for (let i = 0; i < c.refs[view]!; i++) {
    if (!isPackable(c, group, c.pageAt(view, i))) continue;
    records++;
    live += ref.load(c.storage.memory, c.ref(view, i)).live;
  }
  if (records <= Math.ceil(live / PAGE_TOKENS) + SLACK) {
    c.packWait[view] = WAIT;
    return;
  }
  const { edits } = c;
  const ready = c.ready.slice();
  const filled = c.filled.slice();
  const before = c.refs[view]!;
  const { kvHeads } = c.storage.shape;
  const ranges = Uint32Array.of(0, c.entries[view]!);
  prepareKeep(c, [{ slot: Math.floor(view / kvHeads), head: view % kvHeads, ranges }]).apply();
  for (const other of group.views) c.at[other] = Math.max(0, c.refs[other]! - 1);
  // Moving rows brings no new shift, and other views are as they were.
  c.edits = edits;
  c.ready.set(ready);
  c.filled.set(filled);
  openTail(c, group);
  if (c.refs[view] === before) c.packWait[view] = WAIT;
}
