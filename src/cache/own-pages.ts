import type { Content } from './content.ts';
import { redirect } from './page-copy.ts';
import type { Group } from './spans.ts';

/**
 * Copies of pages that a sequence is about to write and that others refer to: made room for first, put in their places by
 * `apply`, which cannot fail. Exact pages only.
 */
export class PageCopies {
  readonly #content: Content;
  readonly #copies = new Map<number, { readonly group: Group; readonly page: number }>();

  constructor(content: Content) {
    this.#content = content;
  }

  /** Bytes taken for the copies. */
  get bytes(): number {
    let bytes = 0;
    for (const { page } of this.#copies.values()) bytes += this.#content.storage.pages.bytes[page]!;
    return bytes;
  }

  /** Makes room for a copy of `page` where references other than the group's exist. Raises `kv_cache_full` or `memory_limit`. */
  add(group: Group, page: number): void {
    const c = this.#content;
    const { pages, blocks, layouts } = c.storage;
    if (this.#copies.has(page) || pages.refs[page] === ownRefs(c, group, page)) return;
    const layout = layouts.get(pages.layout[page]!);
    blocks.retain(pages.positions[page]!);
    const shape = { ...group, layout, pageBytes: pages.bytes[page]! };
    this.#copies.set(page, { group, page: pages.create(shape, pages.positions[page]!, c.account, false) });
  }

  apply(): void {
    const c = this.#content;
    const { pages, memory } = c.storage;
    for (const [from, { group, page }] of this.#copies) {
      const source = pages.address[from]!;
      memory.u8.copyWithin(pages.address[page]!, source, source + pages.bytes[from]!);
      pages.limit[page] = pages.limit[from]!;
      const units = pages.fetched.get(from);
      if (units) pages.fetched.set(page, units.slice());
      for (const view of group.views) {
        for (let i = 0; i < c.refs[view]!; i++) if (c.pageAt(view, i) === from) redirect(c, view, i, page);
      }
    }
    this.#copies.clear();
  }

  discard(): void {
    for (const { page } of this.#copies.values()) this.#content.storage.pages.destroy(page);
    this.#copies.clear();
  }
}

/** References that the group's views have to a page. */
function ownRefs(c: Content, group: Group, page: number): number {
  let own = 0;
  for (const view of group.views) {
    for (let i = 0; i < c.refs[view]!; i++) if (c.pageAt(view, i) === page) own++;
  }
  return own;
}
