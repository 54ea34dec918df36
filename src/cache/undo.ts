import { REF_BYTES, REF_PAGE } from '../../kernels/abi.ts';
import type { Content } from './content.ts';
import type { ParkedView } from './parked.ts';
import type { SharedEntry } from './shared-blocks.ts';

/** What a page was before it was written: bytes from an address on, or its positions block (a reference is held). */
type Before =
  | { readonly address: number; readonly bytes: Uint8Array }
  | { readonly page: number; readonly block: number };

/**
 * Takes back plans that have been applied, where one after them cannot be prepared. While it is open the content's verbs tell
 * it what they are about to write in place, and pages that lose their last reference stay where they are. So a rollback needs
 * no room and cannot fail: lists of references never shrink, and every page of the old ones is still there.
 * What it copies lies in ordinary memory, outside the arena, until it is closed. Appends and states are not its business.
 */
export class Undo {
  readonly #content: Content;
  readonly #lists: readonly Uint32Array[];
  readonly #arrays: readonly (readonly [
    of: Uint32Array | Int32Array | Uint8Array,
    before: Uint32Array | Int32Array | Uint8Array,
  ])[];
  readonly #shared: ReadonlyMap<string, SharedEntry>;
  /** A reference is held on each. */
  readonly #parked: ReadonlyMap<number, ParkedView>;
  readonly #promised: number;
  readonly #log: Before[] = [];
  #open = true;

  constructor(c: Content) {
    this.#content = c;
    const { u32 } = c.storage.memory;
    this.#lists = Array.from(c.refs, (count, view) => {
      const at = c.refsAt[view]! >>> 2;
      return u32.slice(at, at + (count * REF_BYTES) / 4);
    });
    const arrays = [c.refs, c.entries, c.at, c.packWait, c.next, c.lastRows, c.nextBefore, c.ready, c.filled];
    this.#arrays = arrays.map(of => [of, of.slice()]);
    this.#shared = new Map(c.sharedKeys);
    this.#parked = new Map(c.parked);
    for (const parked of this.#parked.values()) parked.retain();
    this.#promised = c.account.promised;
    c.storage.pages.limbo = new Set();
    c.undo = this;
  }

  /** To be called before `count` bytes of a page are written in place. */
  bytes(address: number, count: number): void {
    this.#log.push({ address, bytes: this.#content.storage.memory.u8.slice(address, address + count) });
  }

  page(page: number): void {
    const { pages } = this.#content.storage;
    this.bytes(pages.address[page]!, pages.bytes[page]!);
  }

  /** To be called before a page gets other positions. */
  positions(page: number): void {
    const { pages, blocks } = this.#content.storage;
    const block = pages.positions[page]!;
    blocks.retain(block);
    this.#log.push({ page, block });
  }

  /** What has been applied stays. Nothing where it is closed already. */
  commit(): void {
    if (!this.#open) return;
    for (const before of this.#log) if ('block' in before) this.#content.storage.blocks.release(before.block);
    for (const parked of this.#parked.values()) parked.release();
    this.#close();
  }

  /** The sequence is as it was when this was made. Nothing where it is closed already. */
  rollback(): void {
    if (!this.#open) return;
    const c = this.#content;
    const { pages, memory } = c.storage;
    for (const before of this.#log.reverse()) {
      if ('block' in before) pages.setPositions(before.page, before.block);
      else memory.u8.set(before.bytes, before.address);
    }
    for (const [view, list] of this.#lists.entries()) {
      for (let at = REF_PAGE / 4; at < list.length; at += REF_BYTES / 4) pages.retain(list[at]!);
      for (let i = 0; i < c.refs[view]!; i++) pages.release(c.pageAt(view, i));
      memory.u32.set(list, c.refsAt[view]! >>> 2);
    }
    this.#restoreParked();
    c.changed();
    for (const [of, before] of this.#arrays) of.set(before);
    c.sharedKeys.clear();
    for (const [key, entry] of this.#shared) if (entry.refs > 0) c.sharedKeys.set(key, entry);
    this.#close();
    c.account.restorePromise(this.#promised);
  }

  #restoreParked(): void {
    const c = this.#content;
    for (const [view, parked] of c.parked) {
      const before = this.#parked.get(view);
      parked.release();
      if (before === parked) continue;
      // Copies of units that are gone; they are for speed only.
      c.hot.get(view)?.clear();
      if (before) continue;
      c.hot.delete(view);
      c.parked.delete(view);
    }
    for (const [view, parked] of this.#parked) c.parked.set(view, parked);
  }

  #close(): void {
    const c = this.#content;
    this.#open = false;
    c.undo = null;
    c.storage.pages.endLimbo();
  }
}
