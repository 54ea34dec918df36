import {
  REF_BYTES,
  REF_COUNT,
  REF_FIRST,
  REF_FLAG_FULL_MASK,
  REF_FLAGS,
  REF_MASK_HI,
  REF_MASK_LO,
} from '../../../kernels/abi.ts';
import type { Memory } from '../../backend/types.ts';
import { countBits, rangeHi, rangeLo } from '../../cache/bits.ts';

/** Live rows of a reference: how many entries of its view it makes. */
export function liveRows(memory: Memory, ref: number): number {
  const { u8, u32 } = memory;
  const count = u8[ref + REF_COUNT]!;
  if (u32[(ref + REF_FLAGS) >>> 2]! & REF_FLAG_FULL_MASK) return count;
  const first = u8[ref + REF_FIRST]!;
  const lo = u32[(ref + REF_MASK_LO) >>> 2]! & rangeLo(first, first + count);
  const hi = u32[(ref + REF_MASK_HI) >>> 2]! & rangeHi(first, first + count);
  return countBits(lo) + countBits(hi);
}

/** Entries of `count` references from an address on. */
export function liveInRange(memory: Memory, refs: number, count: number): number {
  let entries = 0;
  for (let i = 0; i < count; i++) entries += liveRows(memory, refs + i * REF_BYTES);
  return entries;
}
