import { KvasirError } from '../errors.ts';
import { hasRow } from './bits.ts';
import type { Content } from './content.ts';
import { redirect } from './page-copy.ts';
import { Ref } from './ref-list.ts';

const ref = new Ref();

/** Values of a column, one a live row. A page whose layout lacks it gives 0. */
export function readColumn(c: Content, view: number, name: string): Float32Array {
  checkColumn(c, view, name);
  const values = new Float32Array(c.entries[view]!);
  eachRow(c, view, name, (at, entry) => {
    values[entry] = c.storage.memory.f32[at]!;
  });
  return values;
}

/** See CacheSequence.setColumn. */
export function writeColumn(c: Content, view: number, name: string, values: Float32Array): void {
  checkColumn(c, view, name);
  if (values.length !== c.entries[view]) {
    throw new KvasirError('invalid_request', `Column ${name} needs one value an entry.`, {
      field: 'values',
      value: values.length,
      allowed: `${c.entries[view]} values`,
    });
  }
  makePrivate(c, view);
  const { f32 } = c.storage.memory;
  eachRow(c, view, name, (at, entry) => {
    f32[at] = values[entry]!;
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

/** Copies the pages of a view that others refer to, for all views of this sequence that show them; all of them or none. */
function makePrivate(c: Content, view: number): void {
  const { pages } = c.storage;
  if (isAllOwn(c, view)) return;
  const shared = sharedPages(c, view);
  if (shared.size === 0) return;
  const copies = new Map<number, number>();
  try {
    for (const page of shared) copies.set(page, pages.copy(page, c.account));
  } catch (error) {
    for (const copy of copies.values()) pages.destroy(copy);
    throw error;
  }
  for (let other = 0; other < c.refs.length; other++) {
    for (let i = 0; i < c.refs[other]!; i++) {
      const copy = copies.get(c.pageAt(other, i));
      if (copy !== undefined) redirect(c, other, i, copy);
    }
  }
  c.version++;
  c.ready.fill(0);
}

/** The quick answer for views that share no page with anyone. */
function isAllOwn(c: Content, view: number): boolean {
  const { refs } = c.storage.pages;
  for (let i = 0; i < c.refs[view]!; i++) if (refs[c.pageAt(view, i)] !== 1) return false;
  return true;
}

/** Pages of the view that other sequences refer to. */
function sharedPages(c: Content, view: number): Set<number> {
  const { pages } = c.storage;
  const epoch = ++c.storage.epoch;
  for (let other = 0; other < c.refs.length; other++) {
    for (let i = 0; i < c.refs[other]!; i++) {
      const page = c.pageAt(other, i);
      if (pages.stamp[page] !== epoch) {
        pages.stamp[page] = epoch;
        pages.seen[page] = 0;
      }
      pages.seen[page]!++;
    }
  }
  const shared = new Set<number>();
  for (let i = 0; i < c.refs[view]!; i++) {
    const page = c.pageAt(view, i);
    if (pages.seen[page]! < pages.refs[page]!) shared.add(page);
  }
  return shared;
}
