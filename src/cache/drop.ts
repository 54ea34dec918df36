import {
  PAGE_TOKENS,
  REF_BYTES,
  REF_COUNT,
  REF_FIRST,
  REF_FLAG_FULL_MASK,
  REF_FLAGS,
  REF_MASK_HI,
  REF_MASK_LO,
  REF_PAGE,
} from '../../kernels/abi.ts';
import { notePeakOnce } from './account.ts';
import { ALL, countBits, highestRow, lowestRow, rangeHi, rangeLo } from './bits.ts';
import type { Content } from './content.ts';
import { packAfterDrop } from './drop-pack.ts';
import { renewPromise } from './promise.ts';
import { REF_WORDS } from './ref-list.ts';
import { limitReady } from './tail.ts';

/**
 * Removes entries [from, from + count) of a view (at least one). It runs for every view of every step: it looks at one
 * record after the other, changes masks in place and allocates nothing. The next append stays without work
 * (Content.ready) where the last live row of the view stays.
 */
export function dropEntries(c: Content, view: number, from: number, count: number): void {
  const { u32, u8 } = c.storage.memory;
  let i = 0;
  let before = 0;
  let address = c.refsAt[view]!;
  for (;;) {
    const live = liveOf(u32, u8, address);
    if (from < before + live) break;
    before += live;
    address += REF_BYTES;
    i++;
  }
  const cutsEnd = from + count === c.entries[view]!;
  // Records that lose all their rows lie side by side.
  let dead = i;
  let deadEnd = i;
  let skip = from - before;
  for (let left = count; left > 0; i++, address += REF_BYTES) {
    const live = liveOf(u32, u8, address);
    const taken = Math.min(left, live - skip);
    left -= taken;
    if (taken === live) {
      if (deadEnd === dead) dead = i;
      deadEnd = i + 1;
    } else {
      cutRecord(u32, u8, address, skip, taken);
    }
    skip = 0;
  }
  if (deadEnd > dead) removeRecords(c, view, dead, deadEnd);
  c.entries[view]! -= count;
  c.version++;
  c.lastRows.fill(0);
  if (cutsEnd) limitReady(c, c.spans.groups[c.spans.groupOfView[view]!]!, 0);
  // A page that went makes room for the next one of the same promise.
  if (cutsEnd || (deadEnd > dead && Number.isFinite(c.promisedMost))) renewPromise(c);
  packAfterDrop(c, view);
}

/** Live rows of a record: bits outside its range are set. */
function liveOf(u32: Uint32Array, u8: Uint8Array, address: number): number {
  const at = address >>> 2;
  const count = u8[address + REF_COUNT]!;
  if (u32[at + REF_FLAGS / 4]! & REF_FLAG_FULL_MASK) return count;
  return count - PAGE_TOKENS + countBits(u32[at + REF_MASK_LO / 4]!) + countBits(u32[at + REF_MASK_HI / 4]!);
}

/** Takes `count` live rows out of a record, after the first `skip` of them; others stay. */
function cutRecord(u32: Uint32Array, u8: Uint8Array, address: number, skip: number, count: number): void {
  const at = address >>> 2;
  const start = u8[address + REF_FIRST]!;
  const stop = start + u8[address + REF_COUNT]!;
  let lo = (u32[at + REF_MASK_LO / 4]! & rangeLo(start, stop)) >>> 0;
  let hi = (u32[at + REF_MASK_HI / 4]! & rangeHi(start, stop)) >>> 0;
  let seen = 0;
  for (let row = start; seen < skip + count; row++) {
    const bit = (1 << (row & 31)) >>> 0;
    const live = row < 32 ? (lo & bit) !== 0 : (hi & bit) !== 0;
    if (!live) continue;
    if (seen++ < skip) continue;
    if (row < 32) lo = (lo & ~bit) >>> 0;
    else hi = (hi & ~bit) >>> 0;
  }
  const first = lowestRow(lo, hi);
  const end = highestRow(lo, hi) + 1;
  const maskLo = (lo | ~rangeLo(first, end)) >>> 0;
  const maskHi = (hi | ~rangeHi(first, end)) >>> 0;
  u8[address + REF_FIRST] = first;
  u8[address + REF_COUNT] = end - first;
  u32[at + REF_MASK_LO / 4] = maskLo;
  u32[at + REF_MASK_HI / 4] = maskHi;
  const flags = u32[at + REF_FLAGS / 4]! & ~REF_FLAG_FULL_MASK;
  u32[at + REF_FLAGS / 4] = maskLo === ALL && maskHi === ALL ? flags | REF_FLAG_FULL_MASK : flags;
}

/** Takes records [from, to) out of a view's list and gives up their pages. */
function removeRecords(c: Content, view: number, from: number, to: number): void {
  const { pages, memory } = c.storage;
  notePeakOnce(c);
  const { u32 } = memory;
  for (let i = from; i < to; i++) pages.release(u32[(c.ref(view, i) + REF_PAGE) >>> 2]!);
  const base = c.refsAt[view]! >>> 2;
  u32.copyWithin(base + from * REF_WORDS, base + to * REF_WORDS, base + c.refs[view]! * REF_WORDS);
  c.refs[view]! -= to - from;
  // The next row goes on in the last record, if in any.
  c.at[view] = Math.max(0, c.refs[view]! - 1);
}
