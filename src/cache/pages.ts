import { PAGE_TOKENS } from '../../kernels/abi.ts';
import type { Memory } from '../backend/types.ts';
import { growTo } from './arrays.ts';
import type { CellLayout, LayoutTable } from './layout.ts';
import type { Account, Ledger } from './ledger.ts';
import type { PositionTable } from './positions.ts';
import type { SharedEntry, SharedTable } from './shared-blocks.ts';

/** Bytes of one page's row in this table. */
export const PAGE_ENTRY_BYTES = 35;
/** Fields of a cell's header (LAYOUT_HEADER). */
export const HEADER_K_PLANE = 0;
const HEADER_K_PARAMS = 4;
export const HEADER_V_PLANE = 8;
const HEADER_V_PARAMS = 12;
export const HEADER_BYTES = 16;

/** What a page is made for: a group of views (spans.ts), or cells that an action puts together. */
export interface PageShape {
  readonly layout: CellLayout;
  readonly pageBytes: number;
  /** First slot of its cells, and how many. */
  readonly slot: number;
  readonly slots: number;
  /** Slot of each cell, where they are not `slots` in a row with as many cells each. */
  readonly slotOf?: Uint16Array;
}

/** Bytes that are kept of a page of fetched rows beside it. */
export const FETCHED_BYTES = PAGE_TOKENS * 4;

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
  /** PageShape.slotOf of the pages that have one. */
  readonly #slotOf = new Map<number, Uint16Array>();
  /** Of pages that hold copies of parked rows: number of the parked unit that each row is of, u32[64] (fetch.ts). */
  readonly fetched = new Map<number, Uint32Array>();
  /** While set: pages that have lost their last reference. They are not freed, so that they can come back (undo.ts). */
  limbo: Set<number> | null = null;
  #length = 0;
  #free = -1;
  #count = 0;
  #bytes = 0;
  readonly #memory: Memory;
  readonly #ledger: Ledger;
  readonly #blocks: PositionTable;
  readonly #layouts: LayoutTable;
  readonly #shared: SharedTable;

  constructor(memory: Memory, ledger: Ledger, blocks: PositionTable, layouts: LayoutTable, shared: SharedTable) {
    this.#memory = memory;
    this.#ledger = ledger;
    this.#blocks = blocks;
    this.#layouts = layouts;
    this.#shared = shared;
  }

  /** Pages in use. */
  get count(): number {
    return this.#count;
  }

  /** Bytes of all pages in use. */
  get held(): number {
    return this.#bytes;
  }

  /** Bytes that a page of this shape costs, its row in the table included. */
  static cost(shape: PageShape): number {
    return shape.pageBytes + PAGE_ENTRY_BYTES;
  }

  /**
   * A new page with no references yet; headers and columns are 0, other planes hold anything. Takes over the caller's
   * reference on `positions` (also when it fails). Raises `kv_cache_full` or `memory_limit`.
   */
  create(shape: PageShape, positions: number, account: Account, fromPromise: boolean): number {
    const { layout, pageBytes } = shape;
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
    account.pagesMade++;
    const page = this.#entry();
    this.address[page] = address;
    this.refs[page] = 0;
    this.bytes[page] = pageBytes;
    this.positions[page] = positions;
    this.layout[page] = layout.id;
    this.limit[page] = PAGE_TOKENS;
    this.slot[page] = shape.slot;
    this.slots[page] = shape.slots;
    if (shape.slotOf) this.#slotOf.set(page, shape.slotOf);
    this.owner[page] = account.owner;
    this.stamp[page] = 0;
    this.#count++;
    this.#bytes += pageBytes;
    this.#spread(page, pageBytes + PAGE_ENTRY_BYTES);
    this.#layouts.retain(layout.id);
    const { u8 } = this.#memory;
    const end = address + pageBytes;
    for (let cell = address + layout.sharedBytes; cell + layout.cellBytes <= end; cell += layout.cellBytes) {
      if (layout.headerAt >= 0) u8.fill(0, cell + layout.headerAt, cell + layout.headerAt + HEADER_BYTES);
      if (layout.columns.size > 0) u8.fill(0, cell + layout.columnsAt, cell + layout.cellBytes);
    }
    return page;
  }

  /** Points the header of one of a page's cells to a parameter block, on which it then holds a reference. */
  setShared(page: number, cell: number, plane: 'k' | 'v', entry: SharedEntry): void {
    const { headerAt } = this.#layouts.get(this.layout[page]!);
    entry.refs++;
    this.#memory.u32[(cell + headerAt + (plane === 'k' ? HEADER_K_PARAMS : HEADER_V_PARAMS)) >>> 2] = entry.address;
  }

  /** The parameter block that a cell's header points to. */
  sharedOf(cell: number, { headerAt }: CellLayout, plane: 'k' | 'v'): SharedEntry | undefined {
    if (headerAt < 0) return undefined;
    const field = plane === 'k' ? HEADER_K_PARAMS : HEADER_V_PARAMS;
    return this.#shared.at(this.#memory.u32[(cell + headerAt + field) >>> 2]!);
  }

  /** Calls with every parameter block that a page's cells point to, once a pointer. */
  eachShared(page: number, use: (entry: SharedEntry) => void): void {
    const layout = this.#layouts.get(this.layout[page]!);
    if (layout.headerAt < 0) return;
    const { cellBytes } = layout;
    const end = this.address[page]! + this.bytes[page]!;
    for (let cell = this.address[page]! + layout.sharedBytes; cell + cellBytes <= end; cell += cellBytes) {
      const k = this.sharedOf(cell, layout, 'k');
      const v = this.sharedOf(cell, layout, 'v');
      if (k) use(k);
      if (v) use(v);
    }
  }

  /**
   * A copy of a page, byte for byte, with no references yet. Raises `kv_cache_full` or `memory_limit`.
   */
  copy(page: number, account: Account): number {
    const layout = this.#layouts.get(this.layout[page]!);
    const slotOf = this.#slotOf.get(page);
    const shape: PageShape = {
      layout,
      pageBytes: this.bytes[page]!,
      slot: this.slot[page]!,
      slots: this.slots[page]!,
      ...(slotOf && { slotOf }),
    };
    this.#blocks.retain(this.positions[page]!);
    const copy = this.create(shape, this.positions[page]!, account, false);
    this.limit[copy] = this.limit[page]!;
    const units = this.fetched.get(page);
    if (units) this.fetched.set(copy, units.slice());
    const from = this.address[page]!;
    const to = this.address[copy]!;
    const { u8, u32 } = this.#memory;
    u8.copyWithin(to, from, from + this.bytes[page]!);
    this.eachShared(copy, entry => entry.refs++);
    if (layout.sharedBytes === 0) return copy;
    // The shared planes of a joint page have moved along.
    const end = to + this.bytes[page]!;
    for (let cell = to + layout.sharedBytes; cell + layout.cellBytes <= end; cell += layout.cellBytes) {
      for (const field of [HEADER_K_PLANE, HEADER_V_PLANE]) {
        const at = (cell + layout.headerAt + field) >>> 2;
        if (u32[at] !== 0) u32[at] = u32[at]! - from + to;
      }
    }
    return copy;
  }

  retain(page: number): void {
    this.refs[page]!++;
  }

  release(page: number): void {
    if (--this.refs[page]! > 0) return;
    if (this.limbo) this.limbo.add(page);
    else this.destroy(page);
  }

  /** Frees what has stayed without references. */
  endLimbo(): void {
    for (const page of this.limbo ?? []) if (this.refs[page] === 0) this.destroy(page);
    this.limbo = null;
  }

  /** Frees a page that has no references (left). */
  destroy(page: number): void {
    const bytes = this.bytes[page]!;
    this.eachShared(page, entry => this.#shared.release(entry));
    this.#layouts.release(this.layout[page]!);
    this.#spread(page, -(bytes + PAGE_ENTRY_BYTES));
    this.#slotOf.delete(page);
    this.#memory.free(this.address[page]!, bytes);
    this.#ledger.give(this.owner[page]!, bytes + PAGE_ENTRY_BYTES);
    this.#blocks.release(this.positions[page]!);
    this.fetched.delete(page);
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
    const slotOf = this.#slotOf.get(page);
    if (slotOf) {
      const share = Math.trunc(bytes / slotOf.length);
      for (const [i, slot] of slotOf.entries()) bySlot[slot]! += i === 0 ? bytes - share * (slotOf.length - 1) : share;
      return;
    }
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
