import { POSITIONS_BASE, POSITIONS_DELTA, REF_BYTES, REF_PAGE } from '../../kernels/abi.ts';
import type { Kernels, Memory } from '../backend/types.ts';
import { KvasirError } from '../errors.ts';
import { blockBytes } from './arrays.ts';
import type { HotCopies } from './hot-copies.ts';
import type { LayoutTable } from './layout.ts';
import { Account, type Ledger } from './ledger.ts';
import type { PageTable } from './pages.ts';
import type { ParkPlace } from './park-place.ts';
import type { ParkTotals } from './park-totals.ts';
import type { ParkedView } from './parked.ts';
import type { PositionTable } from './positions.ts';
import { Ref, type RefList } from './ref-list.ts';
import type { SharedEntry, SharedTable } from './shared-blocks.ts';
import type { Group, Spans } from './spans.ts';
import type { CacheShape, ParkTraffic } from './types.ts';
import type { Undo } from './undo.ts';

/** What the sequences of one cache share. */
export interface Storage {
  readonly memory: Memory;
  readonly kernels: Kernels;
  readonly shape: CacheShape;
  readonly ledger: Ledger;
  readonly layouts: LayoutTable;
  readonly pages: PageTable;
  readonly blocks: PositionTable;
  readonly shared: SharedTable;
  /** Address of the u8 pairs (0, 0) .. (63, 63): a COPY of rows onto the same rows. */
  readonly identityPairs: number;
  readonly parked: ParkTotals;
  readonly places: { readonly memory: ParkPlace; readonly file: ParkPlace | undefined };
  /** Counts the walks that mark pages (account.ts). */
  epoch: number;
  /** See CacheStats. */
  clamped: number;
}

/**
 * The views of a sequence and what goes with them; the verbs (append.ts, keep.ts, ...) work on it. Arrays are indexed by
 * view (slot * kvHeads + head) or by slot.
 */
export class Content {
  readonly storage: Storage;
  readonly spans: Spans;
  readonly account: Account;
  /** REF lists in memory: address (0 where none yet), records they have room for, records in use, live rows. */
  readonly refsAt: Uint32Array;
  readonly capacity: Uint32Array;
  readonly refs: Uint32Array;
  readonly entries: Uint32Array;
  /** While rows are pending: index of the record that takes the next one. Records from `refs` on are prepared, not yet seen. */
  readonly at: Uint32Array;
  /** Records prepared beyond `refs`. */
  readonly prepared: Uint32Array;
  /** Drops until the view is packed; 0: it need not be (drop-pack.ts). */
  readonly packWait: Uint8Array;

  /** By slot: position of the next row; rows prepared and not committed; rows ever committed; the promise, as a value of `appended`. */
  readonly next: Int32Array;
  readonly pending: Uint32Array;
  readonly appended: Float64Array;
  readonly promisedTo: Float64Array;
  /** Entries that a view is said to hold at most while they come. */
  promisedMost = Number.POSITIVE_INFINITY;
  /** By slot: rows of the last prepare, and `next` before it; 0 rows where it cannot be undone any more. */
  readonly lastRows: Uint32Array;
  readonly nextBefore: Int32Array;
  /** By slot: rows, at the positions that come next, for which every view's last page has room: they need no work to prepare. */
  readonly ready: Uint8Array;
  /** By slot: 1 where the last commit filled a last page of one of its views. */
  readonly filled: Uint8Array;
  pendingSlots = 0;
  /** Counts the changes, so that a plan made for another state is refused. */
  version = 0;
  /** The changes among them that are not appends. */
  edits = 0;
  /** The most bytes this sequence could reach, as of the last measurement. */
  peak = 0;
  /** Parameter blocks by key; those without references are gone. */
  readonly sharedKeys = new Map<string, SharedEntry>();
  /** Account.pagesMade as of the last notePeakOnce. */
  peakPages = -1;
  readonly states = new Map<string, { readonly value: unknown; readonly bytes: number }>();
  /** Bytes of the states (state.ts). */
  stateBytes = 0;
  /** What has been parked of the views, by view (parked.ts), and bytes that have been brought back of it. */
  readonly parked = new Map<number, ParkedView>();
  fetched = 0;
  /** By view: copies in memory of what it has in a file; numbers of its resident pieces, the least recently chosen first. */
  readonly hot = new Map<number, HotCopies>();
  readonly recent = new Map<number, Set<number>>();
  readonly traffic: ParkTraffic = { rows: 0, hits: 0, memory: 0, file: 0 };
  freed = false;
  /** Set while plans are applied that may have to be taken back. */
  undo: Undo | null = null;

  constructor(storage: Storage, spans: Spans, owner: string) {
    const { slots, kvHeads } = storage.shape;
    const views = slots * kvHeads;
    this.storage = storage;
    this.spans = spans;
    this.account = new Account(storage.ledger, owner, Content.baseBytes(storage.shape));
    this.refsAt = new Uint32Array(views);
    this.capacity = new Uint32Array(views);
    this.refs = new Uint32Array(views);
    this.entries = new Uint32Array(views);
    this.at = new Uint32Array(views);
    this.prepared = new Uint32Array(views);
    this.packWait = new Uint8Array(views);
    this.next = new Int32Array(slots);
    this.pending = new Uint32Array(slots);
    this.appended = new Float64Array(slots);
    this.promisedTo = new Float64Array(slots);
    this.lastRows = new Uint32Array(slots);
    this.nextBefore = new Int32Array(slots);
    this.filled = new Uint8Array(slots);
    this.ready = new Uint8Array(slots);
  }

  /** Bytes of an empty sequence: the arrays above. */
  static baseBytes(shape: CacheShape): number {
    return shape.slots * shape.kvHeads * 25 + shape.slots * 34;
  }

  viewOf(slot: number, head: number): number {
    const { slots, kvHeads } = this.storage.shape;
    if (!(Number.isInteger(slot) && slot >= 0 && slot < slots)) throw outOfRange('slot', slot, slots);
    if (!(Number.isInteger(head) && head >= 0 && head < kvHeads)) throw outOfRange('head', head, kvHeads);
    return slot * kvHeads + head;
  }

  /** Address of a view's i-th record. */
  ref(view: number, i: number): number {
    return this.refsAt[view]! + i * REF_BYTES;
  }

  pageAt(view: number, i: number): number {
    return this.storage.memory.u32[(this.ref(view, i) + REF_PAGE) >>> 2]!;
  }

  /** Refuses a verb that would meet rows that are prepared and not committed. */
  checkAtRest(verb: string): void {
    this.checkAlive();
    if (this.pendingSlots > 0) {
      throw new KvasirError('invalid_request', `${verb}: rows are prepared and neither committed nor rolled back.`, {
        field: 'sequence',
        allowed: 'commit or rollback first',
      });
    }
  }

  checkAlive(): void {
    if (this.freed) throw new KvasirError('disposed', 'The cache sequence has been freed.', { field: 'sequence' });
  }

  /** Something other than an append changed the views. */
  changed(): void {
    this.version++;
    this.edits++;
    this.ready.fill(0);
    this.lastRows.fill(0);
    this.filled.fill(0);
  }

  /** Room for `records` in a view's list, in an allocation not yet in use; null where there is room already. */
  stageGrowth(view: number, records: number, fromPromise: boolean): Growth | null {
    const capacity = this.capacity[view]!;
    if (records <= capacity) return null;
    const grown = Math.max(2, capacity * 2, records + (records & 1));
    const bytes = blockBytes(grown * REF_BYTES);
    this.account.charge(bytes, 'references', records, fromPromise);
    try {
      return { view, address: this.storage.memory.alloc(bytes), capacity: grown };
    } catch (error) {
      this.account.refund(bytes);
      throw error;
    }
  }

  static growthBytes(growth: Growth): number {
    return blockBytes(growth.capacity * REF_BYTES);
  }

  dropGrowth(growth: Growth): void {
    const bytes = Content.growthBytes(growth);
    this.storage.memory.free(growth.address, bytes);
    this.account.refund(bytes);
  }

  applyGrowth(growth: Growth): void {
    const { view } = growth;
    const { u8 } = this.storage.memory;
    const from = this.refsAt[view]!;
    if (this.capacity[view]! > 0) {
      u8.copyWithin(growth.address, from, from + this.refs[view]! * REF_BYTES);
      this.releaseList(view);
    }
    this.refsAt[view] = growth.address;
    this.capacity[view] = growth.capacity;
    this.#countList(view, blockBytes(growth.capacity * REF_BYTES));
  }

  /** Frees a view's list; its records hold no references any more. */
  releaseList(view: number): void {
    const bytes = blockBytes(this.capacity[view]! * REF_BYTES);
    if (bytes === 0) return;
    this.storage.memory.free(this.refsAt[view]!, bytes);
    this.account.refund(bytes);
    this.#countList(view, -bytes);
    this.refsAt[view] = 0;
    this.capacity[view] = 0;
  }

  /** Makes `list` the content of a view that has room for it. Pages that lose their last reference are freed. */
  replace(view: number, list: RefList): void {
    const { pages, memory } = this.storage;
    for (let i = 0; i < list.count; i++) pages.retain(list.words[(i * REF_BYTES + REF_PAGE) >>> 2]!);
    for (let i = 0; i < this.refs[view]!; i++) pages.release(this.pageAt(view, i));
    memory.u32.set(list.words.subarray(0, (list.count * REF_BYTES) >>> 2), this.refsAt[view]! >>> 2);
    this.refs[view] = list.count;
    this.entries[view] = list.entries;
  }

  /** Gives everything back; nothing is pending. */
  free(): void {
    const { pages, shape } = this.storage;
    for (let view = 0; view < this.refs.length; view++) {
      for (let i = 0; i < this.refs[view]!; i++) pages.release(this.pageAt(view, i));
      this.refs[view] = 0;
      this.entries[view] = 0;
      this.releaseList(view);
    }
    for (const parked of this.parked.values()) parked.release();
    this.parked.clear();
    for (const copies of this.hot.values()) copies.clear();
    this.hot.clear();
    this.recent.clear();
    this.states.clear();
    this.sharedKeys.clear();
    this.account.setPromise(0);
    this.account.refund(Content.baseBytes(shape) + this.stateBytes);
    this.stateBytes = 0;
    this.changed();
    this.freed = true;
  }

  /** Positions of a view's live rows, shift included, from `from` on in `out`; returns how many. */
  readPositions(view: number, out: Int32Array): number {
    const ref = this.scratch;
    let n = 0;
    for (let i = 0; i < this.refs[view]!; i++) {
      ref.load(this.storage.memory, this.ref(view, i));
      for (let row = ref.first; row < ref.end; row++) {
        if ((row < 32 ? ref.lo >>> row : ref.hi >>> (row - 32)) & 1)
          out[n++] = this.storedPosition(ref, row) + ref.shift;
      }
    }
    return n;
  }

  storedPosition(ref: Ref, row: number): number {
    const { i32, u16 } = this.storage.memory;
    return i32[(ref.positions + POSITIONS_BASE) >>> 2]! + u16[((ref.positions + POSITIONS_DELTA) >>> 1) + row]!;
  }

  /** How many references to `page` end the lists of the group's views. */
  trailingRefs(group: Group, page: number): number {
    let count = 0;
    for (const view of group.views) {
      for (let i = this.refs[view]! - 1; i >= 0 && this.pageAt(view, i) === page; i--) count++;
    }
    return count;
  }

  /** For loops that need one record at a time; never held across calls. */
  readonly scratch = new Ref();

  #countList(view: number, bytes: number): void {
    this.storage.ledger.bySlot[Math.floor(view / this.storage.shape.kvHeads)]! += bytes;
  }
}

/** A longer list for a view, allocated and not yet in use. */
export interface Growth {
  readonly view: number;
  readonly address: number;
  readonly capacity: number;
}

function outOfRange(field: string, value: number, limit: number): KvasirError {
  return new KvasirError('invalid_request', `There is no ${field} ${value}.`, {
    field,
    value,
    allowed: `an integer from 0 to ${limit - 1}`,
  });
}
