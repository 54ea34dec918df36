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
  const { memory, shape, kernels, layouts } = c.storage;
  const { headDim } = shape;
  const k = new Float32Array(wanted.length * headDim);
  const v = new Float32Array(wanted.length * headDim);
  const byRecord = [...wanted.keys()].sort((a, b) => where.record[wanted[a]!]! - where.record[wanted[b]!]!);
  const plane = PAGE_TOKENS * headDim * 4;
  const bytes = BATCH * (2 * plane + READ_BYTES);
  const work = memory.alloc(bytes);
  try {
    const items = work + BATCH * 2 * plane;
    for (let from = 0; from < byRecord.length; ) {
      let count = 0;
      let to = from;
      const slot = new Int32Array(byRecord.length - from);
      for (let last = -1; to < byRecord.length; to++) {
        const i = where.record[wanted[byRecord[to]!]!]!;
        if (i !== last) {
          if (count === BATCH) break;
          ref.load(memory, c.ref(view, i));
          const at = (items + count * READ_BYTES) >>> 2;
          const { u32 } = memory;
          u32[at + READ_CELL / 4] = ref.cell;
          u32[at + READ_LAYOUT / 4] = ref.layout;
          u32[at + READ_FIRST / 4] = 0;
          u32[at + READ_COUNT / 4] = ref.end;
          u32[at + READ_K / 4] = work + count * 2 * plane;
          u32[at + READ_V / 4] = work + count * 2 * plane + plane;
          u32[at + READ_LAYOUTS / 4] = layouts.address;
          count++;
          last = i;
        }
        slot[to - from] = count - 1;
      }
      kernels.run(KIND_READ, items, count);
      const { f32 } = memory;
      for (let n = from; n < to; n++) {
        const entry = byRecord[n]!;
        const at = (work + slot[n - from]! * 2 * plane) / 4 + where.row[wanted[entry]!]! * headDim;
        k.set(f32.subarray(at, at + headDim), entry * headDim);
        v.set(f32.subarray(at + plane / 4, at + plane / 4 + headDim), entry * headDim);
      }
      from = to;
    }
  } finally {
    memory.free(work, bytes);
  }
  return { k, v };
}
