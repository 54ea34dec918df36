import { REF_BYTES } from '../../kernels/abi.ts';
import { Content, type Growth } from './content.ts';
import { hotCopies } from './parked.ts';
import { promiseAfterFork, renewPromise } from './promise.ts';
import { copyStates } from './state.ts';

/**
 * A content that shares all pages with `c`. Raises `kv_cache_full` where its lists or states do not fit, or where a promise
 * made to `c` could no longer be kept because its last pages are now shared; then nothing has changed.
 */
export function fork(c: Content, owner: string): Content {
  const { storage } = c;
  const { memory, pages } = storage;
  const child = new Content(storage, c.spans, owner);
  const growths: Growth[] = [];
  try {
    for (let view = 0; view < c.refs.length; view++) {
      const growth = child.stageGrowth(view, c.refs[view]!, false);
      if (growth) growths.push(growth);
    }
    copyStates(c, child);
    c.account.require(Math.max(0, promiseAfterFork(c)), 'fork', owner, false);
  } catch (error) {
    for (const growth of growths) child.dropGrowth(growth);
    child.account.refund(Content.baseBytes(storage.shape) + child.stateBytes);
    throw error;
  }
  for (const growth of growths) child.applyGrowth(growth);
  for (let view = 0; view < c.refs.length; view++) {
    const from = c.refsAt[view]!;
    memory.u8.copyWithin(child.refsAt[view]!, from, from + c.refs[view]! * REF_BYTES);
    for (let i = 0; i < c.refs[view]!; i++) pages.retain(c.pageAt(view, i));
  }
  child.refs.set(c.refs);
  child.entries.set(c.entries);
  child.next.set(c.next);
  for (const [key, entry] of c.sharedKeys) if (entry.refs > 0) child.sharedKeys.set(key, entry);
  for (const [view, parked] of c.parked) {
    parked.retain();
    child.parked.set(view, parked);
  }
  // Which rows come where at the next fetch follows from what is resident, so that both go on alike.
  for (const [view, pieces] of c.recent) child.recent.set(view, new Set(pieces));
  for (const [view, { limit }] of c.hot) hotCopies(child, view).limit = limit;
  // What the views show is as it was.
  const { edits } = c;
  c.changed();
  c.edits = edits;
  child.edits = edits;
  renewPromise(c);
  return child;
}
