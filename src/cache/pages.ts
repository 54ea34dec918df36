import { PAGE_TOKENS } from '../../kernels/abi.ts';
import type { Memory } from '../backend/types.ts';
import { growTo } from './arrays.ts';
import type { Account, Ledger } from './ledger.ts';
import type { PositionTable } from './positions.ts';
import type { Group } from './spans.ts';

/** Bytes of one page's row in this table. */
export const PAGE_ENTRY_BYTES = 35;

/**
 * The page table, a structure of typed arrays indexed by page number; half a million pages cost 16 MiB and no objects.
 * Invariants: `refs` counts the REF records (of any view) that name the page; at 0 the page is freed. A page is written
 * only by a sequence that holds all its references, and only in rows that no reference shows.
 */
export class PageTable {
  address = new Uint32Array(256);
  /** In a free entry `address` is the number of the next free one, plus 1. */
  refs = new Uint32Array(256);
  bytes = new Uint32Array(256);
  /** Block of the positions of its rows; the page holds one reference on it. */
  positions = new Uint32Array(256);
  layout = new Uint16Array(256);
  /** Rows that may be used: 64, or fewer where the next row's position did not fit the block. */
  limit = new Uint8Array(256);
  /** First slot of its span, and how many. */
  slot = new Uint16Array(256);
  slots = new Uint16Array(256);
  owner = new Uint32Array(256);
  /** Marks of one walk over a sequence (account.ts). */
  stamp = new Uint32Array(256);
  seen = new Uint32Array(256);
  #length = 0;
  #free = -1;
  #count = 0;
  #bytes = 0;
  readonly #memory: Memory;
  readonly #ledger: Ledger;
  readonly #blocks: PositionTable;

  constructor(memory: Memory, ledger: Ledger, blocks: PositionTable) {
    this.#memory = memory;
    this.#ledger = ledger;
    this.#blocks = blocks;
  }

  /** Pages in use. */
  get count(): number {
    return this.#count;
  }

  /** Bytes of all pages in use. */
  get held(): number {
    return this.#bytes;
  }

  /** Bytes that a page of the group costs, its row in the table included. */
  static cost(group: Group): number {
    return group.pageBytes + PAGE_ENTRY_BYTES;
  }

  /**
   * A new page with no references yet; columns are 0, other planes hold anything. Takes over the caller's reference on
   * `positions` (also when it fails). Raises `kv_cache_full` or `memory_limit`.
   */
  create(group: Group, positions: number, account: Account, fromPromise: boolean): number {
    const { layout, pageBytes } = group;
    let address: number;
    try {
      account.charge(pageBytes + PAGE_ENTRY_BYTES, 'rows', PAGE_TOKENS, fromPromise);
      try {
        address = this.#memory.alloc(pageBytes);
      } catch (error) {
        account.refund(pageBytes + PAGE_ENTRY_BYTES);
        throw error;
      }
    } catch (error) {
      this.#blocks.release(positions);
      throw error;
    }
    const page = this.#entry();
    this.address[page] = address;
    this.refs[page] = 0;
    this.bytes[page] = pageBytes;
    this.positions[page] = positions;
    this.layout[page] = layout.id;
    this.limit[page] = PAGE_TOKENS;
    this.slot[page] = group.slot;
    this.slots[page] = group.slots;
    this.owner[page] = account.owner;
    this.stamp[page] = 0;
    this.#count++;
    this.#bytes += pageBytes;
    this.#spread(page, pageBytes + PAGE_ENTRY_BYTES);
    if (layout.columns.size > 0) {
      const { u8 } = this.#memory;
      for (let cell = address; cell < address + pageBytes; cell += layout.cellBytes) {
        u8.fill(0, cell + layout.columnsAt, cell + layout.cellBytes);
      }
    }
    return page;
  }

  retain(page: number): void {
    this.refs[page]!++;
  }

  release(page: number): void {
    if (--this.refs[page]! === 0) this.destroy(page);
  }

  /** Frees a page that has no references (left). */
  destroy(page: number): void {
    const bytes = this.bytes[page]!;
    this.#spread(page, -(bytes + PAGE_ENTRY_BYTES));
    this.#memory.free(this.address[page]!, bytes);
    this.#ledger.give(this.owner[page]!, bytes + PAGE_ENTRY_BYTES);
    this.#blocks.release(this.positions[page]!);
    this.address[page] = this.#free + 1;
    this.#free = page;
    this.#count--;
    this.#bytes -= bytes;
  }

  /** Gives the page other positions, with the caller's reference on them. */
  setPositions(page: number, positions: number): void {
    this.#blocks.release(this.positions[page]!);
    this.positions[page] = positions;
  }

  #spread(page: number, bytes: number): void {
    // Whole bytes, so that what is added is what is taken away.
    const { bySlot } = this.#ledger;
    const slots = this.slots[page]!;
    const share = Math.trunc(bytes / slots);
    for (let i = 0; i < slots; i++) bySlot[this.slot[page]! + i]! += i === 0 ? bytes - share * (slots - 1) : share;
  }

  #entry(): number {
    if (this.#free >= 0) {
      const page = this.#free;
      this.#free = this.address[page]! - 1;
      return page;
    }
    if (this.#length === this.refs.length) {
      const size = this.#length * 2;
      this.address = growTo(this.address, size);
      this.refs = growTo(this.refs, size);
      this.bytes = growTo(this.bytes, size);
      this.positions = growTo(this.positions, size);
      this.layout = growTo(this.layout, size);
      this.limit = growTo(this.limit, size);
      this.slot = growTo(this.slot, size);
      this.slots = growTo(this.slots, size);
      this.owner = growTo(this.owner, size);
      this.stamp = growTo(this.stamp, size);
      this.seen = growTo(this.seen, size);
    }
    return this.#length++;
  }
}
