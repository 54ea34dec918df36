import { PAGE_TOKENS, REF_BYTES } from '../../kernels/abi.ts';
import { blockBytes } from './arrays.ts';
import type { CellLayout } from './cell-layout.ts';
import { Content } from './content.ts';
import { PAGE_ENTRY_BYTES } from './pages.ts';
import { POSITIONS_HELD } from './positions.ts';
import type { ByteItems } from './types.ts';

export interface Reach {
  /** Bytes reachable from the sequence, shared pages whole. */
  readonly held: number;
  /** Bytes that freeing it alone would give back. */
  readonly unique: number;
  /** What `held` is made of. */
  readonly items: ByteItems;
}

/** Walks all references of a sequence. Shared pages are told apart by counting: a page is its own where it holds all references. */
export function measure(c: Content): Reach {
  return measureTogether([c]);
}

/** The same of several sequences of one cache (at least one) as if they were one: what they share counts once. */
export function measureTogether(contents: readonly Content[]): Reach {
  const { storage } = contents[0]!;
  const { pages, blocks, layouts, shape } = storage;
  const epoch = ++storage.epoch;
  const kinds = { exact: 0, encoded: 0, joint: 0 };
  let columns = 0;
  let positions = 0;
  let references = 0;
  let shared = 0;
  let states = 0;
  let tables = 0;
  let unique = 0;
  for (const c of contents) {
    states += c.stateBytes;
    tables += Content.baseBytes(shape);
    unique += Content.baseBytes(shape) + c.stateBytes;
    for (let view = 0; view < c.refs.length; view++) {
      const list = blockBytes(c.capacity[view]! * REF_BYTES);
      references += list;
      unique += list;
      const records = c.refs[view]! + c.prepared[view]!;
      for (let i = 0; i < records; i++) {
        const page = c.pageAt(view, i);
        const block = pages.positions[page]!;
        const layout = layouts.get(pages.layout[page]!);
        if (pages.stamp[page] !== epoch) {
          pages.stamp[page] = epoch;
          pages.seen[page] = 0;
          const inColumns = columnBytes(pages.bytes[page]!, layout);
          columns += inColumns;
          kinds[layout.kind] += pages.bytes[page]! - inColumns;
          tables += PAGE_ENTRY_BYTES;
          if (blocks.stamp[block] !== epoch) {
            blocks.stamp[block] = epoch;
            blocks.seen[block] = 0;
            positions += POSITIONS_HELD;
          }
          if (layout.headerAt >= 0) {
            pages.eachShared(page, entry => {
              if (entry.stamp === epoch) return;
              entry.stamp = epoch;
              entry.seen = 0;
              shared += entry.bytes;
            });
          }
        }
        if (++pages.seen[page]! < pages.refs[page]!) continue;
        unique += pages.bytes[page]! + PAGE_ENTRY_BYTES;
        if (++blocks.seen[block]! === blocks.refs[block]) unique += POSITIONS_HELD;
        if (layout.headerAt < 0) continue;
        pages.eachShared(page, entry => {
          if (++entry.seen === entry.refs) unique += entry.bytes;
        });
      }
    }
  }
  const items = { ...kinds, columns, positions, references, shared, states, tables };
  let held = 0;
  for (const bytes of Object.values(items)) held += bytes;
  return { held, unique, items };
}

/** Bytes of what several sequences have parked; units and tables that they share count once. */
export function measureParked(contents: readonly Content[]): number {
  const seen = new Set<unknown>();
  let parked = 0;
  const count = (part: object, bytes: number) => {
    if (!seen.has(part)) parked += bytes;
    seen.add(part);
  };
  for (const c of contents) {
    for (const view of c.parked.values()) {
      count(view, view.tableBytes);
      for (const { stored } of view.units) count(stored, stored.bytes);
    }
    for (const copies of c.hot.values()) count(copies, copies.bytes);
  }
  return parked;
}

function columnBytes(pageBytes: number, { columns, sharedBytes, cellBytes }: CellLayout): number {
  if (columns.size === 0) return 0;
  return Math.floor((pageBytes - sharedBytes) / cellBytes) * columns.size * PAGE_TOKENS * 4;
}

/** notePeak where a page was made since this was called last: for verbs of every step. */
export function notePeakOnce(c: Content): void {
  const { pagesMade } = c.account;
  if (c.peakPages === pagesMade) return;
  c.peakPages = pagesMade;
  notePeak(c);
}

/** To be called before bytes are given up, so that the peak of a sequence is known without counting at every append. */
export function notePeak(c: Content, extra = 0): void {
  const { limbo, refs, bytes } = c.storage.pages;
  let held = measure(c).held + extra;
  for (const page of limbo ?? []) if (refs[page] === 0) held += bytes[page]! + PAGE_ENTRY_BYTES;
  c.peak = Math.max(c.peak, held);
}
