import type { Content } from './content.ts';
import { type Cut, cutView } from './cut.ts';
import { checkItems, type EncodeJob, Holds } from './encode-plan.ts';
import { encodeTargets } from './encode-run.ts';
import {
  RUN_CELL,
  RUN_FIRST,
  RUN_LAYOUT,
  RUN_ROWS,
  RUN_TO,
  RUN_WORDS,
  type Target,
  Targets,
} from './encode-targets.ts';
import type { PageShape } from './pages.ts';
import { Replacement } from './prepared.ts';
import { Ref, RefList } from './ref-list.ts';
import { pruneShared } from './shared-blocks.ts';
import type { EncodeItem, PreparedPlan } from './types.ts';

const ref = new Ref();

/** See CacheSequence.prepareEncode. The new pages are whole when this returns; only the lists are still the old ones. */
export function prepareEncode(c: Content, items: readonly EncodeItem[]): PreparedPlan {
  pruneShared(c);
  const { account } = c;
  const promised = account.promised;
  const before = account.ledger.held;
  const holds = new Holds(c);
  const targets = new Targets(c, holds);
  const drop = () => {
    targets.discard();
    for (const { page } of targets.list) if (page >= 0) c.storage.pages.destroy(page);
  };
  try {
    const cuts = new Map<number, Cut[]>();
    for (const [view, jobs] of checkItems(c, items, holds)) cuts.set(view, cutsOf(c, view, jobs, targets));
    let needed = 0;
    for (const { layout } of targets.list) needed += layout.cellBytes;
    account.require(needed, 'plan', items.length, true);
    for (const target of targets.list) makePage(c, target, targets.runs);
    encodeTargets(c, targets);
    const lists = [...cuts].map(([view, cuts]) => {
      const list = new RefList();
      cutView(c, view, cuts, list);
      return { view, list };
    });
    return new Replacement(c, lists, account.ledger.held - before, drop);
  } catch (error) {
    drop();
    account.setPromise(promised);
    throw error;
  } finally {
    // The pages hold what they need.
    holds.release();
  }
}

/** The target's page, with all but the encoded planes: parameter blocks, planes that are copied, columns. */
function makePage(c: Content, target: Target, runs: readonly number[]): void {
  const { pages } = c.storage;
  const { layout, job, block } = target;
  const shape: PageShape = { layout, pageBytes: layout.cellBytes, slot: job.slot, slots: 1 };
  target.block = -1;
  const page = pages.create(shape, block, c.account, true);
  target.page = page;
  const cell = pages.address[page]!;
  if (job.sharedK) pages.setShared(page, cell, 'k', job.sharedK);
  if (job.sharedV) pages.setShared(page, cell, 'v', job.sharedV);
  if (target.copied !== 0) copyPlane(c, target, runs[target.runs * RUN_WORDS + RUN_LAYOUT]!);
  if (layout.columns.size > 0) moveColumns(c, target, runs);
}

function copyPlane(c: Content, { page, layout, job, copied }: Target, source: number): void {
  const { pages, layouts, memory } = c.storage;
  const cell = pages.address[page]!;
  const plane = job.k === undefined ? 'k' : 'v';
  const from = layouts.get(source);
  for (const [n, [at, bytes]] of from.extents[plane].entries()) {
    memory.u8.copyWithin(cell + layout.extents[plane][n]![0], copied + at, copied + at + bytes);
  }
  const shared = pages.sharedOf(copied, from, plane);
  if (shared) pages.setShared(page, cell, plane, shared);
}

function moveColumns(c: Content, { page, layout, runs: first, runsEnd }: Target, runs: readonly number[]): void {
  const { pages, layouts, memory } = c.storage;
  const { f32 } = memory;
  for (const [name, offset] of layout.columns) {
    const to = (pages.address[page]! + offset) >>> 2;
    for (let run = first * RUN_WORDS; run < runsEnd * RUN_WORDS; run += RUN_WORDS) {
      const column = layouts.get(runs[run + RUN_LAYOUT]!).columns.get(name);
      if (column === undefined) continue;
      const from = ((runs[run + RUN_CELL]! + column) >>> 2) + runs[run + RUN_FIRST]!;
      f32.copyWithin(to + runs[run + RUN_TO]!, from, from + runs[run + RUN_ROWS]!);
    }
  }
}

/** What leaves a view and what comes in its place. Makes the targets. */
function cutsOf(c: Content, view: number, jobs: readonly EncodeJob[], targets: Targets): Cut[] {
  const cuts: Cut[] = [];
  const classes: Target[] = [];
  let first = Number.POSITIVE_INFINITY;
  for (const job of jobs) {
    const made = targets.add(job);
    const { ranges } = job;
    if (!job.single) {
      cuts.push({ from: ranges[0]!, to: ranges[1]!, insert: list => show(c, made, list) });
      continue;
    }
    classes.push(...made);
    first = Math.min(first, ranges[0]!);
    for (let i = 0; i < ranges.length; i += 2) cuts.push({ from: ranges[i]!, to: ranges[i + 1]! });
  }
  if (classes.length > 0) {
    const from = recordOf(c, view, first);
    cuts.push({ from, to: from, insert: list => show(c, classes, list) });
  }
  return cuts.sort((a, b) => a.from - b.from || a.to - b.to);
}

/** Adds the records that show new pages. */
function show(c: Content, made: readonly Target[], list: RefList): void {
  const { pages, blocks } = c.storage;
  for (const { page, layout, seen } of made) {
    const cell = pages.address[page]!;
    const block = pages.positions[page]!;
    const contiguous = blocks.contiguous[block]!;
    for (const { shift, lo, hi } of seen) {
      list.push(cell, blocks.address[block]!, contiguous, layout.id, shift, page, lo, hi);
    }
  }
}

/** The first entry of the record that holds an entry. */
function recordOf(c: Content, view: number, entry: number): number {
  let start = 0;
  for (let i = 0; i < c.refs[view]!; i++) {
    const { live } = ref.load(c.storage.memory, c.ref(view, i));
    if (entry < start + live) return start;
    start += live;
  }
  return start;
}
