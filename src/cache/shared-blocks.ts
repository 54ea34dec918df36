import type { Memory } from '../backend/types.ts';
import { KvasirError } from '../errors.ts';
import { floatToHalf } from '../model/float16.ts';
import { blockBytes } from './arrays.ts';
import type { Content } from './content.ts';
import type { Account, Ledger } from './ledger.ts';
import type { SharedBlock } from './types.ts';

/** Bytes of one block's row in the table of this file. */
export const SHARED_ENTRY_BYTES = 64;
const INFINITE_HALF = 0x7c00;

/** A parameter block in memory: f16 values that many pages use. */
export interface SharedEntry {
  readonly address: number;
  /** f16 values */
  readonly length: number;
  /** Bytes counted, the row in the table included. */
  readonly bytes: number;
  readonly owner: number;
  /** Cells that point to it, and plans that hold it; at 0 it is freed and never comes back. */
  refs: number;
  /** Marks of one walk over a sequence (account.ts). */
  stamp: number;
  seen: number;
}

/**
 * The parameter blocks of one cache, found by the address that page headers hold. A block never changes once made.
 */
export class SharedTable {
  readonly #memory: Memory;
  readonly #ledger: Ledger;
  readonly #byAddress = new Map<number, SharedEntry>();

  constructor(memory: Memory, ledger: Ledger) {
    this.#memory = memory;
    this.#ledger = ledger;
  }

  get count(): number {
    return this.#byAddress.size;
  }

  at(address: number): SharedEntry | undefined {
    return this.#byAddress.get(address);
  }

  entries(): IterableIterator<SharedEntry> {
    return this.#byAddress.values();
  }

  /** A new block with one reference, the caller's. Raises `kv_cache_full` or `memory_limit`. */
  create(halves: Uint16Array, account: Account): SharedEntry {
    const block = blockBytes(halves.length * 2);
    const bytes = block + SHARED_ENTRY_BYTES;
    account.charge(bytes, 'shared', halves.length, true);
    let address: number;
    try {
      address = this.#memory.alloc(block);
    } catch (error) {
      account.refund(bytes);
      throw error;
    }
    this.#memory.u16.set(halves, address >>> 1);
    const { owner } = account;
    const entry: SharedEntry = { address, length: halves.length, bytes, owner, refs: 1, stamp: 0, seen: 0 };
    this.#byAddress.set(address, entry);
    return entry;
  }

  release(entry: SharedEntry): void {
    if (--entry.refs > 0) return;
    this.#byAddress.delete(entry.address);
    this.#memory.free(entry.address, entry.bytes - SHARED_ENTRY_BYTES);
    this.#ledger.give(entry.owner, entry.bytes);
  }

  equals(entry: SharedEntry, halves: Uint16Array): boolean {
    if (entry.length !== halves.length) return false;
    const { u16 } = this.#memory;
    const at = entry.address >>> 1;
    for (let i = 0; i < halves.length; i++) if (u16[at + i] !== halves[i]) return false;
    return true;
  }
}

/**
 * The sequence's block of this key, made where there is none (left); one more reference is held on it. Raises
 * `invalid_request` on values that are not f16 numbers or differ from those of the living block, `kv_cache_full`.
 * @param length f16 values that the format reads
 */
export function internShared(c: Content, block: SharedBlock, length: number, field: string): SharedEntry {
  const { shared } = c.storage;
  if (typeof block.key !== 'string' || block.key === '') throw bad(`${field}.key`, block.key, 'a name');
  if (block.values.length !== length) {
    throw bad(`${field}.values`, block.values.length, `${length} values, as the format needs`);
  }
  const halves = toHalves(block.values, `${field}.values`);
  const known = c.sharedKeys.get(block.key);
  if (known && known.refs > 0) {
    if (!shared.equals(known, halves)) {
      throw bad(`${field}.key`, block.key, 'a new key: pages use other values under this one');
    }
    known.refs++;
    return known;
  }
  const entry = shared.create(halves, c.account);
  c.sharedKeys.set(block.key, entry);
  return entry;
}

/** Forgets keys whose blocks are gone. */
export function pruneShared(c: Content): void {
  for (const [key, entry] of c.sharedKeys) if (entry.refs === 0) c.sharedKeys.delete(key);
}

function toHalves(values: Float32Array, field: string): Uint16Array {
  const halves = new Uint16Array(values.length);
  for (let i = 0; i < values.length; i++) {
    const half = floatToHalf(values[i]!);
    if ((half & INFINITE_HALF) === INFINITE_HALF) throw bad(field, values[i], 'numbers within -65504..65504');
    halves[i] = half;
  }
  return halves;
}

function bad(field: string, value: unknown, allowed: string): KvasirError {
  return new KvasirError('invalid_request', `Bad parameter block: ${field} is ${String(value)}.`, {
    field,
    value,
    allowed,
  });
}
