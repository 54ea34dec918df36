import { notePeak } from './account.ts';
import { blendRows } from './blend.ts';
import type { Content } from './content.ts';
import { dropEntries } from './drop.ts';
import { readEntries } from './entry-rows.ts';
import { prepareKeep } from './keep.ts';
import { checkMerge, type MergeJob } from './merge-plan.ts';
import { PageCopies } from './own-pages.ts';
import { PlanGuard } from './plan-guard.ts';
import { biasAt, RowWriter } from './row-write.ts';
import type { KeepItem, MergeItem, PreparedPlan } from './types.ts';

/** So many entries are dropped one by one; more are dropped as a plan, and pages packed at once. */
const FEW = 8;

/** What the targets of one view become. */
interface Merged {
  readonly job: MergeJob;
  /** f32 [groups, headDim] */
  readonly k: Float32Array;
  readonly v: Float32Array;
}

/** See CacheSequence.prepareMerge. */
export function prepareMerge(c: Content, items: readonly MergeItem[]): PreparedPlan {
  const jobs = checkMerge(c, items);
  const merged = jobs.map(job => mergeRows(c, job));
  const copies = new PageCopies(c);
  try {
    for (const { item, view, where } of jobs)
      for (const target of item.targets) copies.add(c.pageAt(view, where.record[target]!));
    return new Merge(c, merged, copies);
  } catch (error) {
    copies.discard();
    throw error;
  }
}

function mergeRows(c: Content, job: MergeJob): Merged {
  return {
    job,
    ...blendRows(readEntries(c, job.view, job.where, job.item.members), job.item, c.storage.shape.headDim),
  };
}

class Merge implements PreparedPlan {
  readonly #content: Content;
  readonly #merged: readonly Merged[];
  readonly #copies: PageCopies;
  readonly #writer: RowWriter;
  readonly #guard: PlanGuard;

  /** Raises `memory_limit` where there is no work space. */
  constructor(content: Content, merged: readonly Merged[], copies: PageCopies) {
    this.#content = content;
    this.#merged = merged;
    this.#copies = copies;
    this.#guard = new PlanGuard(content);
    this.#writer = new RowWriter(content);
  }

  apply(): void {
    this.#guard.begin(() => this.discard());
    const c = this.#content;
    const jobs = this.#merged.map(({ job }) => job);
    let dropped = 0;
    for (const { item } of jobs) dropped += item.members.length - item.targets.length;
    const { bytes } = this.#copies;
    if (bytes > 0 || dropped > FEW) notePeak(c, bytes);
    this.#copies.apply();
    for (const { job, k, v } of this.#merged) {
      this.#writer.write(job.view, job.where, job.item.targets, k, v);
      writeBias(c, job);
    }
    this.#writer.free();
    if (dropped > FEW) {
      prepareKeep(c, jobs.map(keepItem)).apply();
      return;
    }
    for (const job of jobs) dropMembers(c, job);
    c.version++;
    c.lastRows.fill(0);
  }

  discard(): void {
    if (!this.#guard.end()) return;
    this.#copies.discard();
    this.#writer.free();
  }
}

function writeBias(c: Content, { item, view, where }: MergeJob): void {
  const { f32 } = c.storage.memory;
  for (const [n, target] of item.targets.entries()) {
    const at = biasAt(c, view, where, target);
    if (at >= 0) f32[at] = item.bias?.[n] ?? 0;
  }
}

/** Takes the members that are not targets out one by one, so that a step of decoding leaves the pages as they are. */
function dropMembers(c: Content, { item, view }: MergeJob): void {
  const targets = new Set(item.targets);
  const gone = [...item.members].filter(member => !targets.has(member)).sort((a, b) => b - a);
  for (const member of gone) dropEntries(c, view, member, 1);
}

/** Everything but the members that are not targets. */
function keepItem({ item, where }: MergeJob): KeepItem {
  const stays = new Uint8Array(where.row.length).fill(1);
  for (const member of item.members) stays[member] = 0;
  for (const target of item.targets) stays[target] = 1;
  const ranges: number[] = [];
  for (let entry = 0; entry < stays.length; entry++) {
    if (!stays[entry]) continue;
    if (ranges.length > 0 && ranges.at(-1) === entry) ranges[ranges.length - 1] = entry + 1;
    else ranges.push(entry, entry + 1);
  }
  return { slot: item.slot, head: item.head, ranges: Uint32Array.from(ranges) };
}
