import { type CacheBudget, KvCacheFullError } from './budget.ts';

/**
 * The accounts of one cache: bytes held by slot and by owner, under a budget that other caches may share.
 * Invariant: every byte taken is given back under the same owner, so all accounts return to where they began.
 */
export class Ledger {
  readonly budget: CacheBudget;
  readonly bySlot: Float64Array;
  #held = 0;
  #peak = 0;
  #reserved = 0;
  readonly #ids = new Map<string, number>();
  readonly #names: string[] = [];
  readonly #bytes: number[] = [];
  readonly #freeIds: number[] = [];

  constructor(budget: CacheBudget, slots: number) {
    this.budget = budget;
    this.bySlot = new Float64Array(slots);
  }

  get held(): number {
    return this.#held;
  }

  get peak(): number {
    return this.#peak;
  }

  get reserved(): number {
    return this.#reserved;
  }

  /** Number of an owner's account; it stays valid while the account holds bytes. */
  owner(name: string): number {
    const known = this.#ids.get(name);
    if (known !== undefined) return known;
    const id = this.#freeIds.pop() ?? this.#names.length;
    this.#ids.set(name, id);
    this.#names[id] = name;
    this.#bytes[id] = 0;
    return id;
  }

  /** Opens an account with `bytes` held. Raises `kv_cache_full`. */
  open(name: string, bytes: number): number {
    const { free, limit } = this.budget;
    if (bytes > free) throw new KvCacheFullError('owner', name, bytes, free, limit);
    const id = this.owner(name);
    this.take(id, bytes, 0);
    return id;
  }

  byOwner(): Record<string, number> {
    const result: Record<string, number> = {};
    for (const [name, id] of this.#ids) result[name] = this.#bytes[id]!;
    return result;
  }

  /** `promised` of the bytes come out of a promise. The caller has checked that the rest fits. */
  take(owner: number, bytes: number, promised: number): void {
    this.#held += bytes;
    this.#reserved -= promised;
    this.#bytes[owner]! += bytes;
    if (this.#held > this.#peak) this.#peak = this.#held;
    this.budget.take(bytes, promised);
  }

  give(owner: number, bytes: number): void {
    this.#held -= bytes;
    const left = this.#bytes[owner]! - bytes;
    this.#bytes[owner] = left;
    if (left === 0) {
      this.#ids.delete(this.#names[owner]!);
      this.#freeIds.push(owner);
    }
    this.budget.give(bytes);
  }

  promise(bytes: number): void {
    this.#reserved += bytes;
    this.budget.promise(bytes);
  }
}

/** One sequence's way to spend: its owner's account and what it has been promised. */
export class Account {
  readonly ledger: Ledger;
  readonly owner: number;
  readonly name: string;
  /** Bytes promised and not yet taken. */
  promised = 0;
  /** Counts the pages paid for. */
  pagesMade = 0;

  /** Opens with `bytes` already held, so that the owner's number stays valid until `close`. */
  constructor(ledger: Ledger, name: string, bytes: number) {
    this.ledger = ledger;
    this.name = name;
    this.owner = ledger.open(name, bytes);
  }

  /** Raises `kv_cache_full` where `bytes` do not fit; `field` and `value` say what was asked for. */
  require(bytes: number, field: string, value: unknown, fromPromise: boolean): void {
    const { budget } = this.ledger;
    const free = budget.free + (fromPromise ? this.promised : 0);
    if (bytes > free) throw new KvCacheFullError(field, value, bytes, free, budget.limit);
  }

  charge(bytes: number, field: string, value: unknown, fromPromise: boolean): void {
    this.require(bytes, field, value, fromPromise);
    const promised = fromPromise ? Math.min(bytes, this.promised) : 0;
    this.promised -= promised;
    this.ledger.take(this.owner, bytes, promised);
  }

  refund(bytes: number): void {
    this.ledger.give(this.owner, bytes);
  }

  /** Sets the promise back to what it was before an action that took from it, as far as what is free now allows. */
  restorePromise(bytes: number): void {
    this.setPromise(Math.min(bytes, this.promised + Math.max(0, this.ledger.budget.free)));
  }

  /** Sets the promise; the caller has checked that a rise fits. */
  setPromise(bytes: number): void {
    this.ledger.promise(bytes - this.promised);
    this.promised = bytes;
  }
}
