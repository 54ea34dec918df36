import {
  REF_BYTES,
  REF_CELL,
  REF_COUNT,
  REF_FIRST,
  REF_FLAG_CONTIGUOUS,
  REF_FLAG_FULL_MASK,
  REF_FLAGS,
  REF_LAYOUT,
  REF_MASK_HI,
  REF_MASK_LO,
  REF_PAGE,
  REF_POSITIONS,
  REF_SHIFT,
} from '../../kernels/abi.ts';
import type { Memory } from '../backend/types.ts';
import { growTo } from './arrays.ts';
import { ALL, countBits, highestRow, lowestRow, rangeHi, rangeLo } from './bits.ts';

/** REF record in 32-bit words. */
export const REF_WORDS = REF_BYTES / 4;

/**
 * One REF record, read into fields; one object is used again and again.
 * Invariants of a record: the first and last row of its range are live, and mask bits outside the range are set.
 */
export class Ref {
  cell = 0;
  /** Address of its POSITIONS block. */
  positions = 0;
  first = 0;
  /** One past the last row of the range. */
  end = 0;
  layout = 0;
  shift = 0;
  page = 0;
  flags = 0;
  /** Live rows: the mask within the range. */
  lo = 0;
  hi = 0;

  load(memory: Memory, address: number): this {
    const { u32, u8, u16, i32 } = memory;
    const at = address >>> 2;
    this.cell = u32[at + REF_CELL / 4]!;
    this.positions = u32[at + REF_POSITIONS / 4]!;
    this.first = u8[address + REF_FIRST]!;
    this.end = this.first + u8[address + REF_COUNT]!;
    this.layout = u16[(address + REF_LAYOUT) >>> 1]!;
    this.shift = i32[at + REF_SHIFT / 4]!;
    this.page = u32[at + REF_PAGE / 4]!;
    this.flags = u32[at + REF_FLAGS / 4]!;
    this.lo = (u32[at + REF_MASK_LO / 4]! & rangeLo(this.first, this.end)) >>> 0;
    this.hi = (u32[at + REF_MASK_HI / 4]! & rangeHi(this.first, this.end)) >>> 0;
    return this;
  }

  get live(): number {
    return countBits(this.lo) + countBits(this.hi);
  }

  get contiguous(): boolean {
    return (this.flags & REF_FLAG_CONTIGUOUS) !== 0;
  }
}

/** REF records being put together, in their binary form: the new content of a view. */
export class RefList {
  words = new Uint32Array(16 * REF_WORDS);
  count = 0;
  entries = 0;
  /** Page and shift of the last record. */
  #page = -1;
  #shift = 0;

  clear(): void {
    this.count = 0;
    this.entries = 0;
    this.#page = -1;
  }

  /**
   * Adds the live rows (lo, hi) of a page; nothing where there are none. Joins them with the record before where that is the
   * same page at the same shift and its rows come first.
   * @param contiguous rows of the positions block that count up by one from row 0
   */
  push(
    cell: number,
    positions: number,
    contiguous: number,
    layout: number,
    shift: number,
    page: number,
    lo: number,
    hi: number,
  ): void {
    if (lo === 0 && hi === 0) return;
    this.entries += countBits(lo) + countBits(hi);
    let liveLo = lo;
    let liveHi = hi;
    if (this.#page === page && this.#shift === shift) {
      const at = (this.count - 1) * REF_WORDS;
      const first = this.words[at + 2]! & 0xff;
      const end = first + ((this.words[at + 2]! >>> 8) & 0xff);
      if (lowestRow(lo, hi) >= end) {
        liveLo = (liveLo | (this.words[at + REF_MASK_LO / 4]! & rangeLo(first, end))) >>> 0;
        liveHi = (liveHi | (this.words[at + REF_MASK_HI / 4]! & rangeHi(first, end))) >>> 0;
        this.count--;
      }
    }
    const at = this.count * REF_WORDS;
    if (at === this.words.length) this.words = growTo(this.words, at * 2);
    const first = lowestRow(liveLo, liveHi);
    const end = highestRow(liveLo, liveHi) + 1;
    const maskLo = (liveLo | ~rangeLo(first, end)) >>> 0;
    const maskHi = (liveHi | ~rangeHi(first, end)) >>> 0;
    const full = maskLo === ALL && maskHi === ALL;
    this.words[at + REF_CELL / 4] = cell;
    this.words[at + REF_POSITIONS / 4] = positions;
    // u8 first, u8 count, u16 layout
    this.words[at + 2] = first | ((end - first) << 8) | (layout << 16);
    this.words[at + REF_SHIFT / 4] = shift;
    this.words[at + REF_MASK_LO / 4] = maskLo;
    this.words[at + REF_MASK_HI / 4] = maskHi;
    this.words[at + REF_PAGE / 4] = page;
    this.words[at + REF_FLAGS / 4] = (contiguous >= end ? REF_FLAG_CONTIGUOUS : 0) | (full ? REF_FLAG_FULL_MASK : 0);
    this.count++;
    this.#page = page;
    this.#shift = shift;
  }
}
