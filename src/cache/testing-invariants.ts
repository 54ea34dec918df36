import {
  PAGE_TOKENS,
  POSITIONS_BYTES,
  REF_BYTES,
  REF_FLAG_CONTIGUOUS,
  REF_FLAG_FULL_MASK,
  REF_MASK_HI,
  REF_MASK_LO,
} from '../../kernels/abi.ts';
import { measure } from './account.ts';
import { blockBytes } from './arrays.ts';
import { ALL, hasRow } from './bits.ts';
import type { KvCache } from './cache.ts';
import { Content } from './content.ts';
import { FETCHED_BYTES, PAGE_ENTRY_BYTES } from './pages.ts';
import { POSITIONS_HELD } from './positions.ts';
import { Ref } from './ref-list.ts';
import type { CacheSequence } from './sequence.ts';
import { SHARED_ENTRY_BYTES } from './shared-blocks.ts';

const PAIRS = 128;

/**
 * Recounts everything that a cache keeps count of from the reference records alone. `sequences` are all that are alive and
 * at rest. Throws on the first thing that does not hold; returns the bytes the cache should hold in memory.
 */
export function checkInvariants(cache: KvCache, sequences: readonly CacheSequence[]): number {
  const { pages, blocks, layouts, shared, memory, shape } = cache.storage;
  const tables = layouts.held + PAIRS;
  const refs = new Map<number, number>();
  let listBytes = 0;
  let base = 0;
  let unique = 0;
  const ref = new Ref();
  for (const { content: c } of sequences) {
    base += Content.baseBytes(shape) + c.stateBytes;
    for (let view = 0; view < c.refs.length; view++) {
      listBytes += blockBytes(c.capacity[view]! * REF_BYTES);
      equal(c.prepared[view], 0, 'prepared records at rest');
      let entries = 0;
      for (let i = 0; i < c.refs[view]!; i++) {
        ref.load(memory, c.ref(view, i));
        const block = pages.positions[ref.page]!;
        refs.set(ref.page, (refs.get(ref.page) ?? 0) + 1);
        entries += ref.live;
        checkCell(cache, c, view, ref);
        equal(ref.positions, blocks.address[block], 'positions address');
        equal(ref.layout, pages.layout[ref.page], 'layout');
        check(ref.end > ref.first && ref.end <= PAGE_TOKENS, 'range of rows');
        check(hasRow(ref.lo, ref.hi, ref.first) && hasRow(ref.lo, ref.hi, ref.end - 1), 'first and last row live');
        const at = c.ref(view, i) >>> 2;
        const full = memory.u32[at + REF_MASK_LO / 4] === ALL && memory.u32[at + REF_MASK_HI / 4] === ALL;
        equal((ref.flags & REF_FLAG_FULL_MASK) !== 0, full, 'full-mask flag');
        const run = Array.from({ length: ref.end }, (_, row) => blocks.at(block, row) === blocks.base(block) + row);
        // The flag may be missing where it would be right, never set where it would be wrong.
        check((ref.flags & REF_FLAG_CONTIGUOUS) === 0 || !run.includes(false), 'contiguous flag');
      }
      equal(c.entries[view], entries, 'entries of a view');
    }
    const reach = measure(c);
    check(reach.unique <= reach.held, 'unique <= held of a sequence');
    equal(sum(Object.values(reach.items)), reach.held, 'sum of what a sequence holds');
    unique += reach.unique;
  }
  equal(pages.count, refs.size, 'pages in use');
  const blockRefs = new Map<number, number>();
  const pointers = new Map<number, number>();
  let pageBytes = 0;
  for (const [page, count] of refs) {
    equal(pages.refs[page], count, `references of page ${page}`);
    const { kind, cellBytes, sharedBytes } = layouts.get(pages.layout[page]!);
    if (kind !== 'joint') equal(pages.bytes[page]! % cellBytes, 0, 'page bytes');
    else check(pages.bytes[page]! >= sharedBytes + cellBytes, 'bytes of a joint page');
    pages.eachShared(page, entry => pointers.set(entry.address, (pointers.get(entry.address) ?? 0) + 1));
    pageBytes += pages.bytes[page]!;
    const block = pages.positions[page]!;
    blockRefs.set(block, (blockRefs.get(block) ?? 0) + 1);
  }
  equal(pages.held, pageBytes, 'page bytes');
  equal(blocks.count, blockRefs.size, 'position blocks in use');
  for (const [block, count] of blockRefs) equal(blocks.refs[block], count, 'references of a position block');

  let sharedBytes = 0;
  equal(shared.count, pointers.size, 'parameter blocks in use');
  for (const entry of shared.entries()) {
    equal(entry.refs, pointers.get(entry.address), 'references of a parameter block');
    sharedBytes += entry.bytes;
  }

  const stats = cache.stats();
  const inSlots = pageBytes + refs.size * PAGE_ENTRY_BYTES + listBytes;
  equal(sum(stats.bySlot), inSlots, 'sum by slot');
  equal(stats.held, inSlots + blocks.count * POSITIONS_HELD + sharedBytes + base + tables, 'held');
  equal(sum(Object.values(stats.byOwner)), stats.held, 'sum by owner');
  check(unique + tables <= stats.held, 'sum of unique <= held');
  check(stats.peak >= stats.held, 'peak');
  check(cache.budget.held + cache.budget.reserved <= cache.budget.limit, 'limit');
  equal(stats.reserved, sum(sequences.map(s => s.content.account.promised)), 'reserved');
  equal(stats.sequences, sequences.length, 'sequences');
  if (sequences.length > 0) {
    const together = cache.measure(sequences);
    equal(together.held + tables, stats.held, 'what all sequences hold together');
    equal(sum(Object.values(together.bytes)), together.held, 'sum of what all hold together');
    equal(together.parked + pages.fetched.size * FETCHED_BYTES, stats.parked, 'what all have parked together');
  }
  const inBlocks = blocks.count * blockBytes(POSITIONS_BYTES) + sharedBytes - shared.count * SHARED_ENTRY_BYTES;
  return pageBytes + listBytes + inBlocks + tables;
}

/** A record points to its view's cell in a page of the view's group, or to a cell of a page that an action made. */
function checkCell(cache: KvCache, c: Content, view: number, ref: Ref): void {
  const { pages, layouts } = cache.storage;
  const offset = ref.cell - pages.address[ref.page]!;
  const { id } = c.spans.groups[c.spans.groupOfView[view]!]!.layout;
  const { cellBytes, sharedBytes } = layouts.get(ref.layout);
  const bytes = pages.bytes[ref.page]!;
  if (ref.layout === id && offset > 0) equal(offset, c.spans.cellOffset[view], 'cell in the page');
  check(
    offset >= sharedBytes && (offset - sharedBytes) % cellBytes === 0 && offset + cellBytes <= bytes,
    'cell address',
  );
}

function sum(values: Iterable<number>): number {
  let total = 0;
  for (const value of values) total += value;
  return total;
}

function check(holds: boolean, what: string): void {
  if (!holds) throw new Error(`Invariant broken: ${what}`);
}

function equal(actual: unknown, expected: unknown, what: string): void {
  if (actual !== expected) throw new Error(`Invariant broken: ${what} is ${actual}, not ${expected}`);
}
