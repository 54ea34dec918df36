import {
  ENCODE_BYTES,
  ENCODE_CELL,
  ENCODE_K,
  ENCODE_LAYOUT,
  ENCODE_LAYOUTS,
  ENCODE_ROWS,
  ENCODE_V,
  KIND_ENCODE,
  PAGE_TOKENS,
} from '../../kernels/abi.ts';
import { blockBytes } from './arrays.ts';
import { rangeHi, rangeLo } from './bits.ts';
import type { Content } from './content.ts';
import { cutView } from './cut.ts';
import { Holds } from './encode-plan.ts';
import { checkJoin, cutsOf, type JoinJob, joinColumns } from './join-plan.ts';
import { HEADER_K_PLANE, HEADER_V_PLANE, type PageShape } from './pages.ts';
import { PositionTable } from './positions.ts';
import { Replacement } from './prepared.ts';
import { RefList } from './ref-list.ts';
import { pruneShared } from './shared-blocks.ts';
import type { JoinItem, PreparedPlan } from './types.ts';

/** Bytes of f32 rows that are encoded in one run; at least one page. */
const BATCH_BYTES = 1 << 20;

/** A joint page to be: entries [from, from + rows) of a job. */
interface JointPage {
  readonly job: JoinJob;
  readonly page: number;
  readonly from: number;
  readonly rows: number;
}

/** See CacheSequence.prepareJoin. The joint pages are whole when this returns; only the lists are still the old ones. */
export function prepareJoin(c: Content, items: readonly JoinItem[]): PreparedPlan {
  pruneShared(c);
  const { account } = c;
  const promised = account.promised;
  const before = account.ledger.held;
  const holds = new Holds(c);
  const made: JointPage[] = [];
  const drop = () => {
    for (const { page } of made) c.storage.pages.destroy(page);
  };
  try {
    const jobs = checkJoin(c, items, holds);
    for (const job of jobs) makePages(c, job, made);
    encodeRows(c, made);
    const lists = jobs.flatMap(job =>
      job.views.map((view, i) => {
        const list = new RefList();
        addJoined(c, made, job, i, list);
        cutView(c, view, cutsOf(job.item.entries[i]!), list);
        return { view, list };
      }),
    );
    return new Replacement(c, lists, account.ledger.held - before, drop);
  } catch (error) {
    drop();
    account.setPromise(promised);
    throw error;
  } finally {
    holds.release();
  }
}

/** The pages of a job, with all but the shared rows: headers, norms, columns. */
function makePages(c: Content, job: JoinJob, made: JointPage[]): void {
  const { pages, blocks } = c.storage;
  const { layout, views, stored, shifts } = job;
  const slotOf = Uint16Array.from(job.item.views, ({ slot }) => slot);
  const pageBytes = blockBytes(layout.sharedBytes + views.length * layout.cellBytes);
  const shape: PageShape = { layout, pageBytes, slot: slotOf[0]!, slots: 1, slotOf };
  for (let from = 0; from < job.count; ) {
    let end = from + 1;
    while (end < job.count && end - from < PAGE_TOKENS && shifts[end] === shifts[from]) {
      if (!PositionTable.fits(stored[from]!, stored[end]!)) break;
      end++;
    }
    const rows = end - from;
    const page = pages.create(shape, blocks.intern(stored, from, rows, c.account), c.account, false);
    made.push({ job, page, from, rows });
    for (let i = 0; i < views.length; i++) fillCell(c, job, i, page, from, rows);
    from = end;
  }
}

function cellOf(c: Content, { layout }: JoinJob, i: number, page: number): number {
  return c.storage.pages.address[page]! + layout.sharedBytes + i * layout.cellBytes;
}

function fillCell(c: Content, job: JoinJob, i: number, page: number, from: number, rows: number): void {
  const { pages, memory } = c.storage;
  const { layout, item, basesK, basesV } = job;
  const { u32, f32 } = memory;
  const start = pages.address[page]!;
  const cell = cellOf(c, job, i, page);
  u32[(cell + layout.headerAt + HEADER_K_PLANE) >>> 2] = start;
  u32[(cell + layout.headerAt + HEADER_V_PLANE) >>> 2] = start + layout.sharedV;
  if (basesK[i]) pages.setShared(page, cell, 'k', basesK[i]);
  if (basesV[i]) pages.setShared(page, cell, 'v', basesV[i]);
  for (const plane of ['k', 'v'] as const) {
    const norms = item[plane].norms?.[i];
    if (!norms) continue;
    const at = (cell + layout.extents[plane][0]![0]) >>> 2;
    f32.fill(0, at + rows, at + PAGE_TOKENS);
    f32.set(norms.subarray(from, from + rows), at);
  }
  joinColumns(c, job, i, from, rows, cell);
}

/** Writes the shared rows, those of K and of V by one ENCODE a page. */
function encodeRows(c: Content, made: readonly JointPage[]): void {
  if (made.length === 0) return;
  const { memory, kernels, layouts } = c.storage;
  const bytesOf = ({ job }: JointPage) => (job.item.k.format.rank + job.item.v.format.rank) * PAGE_TOKENS * 4;
  const most = made.reduce((bytes, page) => Math.max(bytes, bytesOf(page)), 0);
  const batch = Math.min(made.length, Math.max(1, Math.floor(BATCH_BYTES / most)));
  const bytes = batch * (most + ENCODE_BYTES);
  const work = memory.alloc(bytes);
  try {
    const items = work + batch * most;
    for (let first = 0; first < made.length; first += batch) {
      const last = Math.min(first + batch, made.length);
      const { u32, f32 } = memory;
      for (let p = first; p < last; p++) {
        const { job, page, from, rows } = made[p]!;
        const { k, v } = job.item;
        const kAt = work + (p - first) * most;
        const vAt = kAt + rows * k.format.rank * 4;
        f32.set(k.rows.subarray(from * k.format.rank, (from + rows) * k.format.rank), kAt >>> 2);
        f32.set(v.rows.subarray(from * v.format.rank, (from + rows) * v.format.rank), vAt >>> 2);
        const at = (items + (p - first) * ENCODE_BYTES) >>> 2;
        u32.fill(0, at, at + ENCODE_BYTES / 4);
        u32[at + ENCODE_K / 4] = kAt;
        u32[at + ENCODE_V / 4] = vAt;
        u32[at + ENCODE_ROWS / 4] = rows;
        u32[at + ENCODE_CELL / 4] = cellOf(c, job, 0, page);
        u32[at + ENCODE_LAYOUT / 4] = job.layout.id;
        u32[at + ENCODE_LAYOUTS / 4] = layouts.address;
      }
      kernels.run(KIND_ENCODE, items, last - first);
    }
  } finally {
    memory.free(work, bytes);
  }
}

/** A view's references into the pages of its job. */
function addJoined(c: Content, made: readonly JointPage[], job: JoinJob, i: number, list: RefList): void {
  const { pages, blocks } = c.storage;
  for (const { job: of, page, from, rows } of made) {
    if (of !== job) continue;
    const block = pages.positions[page]!;
    const cell = cellOf(c, job, i, page);
    const contiguous = blocks.contiguous[block]!;
    const { id } = job.layout;
    const shift = job.shifts[from]!;
    list.push(cell, blocks.address[block]!, contiguous, id, shift, page, rangeLo(0, rows), rangeHi(0, rows));
  }
}
