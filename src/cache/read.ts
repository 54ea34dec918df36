import {
  KIND_READ,
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
import { readColumn } from './column.ts';
import type { Content } from './content.ts';
import { Ref } from './ref-list.ts';
import type { ReadResult } from './types.ts';

const ref = new Ref();

/** See CacheSequence.read. */
export function read(c: Content, slot: number, head: number): ReadResult {
  const view = c.viewOf(slot, head);
  const entries = c.entries[view]!;
  const { headDim } = c.storage.shape;
  const k = new Float32Array(entries * headDim);
  const v = new Float32Array(entries * headDim);
  decode(c, view, 0, entries, k, v);
  const columns: Record<string, Float32Array> = {};
  for (const name of c.spans.groups[c.spans.groupOfView[view]!]!.layout.columns.keys()) {
    columns[name] = readColumn(c, view, name);
  }
  const positions = new Int32Array(entries);
  c.readPositions(view, positions);
  return { k, v, positions, columns };
}

/** See CacheSequence.readKeys. */
export function readKeys(c: Content, slot: number, head: number, from: number, to: number): Float32Array {
  const view = c.viewOf(slot, head);
  const keys = new Float32Array((to - from) * c.storage.shape.headDim);
  if (to > from) decode(c, view, from, to, keys, null);
  return keys;
}

/** Decodes entries [from, to) through the kernels, page by page, into work space of one page. */
function decode(c: Content, view: number, from: number, to: number, k: Float32Array, v: Float32Array | null): void {
  const { memory, shape, layouts } = c.storage;
  const { headDim } = shape;
  const plane = 64 * headDim * 4;
  const bytes = 2 * plane + READ_BYTES;
  const work = memory.alloc(bytes);
  try {
    const item = work + 2 * plane;
    let entry = 0;
    for (let i = 0; i < c.refs[view]! && entry < to; i++) {
      ref.load(memory, c.ref(view, i));
      const { live } = ref;
      if (entry + live <= from) {
        entry += live;
        continue;
      }
      const { u32 } = memory;
      const at = item >>> 2;
      u32[at + READ_CELL / 4] = ref.cell;
      u32[at + READ_LAYOUT / 4] = ref.layout;
      u32[at + READ_FIRST / 4] = ref.first;
      u32[at + READ_COUNT / 4] = ref.end - ref.first;
      u32[at + READ_K / 4] = work;
      u32[at + READ_V / 4] = v ? work + plane : 0;
      u32[at + READ_LAYOUTS / 4] = layouts.address;
      c.storage.kernels.run(KIND_READ, item, 1);
      const { f32 } = memory;
      for (let row = ref.first; row < ref.end; row++) {
        if (!hasRow(ref.lo, ref.hi, row)) continue;
        if (entry >= from && entry < to) {
          const source = (work >>> 2) + (row - ref.first) * headDim;
          k.set(f32.subarray(source, source + headDim), (entry - from) * headDim);
          v?.set(f32.subarray(source + plane / 4, source + plane / 4 + headDim), (entry - from) * headDim);
        }
        entry++;
      }
    }
  } finally {
    memory.free(work, bytes);
  }
}
