import { PAGE_TOKENS } from '../../kernels/abi.ts';
import { hasRow, highestRow, lowestRow, rangeHi, rangeLo } from './bits.ts';
import type { Content } from './content.ts';
import { rowOfEntry } from './cut.ts';
import { badItem, type EncodeJob, type Holds } from './encode-plan.ts';
import { isExact } from './format.ts';
import type { CellLayout } from './layout.ts';
import { PositionTable } from './positions.ts';
import { Ref } from './ref-list.ts';

/** A page to be: which rows it gets and how it is seen. */
export interface Target {
  readonly job: EncodeJob;
  readonly layout: CellLayout;
  /** Rows encoded, from row 0 on. */
  readonly rows: number;
  /** Positions block, a reference held on it; -1 once the page has it. */
  block: number;
  /** The new page; -1: not made yet. */
  page: number;
  /** Its runs in Targets.runs: numbers of the first and of the one after the last. */
  readonly runs: number;
  readonly runsEnd: number;
  /** How it is seen: one record for each shift. */
  readonly seen: readonly { readonly shift: number; readonly lo: number; readonly hi: number }[];
  /** Cell whose planes without a new format are copied; 0: both planes are encoded. */
  readonly copied: number;
}

/** Words of a run: cell, layout, first row there, rows, first row of the target. */
export const RUN_CELL = 0;
export const RUN_LAYOUT = 1;
export const RUN_FIRST = 2;
export const RUN_ROWS = 3;
export const RUN_TO = 4;
export const RUN_WORDS = 5;

const ref = new Ref();

/** The pages that a plan makes, job by job in order of their entries, and the runs of rows that they are made of. */
export class Targets {
  readonly list: Target[] = [];
  readonly runs: number[] = [];
  readonly #content: Content;
  readonly #holds: Holds;
  readonly #layouts = new Map<string, CellLayout>();
  readonly #positions = new Int32Array(PAGE_TOKENS);

  constructor(content: Content, holds: Holds) {
    this.#content = content;
    this.#holds = holds;
  }

  /** Adds a job's pages; returns them. Raises `invalid_request`, `kv_cache_full` or `memory_limit`. */
  add(job: EncodeJob): Target[] {
    const from = this.list.length;
    if (job.k === undefined || job.v === undefined) this.#addWhole(job);
    else this.#addPacked(job);
    return this.list.slice(from);
  }

  /** Position blocks that no page has taken over. */
  discard(): void {
    for (const { block } of this.list) if (block >= 0) this.#content.storage.blocks.release(block);
  }

  /** Live rows packed together, up to 64 a page; a page ends where the shift changes or a position does not fit. */
  #addPacked(job: EncodeJob): void {
    const c = this.#content;
    const { memory } = c.storage;
    let open = false;
    let rows = 0;
    let shift = 0;
    let runs = 0;
    let block = -1;
    let page = -1;
    const close = () => {
      if (open) this.#close(job, rows, shift, runs, block);
      open = false;
    };
    /** Live rows [row, end) of the record at hand. */
    const take = (row: number, end: number) => {
      while (row < end) {
        if (!hasRow(ref.lo, ref.hi, row)) {
          row++;
          continue;
        }
        const position = c.storedPosition(ref, row);
        const fits = open && rows < PAGE_TOKENS && shift === ref.shift;
        if (!fits || !PositionTable.fits(this.#positions[0]!, position)) {
          close();
          open = true;
          rows = 0;
          shift = ref.shift;
          runs = this.runs.length / RUN_WORDS;
          page = ref.page;
          // A page that is taken over row by row keeps its positions.
          block = row === 0 ? c.storage.pages.positions[page]! : -1;
        }
        const first = row;
        while (row < end && rows < PAGE_TOKENS && hasRow(ref.lo, ref.hi, row)) {
          const stored = c.storedPosition(ref, row);
          if (!PositionTable.fits(rows === 0 ? stored : this.#positions[0]!, stored)) break;
          this.#positions[rows++] = stored;
          row++;
        }
        if (page !== ref.page || first !== rows - (row - first)) block = -1;
        this.runs.push(ref.cell, ref.layout, first, row - first, rows - (row - first));
      }
    };
    let start = 0;
    for (let i = 0, range = 0; i < c.refs[job.view]! && range < job.ranges.length; i++) {
      ref.load(memory, c.ref(job.view, i));
      const entry = start + ref.live;
      if (job.ranges[range]! < entry) this.#checkSource(job);
      while (range < job.ranges.length && job.ranges[range]! < entry) {
        const [from, to] = [job.ranges[range]!, job.ranges[range + 1]!];
        const row = from <= start ? ref.first : rowOfEntry(ref, from - start);
        take(row, to >= entry ? ref.end : rowOfEntry(ref, to - start));
        if (to > entry) break;
        range += 2;
      }
      start = entry;
    }
    close();
  }

  #close(job: EncodeJob, rows: number, shift: number, runs: number, block: number): void {
    const { blocks } = this.#content.storage;
    if (block >= 0) blocks.retain(block);
    this.list.push({
      job,
      layout: this.#layout(job, job.k!, job.v!),
      rows,
      block: block >= 0 ? block : blocks.intern(this.#positions, 0, rows, this.#content.account),
      page: -1,
      runs,
      runsEnd: this.runs.length / RUN_WORDS,
      seen: [{ shift, lo: rangeLo(0, rows), hi: rangeHi(0, rows) }],
      copied: 0,
    });
  }

  /** Page by page, rows where they were, so that the other plane's bytes can be copied. */
  #addWhole(job: EncodeJob): void {
    const c = this.#content;
    const { memory, blocks, pages, layouts } = c.storage;
    const [from, to] = [job.ranges[0]!, job.ranges[1]!];
    const epoch = ++c.storage.epoch;
    const whole = new Map<number, { shift: number; lo: number; hi: number }[]>();
    let entry = 0;
    for (let i = 0; i < c.refs[job.view]!; i++) {
      ref.load(memory, c.ref(job.view, i));
      const start = entry;
      entry += ref.live;
      const inside = start >= from && entry <= to;
      const outside = entry <= from || start >= to;
      if (!inside && !outside) throw notWhole(job);
      if (inside) {
        this.#checkSource(job);
        const seen = whole.get(ref.page);
        const record = { shift: ref.shift, lo: ref.lo, hi: ref.hi };
        if (seen) seen.push(record);
        else whole.set(ref.page, [record]);
      } else {
        pages.stamp[ref.page] = epoch;
      }
    }
    entry = 0;
    for (let i = 0; i < c.refs[job.view]! && entry < to; i++) {
      ref.load(memory, c.ref(job.view, i));
      entry += ref.live;
      if (entry <= from || this.list.at(-1)?.copied === ref.cell) continue;
      const seen = whole.get(ref.page);
      // A page seen outside too, or once more after others, could not keep its rows in their order.
      if (!seen || pages.stamp[ref.page] === epoch) throw notWhole(job);
      whole.delete(ref.page);
      let lo = 0;
      let hi = 0;
      for (const record of seen) {
        lo = (lo | record.lo) >>> 0;
        hi = (hi | record.hi) >>> 0;
      }
      const runs = this.runs.length / RUN_WORDS;
      const end = highestRow(lo, hi) + 1;
      for (let row = lowestRow(lo, hi); row < end; ) {
        const first = row;
        while (row < end && hasRow(lo, hi, row)) row++;
        this.runs.push(ref.cell, ref.layout, first, row - first, first);
        while (row < end && !hasRow(lo, hi, row)) row++;
      }
      const { formatK, formatV } = layouts.get(ref.layout);
      const block = pages.positions[ref.page]!;
      blocks.retain(block);
      this.list.push({
        job,
        layout: this.#layout(job, job.k ?? formatK, job.v ?? formatV),
        rows: end,
        block,
        page: -1,
        runs,
        runsEnd: this.runs.length / RUN_WORDS,
        seen,
        copied: ref.cell,
      });
    }
  }

  #checkSource(job: EncodeJob): void {
    const { layouts, pages } = this.#content.storage;
    if (pages.fetched.has(ref.page))
      throw badItem(job.n, job.single ? 'entries' : 'from', job.ranges[0], 'entries that are not parked');
    const { formatK, formatV } = layouts.get(ref.layout);
    const check = (plane: 'k' | 'v', asked: unknown, format: typeof formatK) => {
      const scalar = !isExact(format) && format.kind === 'scalar';
      if (isExact(format) || (scalar && (asked === undefined || job.again))) return;
      const allowed =
        asked === undefined || job.again ? 'entries in pages of their own' : 'entries whose rows are exact';
      throw badItem(job.n, plane, `a ${(format as { kind: string }).kind} plane`, allowed);
    };
    check('k', job.k, formatK);
    check('v', job.v, formatV);
  }

  #layout(job: EncodeJob, k: CellLayout['formatK'], v: CellLayout['formatV']): CellLayout {
    const c = this.#content;
    const own = c.spans.groups[c.spans.groupOfView[job.view]!]!.layout;
    const key = `${job.n} ${job.k ? '' : ref.layout} ${job.v ? '' : ref.layout}`;
    const known = this.#layouts.get(key);
    if (known) return known;
    const layout = this.#holds.layout(k, v, own, job.without);
    this.#layouts.set(key, layout);
    return layout;
  }
}

function notWhole(job: EncodeJob): Error {
  const plane = job.k === undefined ? 'k' : 'v';
  return badItem(
    job.n,
    'from',
    `${job.ranges[0]}..${job.ranges[1]}`,
    `all live rows of whole pages, as ${plane} stays as it is`,
  );
}
