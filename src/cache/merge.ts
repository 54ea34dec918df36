import {
  APPEND_BYTES,
  APPEND_CELL,
  APPEND_FIRST,
  APPEND_K,
  APPEND_LAYOUT,
  APPEND_LAYOUTS,
  APPEND_ROWS,
  APPEND_STRIDE,
  APPEND_TURN,
  APPEND_V,
  KIND_APPEND,
} from '../../kernels/abi.ts';
import { notePeak } from './account.ts';
import type { Content } from './content.ts';
import { dropEntries } from './drop.ts';
import { readEntries } from './entry-rows.ts';
import { prepareKeep } from './keep.ts';
import { checkMerge, type MergeJob } from './merge-plan.ts';
import { PageCopies } from './own-pages.ts';
import { PlanGuard } from './plan-guard.ts';
import { Ref } from './ref-list.ts';
import type { KeepItem, MergeItem, PreparedPlan } from './types.ts';

/** Rows written in one run of the kernels. */
const BATCH = 64;
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
    for (const { item, view, where } of jobs) {
      const group = c.spans.groups[c.spans.groupOfView[view]!]!;
      for (const target of item.targets) copies.add(group, c.pageAt(view, where.record[target]!));
    }
    return new Merge(c, merged, copies, workBytes(c));
  } catch (error) {
    copies.discard();
    throw error;
  }
}

/** Weighted sums of the members' rows, in float64. */
function mergeRows(c: Content, job: MergeJob): Merged {
  const { headDim } = c.storage.shape;
  const { members, starts, targets, weightsK, weightsV, key } = job.item;
  const rows = readEntries(c, job.view, job.where, members);
  const k = new Float32Array(targets.length * headDim);
  const v = new Float32Array(targets.length * headDim);
  const sumK = new Float64Array(headDim);
  const sumV = new Float64Array(headDim);
  for (let g = 0; g < targets.length; g++) {
    sumK.fill(0);
    sumV.fill(0);
    let weights = 0;
    let norms = 0;
    for (let m = starts[g]!; m < starts[g + 1]!; m++) {
      const wk = weightsK[m]!;
      const wv = weightsV[m]!;
      const at = m * headDim;
      let factor = wk;
      if (key === 'direction') {
        const size = norm(rows.k, at, headDim);
        factor = size > 0 ? wk / size : 0;
        weights += wk;
        norms += wk * size;
      }
      for (let i = 0; i < headDim; i++) {
        sumK[i]! += factor * rows.k[at + i]!;
        sumV[i]! += wv * rows.v[at + i]!;
      }
    }
    if (key === 'direction') {
      const size = norm(sumK, 0, headDim);
      const factor = size > 0 ? norms / weights / size : 0;
      for (let i = 0; i < headDim; i++) sumK[i]! *= factor;
    }
    k.set(sumK, g * headDim);
    v.set(sumV, g * headDim);
  }
  return { job, k, v };
}

function norm(values: ArrayLike<number>, from: number, count: number): number {
  let sum = 0;
  for (let i = from; i < from + count; i++) sum += values[i]! * values[i]!;
  return Math.sqrt(sum);
}

/** Room for a batch: records, K and V rows, and a rotary table that turns nothing. */
function workBytes(c: Content): number {
  const { headDim, rotary } = c.storage.shape;
  return BATCH * (APPEND_BYTES + 2 * headDim * 4) + rotary * 4;
}

class Merge implements PreparedPlan {
  readonly #content: Content;
  readonly #merged: readonly Merged[];
  readonly #copies: PageCopies;
  readonly #work: number;
  readonly #guard: PlanGuard;

  /** Raises `memory_limit` where there is no work space. */
  constructor(content: Content, merged: readonly Merged[], copies: PageCopies, bytes: number) {
    this.#content = content;
    this.#merged = merged;
    this.#copies = copies;
    this.#guard = new PlanGuard(content);
    this.#work = content.storage.memory.alloc(bytes);
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
    for (const merged of this.#merged) writeRows(c, merged, this.#work);
    c.storage.memory.free(this.#work, workBytes(c));
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
    this.#content.storage.memory.free(this.#work, workBytes(this.#content));
  }
}

const ref = new Ref();

/** Writes the targets' rows where they stand: keys as they are, in batches. */
function writeRows(c: Content, { job, k, v }: Merged, work: number): void {
  const { memory, kernels, layouts, shape } = c.storage;
  const { headDim, rotary } = shape;
  const { u32, f32 } = memory;
  const { item, view, where } = job;
  const rowsK = work + BATCH * APPEND_BYTES;
  const rowsV = rowsK + BATCH * headDim * 4;
  const still = rowsV + BATCH * headDim * 4;
  f32.fill(1, still / 4, still / 4 + rotary / 2);
  f32.fill(0, still / 4 + rotary / 2, still / 4 + rotary);
  for (let from = 0; from < item.targets.length; from += BATCH) {
    const count = Math.min(BATCH, item.targets.length - from);
    f32.set(k.subarray(from * headDim, (from + count) * headDim), rowsK / 4);
    f32.set(v.subarray(from * headDim, (from + count) * headDim), rowsV / 4);
    for (let n = 0; n < count; n++) {
      const target = item.targets[from + n]!;
      ref.load(memory, c.ref(view, where.record[target]!));
      const at = (work + n * APPEND_BYTES) >>> 2;
      u32[at + APPEND_K / 4] = rowsK + n * headDim * 4;
      u32[at + APPEND_V / 4] = rowsV + n * headDim * 4;
      u32[at + APPEND_STRIDE / 4] = headDim;
      u32[at + APPEND_ROWS / 4] = 1;
      u32[at + APPEND_CELL / 4] = ref.cell;
      u32[at + APPEND_LAYOUT / 4] = ref.layout;
      u32[at + APPEND_FIRST / 4] = where.row[target]!;
      u32[at + APPEND_TURN / 4] = still;
      u32[at + APPEND_LAYOUTS / 4] = layouts.address;
    }
    kernels.run(KIND_APPEND, work, count);
    for (let n = 0; n < count; n++) {
      const target = item.targets[from + n]!;
      ref.load(memory, c.ref(view, where.record[target]!));
      const column = layouts.get(ref.layout).columns.get('bias');
      if (column !== undefined) f32[((ref.cell + column) >>> 2) + where.row[target]!] = item.bias?.[from + n] ?? 0;
    }
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
