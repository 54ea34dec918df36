import type { Kernels, Memory } from '../backend/types.ts';
import { KvasirError } from '../errors.ts';
import { measureParked, measureTogether } from './account.ts';
import { CacheBudget } from './budget.ts';
import { Content, type Storage } from './content.ts';
import { checkShape, LayoutTable } from './layout.ts';
import { Account, Ledger } from './ledger.ts';
import { FETCHED_BYTES, PageTable } from './pages.ts';
import { MemoryPlace, type ParkPlace } from './park-place.ts';
import { DEFAULT_PARK_LIMIT, ParkTotals } from './park-totals.ts';
import { PositionTable } from './positions.ts';
import { CacheSequence } from './sequence.ts';
import { SharedTable } from './shared-blocks.ts';
import { buildSpans, type Spans } from './spans.ts';
import type { CacheShape, CacheStats, PageOptions, SequenceOptions, TogetherStats } from './types.ts';

export interface KvCacheOptions {
  readonly memory: Memory;
  readonly kernels: Kernels;
  readonly shape: CacheShape;
  /** Bytes, or a budget that several caches share. */
  readonly limit: number | CacheBudget;
  /** Where rows are parked that are to lie in a file (park.node.ts); without it they can be parked in memory only. */
  readonly parkFile?: ParkPlace;
  /** Bytes of ordinary memory for parked entries, or a budget that several caches share. Default 16 GiB. */
  readonly parkLimit?: number | CacheBudget;
}

const PAIRS_BYTES = 128;
const BASE_OWNER = 'cache';

/** The KV caches of one model: makes sequences, holds their pages, keeps the accounts, enforces the limit. */
export class KvCache {
  readonly memory: Memory;
  readonly kernels: Kernels;
  readonly shape: CacheShape;
  readonly budget: CacheBudget;
  readonly #storage: Storage;
  readonly #sequences = new Set<CacheSequence>();
  readonly #spans = new Map<string, Spans>();
  #disposed = false;

  constructor({ memory, kernels, shape, limit, parkFile, parkLimit = DEFAULT_PARK_LIMIT }: KvCacheOptions) {
    checkShape(shape);
    this.memory = memory;
    this.kernels = kernels;
    this.shape = shape;
    this.budget = typeof limit === 'number' ? new CacheBudget(limit) : limit;
    const ledger = new Ledger(this.budget, shape.slots);
    const base = LayoutTable.bytes + PAIRS_BYTES;
    const layouts = new LayoutTable(memory, shape, new Account(ledger, BASE_OWNER, base));
    const identityPairs = memory.alloc(PAIRS_BYTES);
    const { u8 } = memory;
    for (let i = 0; i < PAIRS_BYTES; i++) u8[identityPairs + i] = i >> 1;
    const blocks = new PositionTable(memory, ledger);
    const shared = new SharedTable(memory, ledger);
    const pages = new PageTable(memory, ledger, blocks, layouts, shared);
    const parked = new ParkTotals(typeof parkLimit === 'number' ? new CacheBudget(parkLimit) : parkLimit);
    const places = { memory: new MemoryPlace(), file: parkFile };
    const tables = { ledger, layouts, pages, blocks, shared, identityPairs, parked, places };
    this.#storage = { memory, kernels, shape, ...tables, epoch: 0, clamped: 0 };
  }

  /** Address of the layout table (ATTEND_LAYOUTS and the like); another one once pages of new formats come or go. */
  get layouts(): number {
    return this.#storage.layouts.address;
  }

  /** An empty sequence. Raises `invalid_request` on bad options, `kv_cache_full` where not even its tables fit. */
  create(options: SequenceOptions): CacheSequence {
    if (this.#disposed) throw new KvasirError('disposed', 'The cache has been disposed of.', { field: 'cache' });
    if (typeof options.owner !== 'string' || options.owner === '') {
      throw new KvasirError('invalid_request', 'A sequence needs an owner.', {
        field: 'owner',
        value: options.owner,
        allowed: 'a name',
      });
    }
    const key = JSON.stringify([options.pages, [...(options.overrides ?? [])]]);
    let spans = this.#spans.get(key);
    if (!spans) {
      spans = buildSpans(this.shape, options, this.#storage.layouts);
      if (this.#spans.size >= 64) this.#spans.clear();
      this.#spans.set(key, spans);
    }
    return this.adopt(options, new Content(this.#storage, spans, options.owner));
  }

  /** Bytes a token of page space costs over all slots and heads; positions and tables not counted. */
  bytesPerToken(pages: PageOptions): number {
    return (this.#storage.layouts.intern(pages).cellBytes / 64) * this.shape.slots * this.shape.kvHeads;
  }

  stats(): CacheStats {
    const { ledger, pages, parked, clamped } = this.#storage;
    return {
      held: ledger.held,
      reserved: ledger.reserved,
      peak: ledger.peak,
      limit: this.budget.limit,
      pages: pages.count,
      sequences: this.#sequences.size,
      bySlot: ledger.bySlot.slice(),
      byOwner: ledger.byOwner(),
      parked: parked.bytes + pages.fetched.size * FETCHED_BYTES,
      fetched: parked.fetched,
      clamped,
    };
  }

  /** Bytes of several sequences of this cache, at least one, as if they were one: what they share counts once. */
  measure(sequences: readonly CacheSequence[]): TogetherStats {
    const contents = sequences.map(({ content }) => content);
    const { held, items } = measureTogether(contents);
    return { held, parked: measureParked(contents), bytes: items };
  }

  /** Frees every sequence and the tables. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    for (const sequence of [...this.#sequences]) sequence.free();
    const { ledger, layouts, identityPairs } = this.#storage;
    layouts.dispose();
    this.memory.free(identityPairs, PAIRS_BYTES);
    ledger.give(ledger.owner(BASE_OWNER), LayoutTable.bytes + PAIRS_BYTES);
  }

  /** For CacheSequence: takes in a content that it has made. */
  adopt(options: SequenceOptions, content: Content): CacheSequence {
    const sequence = new CacheSequence(this, options, content);
    this.#sequences.add(sequence);
    return sequence;
  }

  /** For CacheSequence: it has been freed. */
  forget(sequence: CacheSequence): void {
    this.#sequences.delete(sequence);
  }

  /** The tables themselves, for tests and reports. */
  get storage(): Storage {
    return this.#storage;
  }
}
