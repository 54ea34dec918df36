import { notePeak } from './account.ts';
import { Content, type Growth } from './content.ts';
import { PlanGuard } from './plan-guard.ts';
import { renewPromise } from './promise.ts';
import type { RefList } from './ref-list.ts';
import type { PreparedPlan } from './types.ts';

/** New lists of references for some views, with the room that they need: what a plan that replaces entries comes down to. */
export class Replacement implements PreparedPlan {
  readonly #content: Content;
  readonly #guard: PlanGuard;
  readonly #lists: readonly { readonly view: number; readonly list: RefList }[];
  readonly #growths: readonly Growth[];
  /** Bytes that the plan has taken so far, beside the lists. */
  readonly #extra: number;
  /** Gives back what the lists would refer to. */
  readonly #drop: () => void;

  /**
   * Raises `kv_cache_full` or `memory_limit` where the lists do not fit; `drop` is then left to the caller.
   * @param extra bytes taken for what the lists refer to
   */
  constructor(
    content: Content,
    lists: readonly { readonly view: number; readonly list: RefList }[],
    extra: number,
    drop: () => void,
  ) {
    this.#content = content;
    this.#guard = new PlanGuard(content);
    this.#lists = lists;
    this.#extra = extra;
    this.#drop = drop;
    const growths: Growth[] = [];
    this.#growths = growths;
    try {
      for (const { view, list } of lists) {
        const growth = content.stageGrowth(view, list.count, true);
        if (growth) growths.push(growth);
      }
    } catch (error) {
      for (const growth of growths) content.dropGrowth(growth);
      throw error;
    }
  }

  apply(): void {
    const c = this.#content;
    this.#guard.begin(() => this.discard());
    notePeak(c, this.#extra + this.#growths.reduce((sum, growth) => sum + Content.growthBytes(growth), 0));
    for (const growth of this.#growths) c.applyGrowth(growth);
    for (const { view, list } of this.#lists) c.replace(view, list);
    c.changed();
    renewPromise(c);
  }

  discard(): void {
    if (!this.#guard.end()) return;
    for (const growth of this.#growths) this.#content.dropGrowth(growth);
    this.#drop();
    if (!this.#content.freed) renewPromise(this.#content);
  }
}
