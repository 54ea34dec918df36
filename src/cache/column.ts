import { PAGE_TOKENS } from '../../kernels/abi.ts';
import { KvasirError } from '../errors.ts';
import { notePeak } from './account.ts';
import { hasRow } from './bits.ts';
import type { Content } from './content.ts';
import { PageCopies } from './own-pages.ts';
import { PlanGuard } from './plan-guard.ts';
import { Ref } from './ref-list.ts';
import type { ColumnItem, PreparedPlan } from './types.ts';
import type { Undo } from './undo.ts';

const ref = new Ref();

/** Values of a column, one a live row. A page whose layout lacks it gives 0. */
export function readColumn(c: Content, view: number, name: string, into?: Float32Array): Float32Array {
  checkColumn(c, view, name);
  const values = into?.fill(0, 0, c.entries[view]!) ?? new Float32Array(c.entries[view]!);
  eachRow(c, view, name, (at, entry) => {
    values[entry] = c.storage.memory.f32[at]!;
  });
  return values;
}

/** See CacheSequence.setColumn. */
export function writeColumn(c: Content, view: number, name: string, values: Float32Array): void {
  checkValues(c, view, name, values);
  if (!isAllOwn(c, view)) ownPages(c, [view]).apply();
  write(c, view, name, values);
}

/** See CacheSequence.prepareColumns. */
export function prepareColumns(c: Content, items: readonly ColumnItem[]): PreparedPlan {
  const jobs = items.map(({ slot, head, name, values }) => ({ view: c.viewOf(slot, head), name, values }));
  for (const { view, name, values } of jobs) checkValues(c, view, name, values);
  const copies = ownPages(
    c,
    jobs.map(({ view }) => view),
  );
  const guard = new PlanGuard(c);
  const discard = () => {
    if (guard.end()) copies.discard();
  };
  return {
    apply() {
      guard.begin(discard);
      if (copies.bytes > 0) notePeak(c, copies.bytes);
      copies.apply();
      for (const { view, name, values } of jobs) write(c, view, name, values);
    },
    discard,
  };
}

/** Copies of the pages of views that others refer to; all of them or none. */
function ownPages(c: Content, views: readonly number[]): PageCopies {
  const copies = new PageCopies(c);
  try {
    for (const view of views) for (let i = 0; i < c.refs[view]!; i++) copies.add(c.pageAt(view, i));
  } catch (error) {
    copies.discard();
    throw error;
  }
  return copies;
}

function write(c: Content, view: number, name: string, values: Float32Array): void {
  const { f32 } = c.storage.memory;
  if (c.undo) noteColumn(c.undo, c, view, name);
  eachRow(c, view, name, (at, entry) => {
    f32[at] = values[entry]!;
  });
}

function noteColumn(undo: Undo, c: Content, view: number, name: string): void {
  for (let i = 0; i < c.refs[view]!; i++) {
    ref.load(c.storage.memory, c.ref(view, i));
    const offset = c.storage.layouts.get(ref.layout).columns.get(name);
    if (offset !== undefined) undo.bytes(ref.cell + offset, PAGE_TOKENS * 4);
  }
}

function checkValues(c: Content, view: number, name: string, values: Float32Array): void {
  checkColumn(c, view, name);
  if (values.length === c.entries[view]) return;
  throw new KvasirError('invalid_request', `Column ${name} needs one value an entry.`, {
    field: 'values',
    value: values.length,
    allowed: `${c.entries[view]} values`,
  });
}

/** Calls with the f32 index of each live row's value, and the entry's number. */
function eachRow(c: Content, view: number, name: string, use: (at: number, entry: number) => void): void {
  const { memory, layouts } = c.storage;
  let entry = 0;
  for (let i = 0; i < c.refs[view]!; i++) {
    ref.load(memory, c.ref(view, i));
    const offset = layouts.get(ref.layout).columns.get(name);
    for (let row = ref.first; row < ref.end; row++) {
      if (!hasRow(ref.lo, ref.hi, row)) continue;
      if (offset !== undefined) use(((ref.cell + offset) >>> 2) + row, entry);
      entry++;
    }
  }
}

function checkColumn(c: Content, view: number, name: string): void {
  const { columns } = c.spans.groups[c.spans.groupOfView[view]!]!.layout;
  if (columns.has(name)) return;
  throw new KvasirError('invalid_request', `The pages have no column ${name}.`, {
    field: 'column',
    value: name,
    allowed: [...columns.keys()],
  });
}

/** The quick answer for views that share no page with anyone. */
function isAllOwn(c: Content, view: number): boolean {
  const { refs } = c.storage.pages;
  for (let i = 0; i < c.refs[view]!; i++) if (refs[c.pageAt(view, i)] !== 1) return false;
  return true;
}
