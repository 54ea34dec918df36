import { PAGE_TOKENS } from '../../kernels/abi.ts';
import type { Content, Growth } from './content.ts';
import { PageTable } from './pages.ts';
import { POSITIONS_HELD } from './positions.ts';
import { findTail } from './tail.ts';

/** Pages that a view may have beyond those that its entries would fill, before it is packed (drop-pack.ts). */
export const SLACK = 2;
/** Pages begun while packing waits its turn, and by the row that comes before another goes. */
const BEGUN = 2;

/**
 * See CacheSequence.reserve. The promise covers pages and position blocks, as if no two groups shared a block; the lists of
 * references get their room at once. It holds while positions ascend with no jump over 65,535 within a page.
 */
export function reserve(c: Content, tokens: number, most: number): void {
  const { account, storage } = c;
  const { slots, kvHeads } = storage.shape;
  const mostBefore = c.promisedMost;
  c.promisedMost = most;
  const bytes = promiseBytes(c, () => tokens);
  const before = account.promised;
  account.setPromise(0);
  const growths: Growth[] = [];
  try {
    account.require(bytes, 'tokens', tokens, false);
    for (let view = 0; tokens > 0 && view < slots * kvHeads; view++) {
      const records = Math.min(Math.ceil(tokens / PAGE_TOKENS), pagesAtMost(most)) + 1;
      const growth = c.stageGrowth(view, c.refs[view]! + records, false);
      if (growth) growths.push(growth);
    }
    account.require(bytes, 'tokens', tokens, false);
  } catch (error) {
    for (const growth of growths) c.dropGrowth(growth);
    account.setPromise(before);
    c.promisedMost = mostBefore;
    throw error;
  }
  for (const growth of growths) c.applyGrowth(growth);
  account.setPromise(bytes);
  for (let slot = 0; slot < slots; slot++) c.promisedTo[slot] = c.appended[slot]! + tokens;
  if (growths.length > 0) c.version++;
}

/** Fits the promise to what the rest of the promised rows need now that the views have changed; never fails. */
export function renewPromise(c: Content): void {
  const { account } = c;
  if (account.promised === 0 && !c.promisedTo.some((to, slot) => to > c.appended[slot]!)) return;
  const free = account.ledger.budget.free + account.promised;
  account.setPromise(
    Math.max(
      0,
      Math.min(
        promiseBytes(c, slot => restOf(c, slot)),
        free,
      ),
    ),
  );
}

/** Bytes that the promise would grow by if every last page became shared. */
export function promiseAfterFork(c: Content): number {
  if (c.account.promised === 0) return 0;
  return promiseBytes(c, slot => restOf(c, slot), true) - c.account.promised;
}

/** Pages of a view that holds at most so many entries after each step of decoding. */
export function pagesAtMost(entries: number): number {
  return Math.ceil(entries / PAGE_TOKENS) + SLACK + BEGUN;
}

function restOf(c: Content, slot: number): number {
  return Math.max(0, c.promisedTo[slot]! - c.appended[slot]!);
}

function promiseBytes(c: Content, tokensOf: (slot: number) => number, allShared = false): number {
  let bytes = 0;
  for (const group of c.spans.groups) {
    let tokens = 0;
    for (let slot = group.slot; slot < group.slot + group.slots; slot++) tokens = Math.max(tokens, tokensOf(slot));
    if (tokens === 0) continue;
    const tail = findTail(c, group);
    let pages = Math.ceil(tokens / PAGE_TOKENS);
    if (tail) pages = Math.ceil((tail.end + tokens) / PAGE_TOKENS) - (tail.shared || allShared ? 0 : 1);
    if (Number.isFinite(c.promisedMost)) {
      let held = 0;
      for (const view of group.views) held = Math.max(held, c.refs[view]!);
      pages = Math.min(pages, Math.max(1, pagesAtMost(c.promisedMost) - held));
    }
    bytes += pages * PageTable.cost(group) + (pages + 1) * POSITIONS_HELD;
  }
  return bytes;
}
