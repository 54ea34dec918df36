import { PAGE_TOKENS } from '../../kernels/abi.ts';
import { blockBytes } from './arrays.ts';
import { rangeHi, rangeLo } from './bits.ts';
import type { Content } from './content.ts';
import { cutView } from './cut.ts';
import { Holds } from './encode-plan.ts';
import { isExact, type PlaneFormat } from './format.ts';
import { cellOf, encodeRows, type JointPage } from './join-encode.ts';
import { checkJoin, cutsOf, isJoined, type JoinJob, joinColumns } from './join-plan.ts';
import { HEADER_K_PLANE, HEADER_V_PLANE, type PageShape } from './pages.ts';
import { PositionTable } from './positions.ts';
import { Replacement } from './prepared.ts';
import { RefList } from './ref-list.ts';
import { pruneShared } from './shared-blocks.ts';
import type { JoinItem, PreparedPlan } from './types.ts';

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

function fillCell(c: Content, job: JoinJob, i: number, page: number, from: number, rows: number): void {
  const { pages, memory } = c.storage;
  const { layout, item, basesK, basesV } = job;
  const { u32, f32 } = memory;
  const start = pages.address[page]!;
  const cell = cellOf(c, job, i, page);
  const kind = ({ format }: { format: PlaneFormat }) => (isExact(format) ? format : format.kind);
  if (kind(item.k) !== 'scalar') u32[(cell + layout.headerAt + HEADER_K_PLANE) >>> 2] = start;
  if (kind(item.v) !== 'scalar') u32[(cell + layout.headerAt + HEADER_V_PLANE) >>> 2] = start + layout.sharedV;
  if (basesK[i]) pages.setShared(page, cell, 'k', basesK[i]);
  if (basesV[i]) pages.setShared(page, cell, 'v', basesV[i]);
  for (const plane of ['k', 'v'] as const) {
    const norms = isJoined(item[plane]) ? item[plane].norms?.[i] : undefined;
    if (!norms) continue;
    const at = (cell + layout.extents[plane][0]![0]) >>> 2;
    f32.fill(0, at + rows, at + PAGE_TOKENS);
    f32.set(norms.subarray(from, from + rows), at);
  }
  joinColumns(c, job, i, from, rows, cell);
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
