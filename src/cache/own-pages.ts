import type { Content } from './content.ts';
import { redirect } from './page-copy.ts';

/**
 * Copies of pages that a sequence is about to write and that others refer to: made first, put in their places by `apply`,
 * which cannot fail.
 */
export class PageCopies {
  readonly #content: Content;
  readonly #copies = new Map<number, number>();
  /** References that the sequence has to each of its pages; counted where one is asked about. */
  #own: Map<number, number> | null = null;

  constructor(content: Content) {
    this.#content = content;
  }

  /** Bytes taken for the copies. */
  get bytes(): number {
    let bytes = 0;
    for (const page of this.#copies.values()) bytes += this.#content.storage.pages.bytes[page]!;
    return bytes;
  }

  /** Copies `page` where other sequences refer to it. Raises `kv_cache_full` or `memory_limit`; discard then. */
  add(page: number): void {
    const { pages } = this.#content.storage;
    if (pages.refs[page] === 1 || this.#copies.has(page)) return;
    this.#own ??= countOwn(this.#content);
    if (this.#own.get(page) === pages.refs[page]) return;
    this.#copies.set(page, pages.copy(page, this.#content.account));
  }

  /** Points all records of the sequence to the copies. Changes nothing where there are none. */
  apply(): void {
    const c = this.#content;
    if (this.#copies.size === 0) return;
    for (let view = 0; view < c.refs.length; view++) {
      for (let i = 0; i < c.refs[view]!; i++) {
        const copy = this.#copies.get(c.pageAt(view, i));
        if (copy !== undefined) redirect(c, view, i, copy);
      }
    }
    this.#copies.clear();
    c.version++;
    c.ready.fill(0);
  }

  discard(): void {
    for (const page of this.#copies.values()) this.#content.storage.pages.destroy(page);
    this.#copies.clear();
  }
}

function countOwn(c: Content): Map<number, number> {
  const own = new Map<number, number>();
  for (let view = 0; view < c.refs.length; view++) {
    for (let i = 0; i < c.refs[view]!; i++) own.set(c.pageAt(view, i), (own.get(c.pageAt(view, i)) ?? 0) + 1);
  }
  return own;
}
