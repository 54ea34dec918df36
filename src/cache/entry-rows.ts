import {
  KIND_READ,
  LAYOUT_BYTES,
  LAYOUT_KEYS_UNROTATED,
  PAGE_TOKENS,
  READ_BYTES,
  READ_CELL,
  READ_COUNT,
  READ_FIRST,
  READ_K,
  READ_LAYOUT,
  READ_LAYOUTS,
  READ_V,
} from '../../kernels/abi.ts';
import { hasRow } from './bits.ts';
import type { Content } from './content.ts';
import { isExact } from './format.ts';
import { Ref } from './ref-list.ts';

/** Records decoded in one run of the kernels. */
const BATCH = 16;

const ref = new Ref();

/** Where the entries of a view lie: record and row of each. */
export interface EntryRows {
  readonly record: Uint32Array;
  readonly row: Uint8Array;
}

export function entryRows(c: Content, view: number): EntryRows {
  const record = new Uint32Array(c.entries[view]!);
  const row = new Uint8Array(c.entries[view]!);
  let entry = 0;
  for (let i = 0; i < c.refs[view]!; i++) {
    ref.load(c.storage.memory, c.ref(view, i));
    for (let r = ref.first; r < ref.end; r++) {
      if (!hasRow(ref.lo, ref.hi, r)) continue;
      record[entry] = i;
      row[entry++] = r;
    }
  }
  return { record, row };
}

export function isExactPage(c: Content, page: number): boolean {
  const { pages, layouts } = c.storage;
  const { formatK, formatV } = layouts.get(pages.layout[page]!);
  return isExact(formatK) && isExact(formatV);
}

/** Are the keys of pages of this layout stored before RoPE? */
export function isUnrotated(c: Content, layout: number): boolean {
  const { layouts, memory } = c.storage;
  return memory.u32[(layouts.address + layout * LAYOUT_BYTES + LAYOUT_KEYS_UNROTATED) >>> 2] === 1;
}

/**
 * Decoded rows of some entries of a view, in the order asked for: f32 [wanted, headDim] each, keys as stored.
 * May raise `memory_limit` (work space).
 */
export function readEntries(
  c: Content,
  view: number,
  where: EntryRows,
  wanted: Uint32Array,
): { readonly k: Float32Array; readonly v: Float32Array } {
  const { memory, shape, kernels } = c.storage;
  const { headDim } = shape;
  const k = new Float32Array(wanted.length * headDim);
  const v = new Float32Array(wanted.length * headDim);
  const entryOf = (n: number) => wanted[n]!;
  const ordered = [...wanted.keys()].sort((a, b) => {
    const records = where.record[entryOf(a)]! - where.record[entryOf(b)]!;
    return records !== 0 ? records : where.row[entryOf(a)]! - where.row[entryOf(b)]!;
  });
  const plane = PAGE_TOKENS * headDim * 4;
  const batch = Math.min(BATCH, wanted.length);
  const bytes = batch * (2 * plane + READ_BYTES);
  const work = bytes > 0 ? memory.alloc(bytes) : 0;
  const items = work + batch * 2 * plane;
  // First row read into each page of the work space, and the page of each entry.
  const first = new Uint8Array(batch);
  const page = new Uint8Array(ordered.length);
  try {
    for (let from = 0; from < ordered.length; ) {
      let count = 0;
      let to = from;
      for (let last = -1; to < ordered.length; to++) {
        const entry = entryOf(ordered[to]!);
        const row = where.row[entry]!;
        if (where.record[entry] !== last) {
          if (count === batch) break;
          last = where.record[entry]!;
          ref.load(memory, c.ref(view, last));
          first[count] = row;
          writeRead(c, items + count * READ_BYTES, row, work + count * 2 * plane, plane);
          count++;
        }
        // From the first to the last row that is wanted.
        memory.u32[(items + (count - 1) * READ_BYTES + READ_COUNT) >>> 2] = row - first[count - 1]! + 1;
        page[to] = count - 1;
      }
      kernels.run(KIND_READ, items, count);
      const { f32 } = memory;
      for (let n = from; n < to; n++) {
        const row = where.row[entryOf(ordered[n]!)]! - first[page[n]!]!;
        const at = (work + page[n]! * 2 * plane) / 4 + row * headDim;
        k.set(f32.subarray(at, at + headDim), ordered[n]! * headDim);
        v.set(f32.subarray(at + plane / 4, at + plane / 4 + headDim), ordered[n]! * headDim);
      }
      from = to;
    }
  } finally {
    if (bytes > 0) memory.free(work, bytes);
  }
  return { k, v };
}

/** The READ record of the record in `ref`, from a row on; its number of rows comes later. */
function writeRead(c: Content, item: number, row: number, work: number, plane: number): void {
  const { u32 } = c.storage.memory;
  const at = item >>> 2;
  u32[at + READ_CELL / 4] = ref.cell;
  u32[at + READ_LAYOUT / 4] = ref.layout;
  u32[at + READ_FIRST / 4] = row;
  u32[at + READ_K / 4] = work;
  u32[at + READ_V / 4] = work + plane;
  u32[at + READ_LAYOUTS / 4] = c.storage.layouts.address;
}
