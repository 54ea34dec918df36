import { notePeak } from './account.ts';
import type { Rows } from './blend.ts';
import type { Content } from './content.ts';
import { readEntries } from './entry-rows.ts';
import { checkMap, type MapJob } from './map-plan.ts';
import { PageCopies } from './own-pages.ts';
import { PlanGuard } from './plan-guard.ts';
import { mapRows } from './row-maps.ts';
import { RowWriter } from './row-write.ts';
import type { MapItem, PreparedPlan } from './types.ts';

/** See CacheSequence.prepareMap. */
export function prepareMap(c: Content, items: readonly MapItem[]): PreparedPlan {
  const { headDim, rotary } = c.storage.shape;
  const jobs = checkMap(c, items);
  const rows = jobs.map(job => mapRows(readSources(c, job), job.item, headDim, rotary));
  const copies = new PageCopies(c);
  try {
    for (const { item, view, where } of jobs)
      for (const target of item.targets) copies.add(c.pageAt(view, where.record[target]!));
    return new RowsPlan(c, jobs, rows, copies);
  } catch (error) {
    copies.discard();
    throw error;
  }
}

/** f32 [targets][sources][headDim] */
function readSources(c: Content, { item, sources }: MapJob): Rows {
  const { headDim } = c.storage.shape;
  const count = item.targets.length;
  const k = new Float32Array(count * sources.length * headDim);
  const v = new Float32Array(k.length);
  for (const [s, { view, where, entries }] of sources.entries()) {
    const rows = readEntries(c, view, where, entries);
    for (let t = 0; t < count; t++) {
      const to = (t * sources.length + s) * headDim;
      k.set(rows.k.subarray(t * headDim, (t + 1) * headDim), to);
      v.set(rows.v.subarray(t * headDim, (t + 1) * headDim), to);
    }
  }
  return { k, v };
}

class RowsPlan implements PreparedPlan {
  readonly #content: Content;
  readonly #jobs: readonly MapJob[];
  readonly #rows: readonly Rows[];
  readonly #copies: PageCopies;
  readonly #writer: RowWriter;
  readonly #guard: PlanGuard;

  /** Raises `memory_limit` where there is no work space. */
  constructor(content: Content, jobs: readonly MapJob[], rows: readonly Rows[], copies: PageCopies) {
    this.#content = content;
    this.#jobs = jobs;
    this.#rows = rows;
    this.#copies = copies;
    this.#guard = new PlanGuard(content);
    this.#writer = new RowWriter(content);
  }

  apply(): void {
    this.#guard.begin(() => this.discard());
    const c = this.#content;
    if (this.#copies.bytes > 0) notePeak(c, this.#copies.bytes);
    this.#copies.apply();
    for (const [n, { item, view, where }] of this.#jobs.entries())
      this.#writer.write(view, where, item.targets, this.#rows[n]!.k, this.#rows[n]!.v);
    this.#writer.free();
    c.version++;
    c.edits++;
    c.lastRows.fill(0);
  }

  discard(): void {
    if (!this.#guard.end()) return;
    this.#copies.discard();
    this.#writer.free();
  }
}
