import { PAGE_TOKENS, POSITIONS_BASE, POSITIONS_BYTES, POSITIONS_DELTA } from '../../kernels/abi.ts';
import type { Memory } from '../backend/types.ts';
import { blockBytes, growTo } from './arrays.ts';
import type { Account, Ledger } from './ledger.ts';

const MAX_DELTA = 0xffff;
export const MAX_POSITION = 0x7fffffff;
/** Bytes of one block, its place in the tables of this file included. */
export const POSITIONS_HELD = blockBytes(POSITIONS_BYTES) + 29;

/**
 * Blocks of 64 positions, base + u16 delta, interned: whoever needs the same positions (all heads and slots of a sequence,
 * its forks, other sequences) holds the same block.
 * Invariants: a block never changes once made. Rows after the given ones count on by one from the last, so a page that
 * goes on growing usually has its positions already.
 */
export class PositionTable {
  address = new Uint32Array(64);
  /** How many pages hold the block. In a free entry `address` is the number of the next free one, plus 1. */
  refs = new Uint32Array(64);
  /** Rows from 0 on that count up by one. */
  contiguous = new Uint8Array(64);
  owner = new Uint32Array(64);
  /** Marks of one walk over a sequence (account.ts). */
  stamp = new Uint32Array(64);
  seen = new Uint32Array(64);
  #key = new Float64Array(64);
  #length = 0;
  #free = -1;
  #count = 0;
  readonly #memory: Memory;
  readonly #ledger: Ledger;
  /** From the base of a contiguous block, or -1 - hash of another one. Colliding blocks are not shared, no more. */
  readonly #byKey = new Map<number, number>();
  readonly #rows = new Uint16Array(PAGE_TOKENS);

  constructor(memory: Memory, ledger: Ledger) {
    this.#memory = memory;
    this.#ledger = ledger;
  }

  /** Blocks in use. */
  get count(): number {
    return this.#count;
  }

  /** Stored position of a row. */
  at(block: number, row: number): number {
    const at = this.address[block]!;
    const { i32, u16 } = this.#memory;
    return i32[(at + POSITIONS_BASE) >>> 2]! + u16[((at + POSITIONS_DELTA) >>> 1) + row]!;
  }

  base(block: number): number {
    return this.#memory.i32[(this.address[block]! + POSITIONS_BASE) >>> 2]!;
  }

  /** Can `position` lie in a block with this base? */
  static fits(base: number, position: number): boolean {
    return position >= base && position - base <= MAX_DELTA;
  }

  /**
   * The block of these positions: `count` of them from `from` on in `source`, all fitting `base` (the first one). One more
   * reference is held on it. May raise `kv_cache_full` or `memory_limit`.
   */
  intern(source: ArrayLike<number>, from: number, count: number, account: Account, base = source[from]!): number {
    const rows = this.#rows;
    let contiguous = 0;
    for (let i = 0; i < PAGE_TOKENS; i++) {
      const last = Math.min(MAX_DELTA, MAX_POSITION - base);
      rows[i] = i < count ? source[from + i]! - base : Math.min(rows[i - 1]! + 1, last);
      if (contiguous === i && rows[i] === i) contiguous++;
    }
    return this.#find(base, contiguous, account);
  }

  /** The block base, base + 1, ... */
  internRun(base: number, account: Account): number {
    const known = this.#byKey.get(base);
    if (known !== undefined) {
      this.refs[known]!++;
      return known;
    }
    for (let i = 0; i < PAGE_TOKENS; i++) this.#rows[i] = Math.min(i, MAX_POSITION - base);
    return this.#find(base, Math.min(PAGE_TOKENS, MAX_POSITION - base + 1), account);
  }

  retain(block: number): void {
    this.refs[block]!++;
  }

  release(block: number): void {
    if (--this.refs[block]! > 0) return;
    const key = this.#key[block]!;
    if (this.#byKey.get(key) === block) this.#byKey.delete(key);
    this.#memory.free(this.address[block]!, blockBytes(POSITIONS_BYTES));
    this.#ledger.give(this.owner[block]!, POSITIONS_HELD);
    this.address[block] = this.#free + 1;
    this.#free = block;
    this.#count--;
  }

  #find(base: number, contiguous: number, account: Account): number {
    const key = contiguous === PAGE_TOKENS ? base : -1 - this.#hash(base);
    const known = this.#byKey.get(key);
    if (known !== undefined && this.#equals(known, base)) {
      this.refs[known]!++;
      return known;
    }
    account.charge(POSITIONS_HELD, 'positions', PAGE_TOKENS, true);
    let address: number;
    try {
      address = this.#memory.alloc(blockBytes(POSITIONS_BYTES));
    } catch (error) {
      account.refund(POSITIONS_HELD);
      throw error;
    }
    const block = this.#entry();
    this.address[block] = address;
    this.refs[block] = 1;
    this.contiguous[block] = contiguous;
    this.owner[block] = account.owner;
    this.stamp[block] = 0;
    this.#key[block] = key;
    const { i32, u16 } = this.#memory;
    i32[(address + POSITIONS_BASE) >>> 2] = base;
    i32[(address >>> 2) + 1] = 0;
    u16.set(this.#rows, (address + POSITIONS_DELTA) >>> 1);
    if (known === undefined) this.#byKey.set(key, block);
    this.#count++;
    return block;
  }

  #equals(block: number, base: number): boolean {
    if (this.base(block) !== base) return false;
    const { u16 } = this.#memory;
    const at = (this.address[block]! + POSITIONS_DELTA) >>> 1;
    for (let i = 0; i < PAGE_TOKENS; i++) if (u16[at + i] !== this.#rows[i]) return false;
    return true;
  }

  /** FNV-1a over the base and the deltas. */
  #hash(base: number): number {
    let hash = Math.imul(0x811c9dc5 ^ base, 0x01000193);
    for (const delta of this.#rows) hash = Math.imul(hash ^ delta, 0x01000193);
    return hash >>> 0;
  }

  #entry(): number {
    if (this.#free >= 0) {
      const block = this.#free;
      this.#free = this.address[block]! - 1;
      return block;
    }
    if (this.#length === this.refs.length) {
      const size = this.#length * 2;
      this.address = growTo(this.address, size);
      this.refs = growTo(this.refs, size);
      this.contiguous = growTo(this.contiguous, size);
      this.owner = growTo(this.owner, size);
      this.stamp = growTo(this.stamp, size);
      this.seen = growTo(this.seen, size);
      this.#key = growTo(this.#key, size);
    }
    return this.#length++;
  }
}
