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
  REF_BYTES,
} from '../../../kernels/abi.ts';
import type { Kernels } from '../../backend/types.ts';
import { hasRow } from '../../cache/bits.ts';
import { Ref } from '../../cache/ref-list.ts';
import type { CacheSequence } from '../../cache/sequence.ts';
import { Space } from './space.ts';

const ref = new Ref();
/** Runs of live rows that one entry can make at most: every second row of a page. */
const RUNS_PER_PAGE = 32;

/** Decodes entries [from, to) of a view, keys or values as stored, to f32 [to - from][headDim] at an address. */
export function readRows(
  kernels: Kernels,
  sequence: CacheSequence,
  layer: number,
  head: number,
  plane: 'k' | 'v',
  from: number,
  to: number,
  address: number,
): void {
  if (from >= to) return;
  const { memory } = kernels;
  const { headDim } = sequence.cache.shape;
  const refs = sequence.refs(layer, head);
  const refCount = sequence.refCount(layer, head);
  const space = new Space(memory);
  try {
    const runs = Math.min(to - from, refCount * RUNS_PER_PAGE);
    const items = space.alloc(runs * READ_BYTES);
    const { u32 } = memory;
    let count = 0;
    let entry = 0;
    for (let i = 0; i < refCount && entry < to; i++) {
      ref.load(memory, refs + i * REF_BYTES);
      for (let row = ref.first; row < ref.end && entry < to; ) {
        if (!hasRow(ref.lo, ref.hi, row)) {
          row++;
          continue;
        }
        let end = row + 1;
        while (end < ref.end && hasRow(ref.lo, ref.hi, end)) end++;
        const first = Math.max(row, row + from - entry);
        const last = Math.min(end, row + to - entry);
        if (first < last) {
          const at = (items + count++ * READ_BYTES) / 4;
          const target = address + (entry + first - row - from) * headDim * 4;
          u32[at + READ_CELL / 4] = ref.cell;
          u32[at + READ_LAYOUT / 4] = ref.layout;
          u32[at + READ_FIRST / 4] = first;
          u32[at + READ_COUNT / 4] = last - first;
          u32[at + READ_K / 4] = plane === 'k' ? target : 0;
          u32[at + READ_V / 4] = plane === 'v' ? target : 0;
          u32[at + READ_LAYOUTS / 4] = sequence.cache.layouts;
        }
        entry += end - row;
        row = end;
      }
    }
    kernels.run(KIND_READ, items, count);
  } finally {
    space.free();
  }
}
