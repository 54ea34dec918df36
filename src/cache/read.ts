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

/** See CacheSequence.read. Decodes through the kernels, page by page, into work space of one page. */
export function read(c: Content, slot: number, head: number): ReadResult {
  const view = c.viewOf(slot, head);
  const { memory, shape, layouts } = c.storage;
  const entries = c.entries[view]!;
  const { headDim } = shape;
  const k = new Float32Array(entries * headDim);
  const v = new Float32Array(entries * headDim);
  const plane = 64 * headDim * 4;
  const bytes = 2 * plane + READ_BYTES;
  const work = memory.alloc(bytes);
  try {
    const item = work + 2 * plane;
    let entry = 0;
    for (let i = 0; i < c.refs[view]!; i++) {
      ref.load(memory, c.ref(view, i));
      const { u32 } = memory;
      const at = item >>> 2;
      u32[at + READ_CELL / 4] = ref.cell;
      u32[at + READ_LAYOUT / 4] = ref.layout;
      u32[at + READ_FIRST / 4] = ref.first;
      u32[at + READ_COUNT / 4] = ref.end - ref.first;
      u32[at + READ_K / 4] = work;
      u32[at + READ_V / 4] = work + plane;
      u32[at + READ_LAYOUTS / 4] = layouts.address;
      c.storage.kernels.run(KIND_READ, item, 1);
      const { f32 } = memory;
      for (let row = ref.first; row < ref.end; row++) {
        if (!hasRow(ref.lo, ref.hi, row)) continue;
        const from = (work >>> 2) + (row - ref.first) * headDim;
        k.set(f32.subarray(from, from + headDim), entry * headDim);
        v.set(f32.subarray(from + plane / 4, from + plane / 4 + headDim), entry * headDim);
        entry++;
      }
    }
  } finally {
    memory.free(work, bytes);
  }
  const columns: Record<string, Float32Array> = {};
  for (const name of c.spans.groups[c.spans.groupOfView[view]!]!.layout.columns.keys()) {
    columns[name] = readColumn(c, view, name);
  }
  const positions = new Int32Array(entries);
  c.readPositions(view, positions);
  return { k, v, positions, columns };
}
