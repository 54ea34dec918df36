import {
  ENCODE_BYTES,
  ENCODE_CELL,
  ENCODE_K,
  ENCODE_LAYOUT,
  ENCODE_LAYOUTS,
  ENCODE_ROWS,
  ENCODE_V,
  KIND_ENCODE,
  KIND_READ,
  PAGE_TOKENS,
  READ_BYTES,
  READ_CELL,
  READ_COUNT,
  READ_FIRST,
  READ_K,
  READ_LAYOUT,
  READ_LAYOUTS,
  READ_V,
} from '../../kernels/abi.ts';
import type { Content } from './content.ts';
import { isJoined, type JoinJob, PLACE_WORDS } from './join-plan.ts';

/** Bytes of f32 rows that are encoded in one run; at least one page. */
const BATCH_BYTES = 1 << 20;

/** A joint page to be: entries [from, from + rows) of a job. */
export interface JointPage {
  readonly job: JoinJob;
  readonly page: number;
  readonly from: number;
  readonly rows: number;
}

export function cellOf(c: Content, { layout }: JoinJob, i: number, page: number): number {
  return c.storage.pages.address[page]! + layout.sharedBytes + i * layout.cellBytes;
}

/** f32 values of a plane of a page before it is encoded. */
function planeValues(c: Content, { job }: JointPage, plane: 'k' | 'v'): number {
  const { [plane]: of, views } = job.item;
  return PAGE_TOKENS * (isJoined(of) ? of.format.rank : views.length * c.storage.shape.headDim);
}

/** Writes the planes of the pages: rows that came with the plan are put in, own ones are decoded from where they lie. */
export function encodeRows(c: Content, made: readonly JointPage[]): void {
  if (made.length === 0) return;
  const { memory, kernels } = c.storage;
  const planes = Math.max(...made.map(page => planeValues(c, page, 'k') + planeValues(c, page, 'v'))) * 4;
  const views = Math.max(...made.map(({ job }) => job.views.length));
  const own = made.some(({ job }) => !(isJoined(job.item.k) && isJoined(job.item.v)));
  const reads = own ? views * PAGE_TOKENS * READ_BYTES : 0;
  const each = planes + views * ENCODE_BYTES + reads;
  const batch = Math.min(made.length, Math.max(1, Math.floor(BATCH_BYTES / planes)));
  const work = memory.alloc(batch * each);
  try {
    const encodes = work + batch * planes;
    const readItems = encodes + batch * views * ENCODE_BYTES;
    for (let first = 0; first < made.length; first += batch) {
      const last = Math.min(first + batch, made.length);
      let read = readItems;
      let encode = encodes;
      for (let p = first; p < last; p++) {
        const page = made[p]!;
        const { job, rows } = page;
        const at = { k: work + (p - first) * planes, v: 0 };
        at.v = at.k + planeValues(c, page, 'k') * 4;
        for (const plane of ['k', 'v'] as const) {
          const of = job.item[plane];
          if (!isJoined(of)) continue;
          const { rank } = of.format;
          memory.f32.set(of.rows.subarray(page.from * rank, (page.from + rows) * rank), at[plane] >>> 2);
        }
        read = writeReads(c, page, at, read);
        encode = writeEncodes(c, page, at, encode);
      }
      if (read > readItems) kernels.run(KIND_READ, readItems, (read - readItems) / READ_BYTES);
      kernels.run(KIND_ENCODE, encodes, (encode - encodes) / ENCODE_BYTES);
    }
  } finally {
    memory.free(work, batch * each);
  }
}

/** READ records for the planes that keep the views' own rows, f32 [views][rows][headDim]; a record a run of rows. */
function writeReads(c: Content, { job, from, rows }: JointPage, at: { k: number; v: number }, record: number): number {
  const { memory, layouts, shape } = c.storage;
  const { headDim } = shape;
  const k = isJoined(job.item.k) ? 0 : at.k;
  const v = isJoined(job.item.v) ? 0 : at.v;
  if (k === 0 && v === 0) return record;
  const { u32 } = memory;
  for (const [i, place] of job.places.entries()) {
    for (let row = 0; row < rows; ) {
      const word = (from + row) * PLACE_WORDS;
      const [cell, layout, first] = [place[word]!, place[word + 1]!, place[word + 2]!];
      let count = 1;
      for (; row + count < rows; count++) {
        const next = word + count * PLACE_WORDS;
        if (place[next] !== cell || place[next + 2] !== first + count) break;
      }
      const offset = (i * rows + row) * headDim * 4;
      u32[(record + READ_CELL) >>> 2] = cell;
      u32[(record + READ_LAYOUT) >>> 2] = layout;
      u32[(record + READ_FIRST) >>> 2] = first;
      u32[(record + READ_COUNT) >>> 2] = count;
      u32[(record + READ_K) >>> 2] = k && k + offset;
      u32[(record + READ_V) >>> 2] = v && v + offset;
      u32[(record + READ_LAYOUTS) >>> 2] = layouts.address;
      record += READ_BYTES;
      row += count;
    }
  }
  return record;
}

/** ENCODE records: what the views share by way of the first cell, scalar planes by way of each view's. */
function writeEncodes(c: Content, page: JointPage, at: { k: number; v: number }, record: number): number {
  const { job, rows } = page;
  const { memory, layouts, shape } = c.storage;
  const { headDim } = shape;
  const source = (plane: 'k' | 'v', i: number) => {
    if (job.item[plane].format.kind === 'scalar') return at[plane] + i * rows * headDim * 4;
    return i === 0 ? at[plane] : 0;
  };
  const { u32 } = memory;
  for (let i = 0; i < job.views.length; i++) {
    const [k, v] = [source('k', i), source('v', i)];
    if (k === 0 && v === 0) break;
    u32.fill(0, record >>> 2, (record + ENCODE_BYTES) >>> 2);
    u32[(record + ENCODE_K) >>> 2] = k;
    u32[(record + ENCODE_V) >>> 2] = v;
    u32[(record + ENCODE_ROWS) >>> 2] = rows;
    u32[(record + ENCODE_CELL) >>> 2] = cellOf(c, job, i, page.page);
    u32[(record + ENCODE_LAYOUT) >>> 2] = job.layout.id;
    u32[(record + ENCODE_LAYOUTS) >>> 2] = layouts.address;
    record += ENCODE_BYTES;
  }
  return record;
}
