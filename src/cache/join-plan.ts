import { KvasirError } from '../errors.ts';
import { hasRow } from './bits.ts';
import type { CellLayout } from './cell-layout.ts';
import type { Content } from './content.ts';
import type { Cut } from './cut.ts';
import type { Holds } from './encode-plan.ts';
import { isExact, type JointFormat, type ScalarFormat } from './format.ts';
import { jointSigns } from './plane-layout.ts';
import { Ref } from './ref-list.ts';
import type { SharedEntry } from './shared-blocks.ts';
import type { JoinedPlane, JoinItem, OwnPlane } from './types.ts';

/** A checked item of a join plan. */
export interface JoinJob {
  readonly item: JoinItem;
  readonly layout: CellLayout;
  readonly views: readonly number[];
  /** Entries that are joined. */
  readonly count: number;
  /** Of each joined entry, in every view. */
  readonly stored: Int32Array;
  readonly shifts: Int32Array;
  /** Where each view's entries lie now: words (cell, layout, row). */
  readonly places: readonly Uint32Array[];
  /** One parameter block a view (basis, signs); empty where the format has none. */
  readonly basesK: readonly SharedEntry[];
  readonly basesV: readonly SharedEntry[];
}

export const PLACE_WORDS = 3;
const ref = new Ref();

/** Raises `invalid_request` naming the first item that is wrong; `kv_cache_full` or `memory_limit` for blocks and layouts. */
export function checkJoin(c: Content, items: readonly JoinItem[], holds: Holds): JoinJob[] {
  const seen = new Set<number>();
  return items.map((item, n) => {
    const bad = (field: string, value: unknown, allowed: string) =>
      new KvasirError('invalid_request', `Cannot join: ${field} of item ${n} is ${String(value)}.`, {
        field: `plan[${n}].${field}`,
        value,
        allowed,
      });
    const views = item.views.map(({ slot, head }) => c.viewOf(slot, head));
    if (views.length === 0) throw bad('views', 0, 'at least one view');
    for (const view of views) {
      if (seen.has(view)) throw bad('views', view, 'each view at most once in a plan');
      if (c.parked.has(view)) throw bad('views', view, 'views without parked entries');
      seen.add(view);
    }
    const count = checkEntries(c, item, views, bad);
    for (const plane of ['k', 'v'] as const) {
      const { format } = item[plane];
      const field = `plan[${n}].${plane}.format`;
      if (!KINDS.includes(format?.kind)) throw bad(`${plane}.format`, format, 'a latent, scalar or joint format');
      const values = c.storage.layouts.sharedValues(format, plane, field);
      if (isJoined(item[plane])) checkPlane(item[plane], plane, item.views.length, count, bad);
      else checkOwn(format as ScalarFormat | JointFormat, plane, values, views.length, bad);
    }
    const like = layoutOf(c, views[0]!);
    for (const view of views) {
      const { keysUnrotated, columns } = layoutOf(c, view);
      const alike =
        keysUnrotated === like.keysUnrotated && [...columns.keys()].join() === [...like.columns.keys()].join();
      if (!alike) throw bad('views', view, 'views of equal page options');
    }
    const { stored, shifts, places } = locate(c, item, views, count, bad);
    const layout = holds.layout(item.k.format, item.v.format, like);
    const bases = (plane: 'k' | 'v', values: number) =>
      blocksOf(item[plane]).map((base, i) => holds.shared(base, values, `plan[${n}].${plane}.bases[${i}]`));
    const basesK = bases('k', layout.sharedValuesK);
    const basesV = bases('v', layout.sharedValuesV);
    return { item, layout, views, count, stored, shifts, places, basesK, basesV };
  });
}

type Bad = (field: string, value: unknown, allowed: string) => KvasirError;

function layoutOf(c: Content, view: number): CellLayout {
  return c.spans.groups[c.spans.groupOfView[view]!]!.layout;
}

function checkEntries(c: Content, { entries }: JoinItem, views: readonly number[], bad: Bad): number {
  if (entries.length !== views.length) throw bad('entries', entries.length, `${views.length} arrays, one a view`);
  const count = entries[0]!.length;
  for (const [i, list] of entries.entries()) {
    if (list.length !== count) throw bad(`entries[${i}]`, list.length, `${count} entries, as in the first view`);
    const limit = c.entries[views[i]!]!;
    for (let j = 0; j < count; j++) {
      const fits = list[j]! < limit && (j === 0 || list[j]! > list[j - 1]!);
      if (!fits) throw bad(`entries[${i}]`, list[j], `ascending numbers below ${limit}`);
    }
  }
  return count;
}

const KINDS: readonly unknown[] = ['latent', 'scalar', 'joint'];

/** Do the views share rows that come with the plan? */
export function isJoined(plane: JoinedPlane | OwnPlane): plane is JoinedPlane {
  return plane.format.kind === 'latent';
}

/** The parameter blocks of the views. */
function blocksOf(plane: JoinedPlane | OwnPlane) {
  if (isJoined(plane)) return plane.bases ?? [];
  if (plane.format.kind !== 'joint') return [];
  const { heads } = plane.format;
  return Array.from({ length: heads }, (_, i) => ({ key: `joint/${heads}/${i}`, values: jointSigns(heads, i) }));
}

function checkOwn(format: ScalarFormat | JointFormat, plane: 'k' | 'v', values: number, views: number, bad: Bad): void {
  if (format.kind === 'joint') {
    if (format.heads !== views) throw bad(`${plane}.format.heads`, format.heads, `${views}, as there are views`);
  } else if (values > 0) {
    throw bad(`${plane}.format`, `${values} shared values`, 'a format whose parameters lie in its pages');
  }
}

function checkPlane(
  { format, rows, norms, bases }: JoinedPlane,
  plane: 'k' | 'v',
  views: number,
  count: number,
  bad: Bad,
): void {
  if (rows.length !== count * format.rank) {
    throw bad(`${plane}.rows`, rows.length, `${count} rows of ${format.rank} values`);
  }
  const needed = format.norms ? views : 0;
  if ((norms?.length ?? 0) !== needed) throw bad(`${plane}.norms`, norms?.length ?? 0, `${needed} arrays`);
  for (const [i, list] of (norms ?? []).entries()) {
    if (list.length !== count) throw bad(`${plane}.norms[${i}]`, list.length, `${count} values, one an entry`);
  }
  const blocks = format.basis ? views : 0;
  if ((bases?.length ?? 0) !== blocks) throw bad(`${plane}.bases`, bases?.length ?? 0, `${blocks} parameter blocks`);
}

/** Where the entries lie and at which positions; these must be the same in all views. Rows of own planes must be exact. */
function locate(c: Content, { entries, k, v }: JoinItem, views: readonly number[], count: number, bad: Bad) {
  const stored = new Int32Array(count);
  const shifts = new Int32Array(count);
  const places = views.map((view, i) => {
    const place = new Uint32Array(count * PLACE_WORDS);
    let entry = 0;
    let next = 0;
    for (let r = 0; r < c.refs[view]! && next < count; r++) {
      ref.load(c.storage.memory, c.ref(view, r));
      const end = entry + ref.live;
      const { formatK, formatV } = c.storage.layouts.get(ref.layout);
      const encoded = (!isJoined(k) && !isExact(formatK)) || (!isJoined(v) && !isExact(formatV));
      for (let row = ref.first; row < ref.end && entry < end && next < count; row++) {
        if (!hasRow(ref.lo, ref.hi, row)) continue;
        if (entry++ !== entries[i]![next]) continue;
        if (encoded) throw bad(`entries[${i}][${next}]`, entry - 1, 'entries whose rows are exact');
        const position = c.storedPosition(ref, row);
        if (i === 0) {
          stored[next] = position;
          shifts[next] = ref.shift;
        } else if (stored[next] !== position || shifts[next] !== ref.shift) {
          const at = `${stored[next]! + shifts[next]!} moved by ${shifts[next]}`;
          throw bad(`entries[${i}][${next}]`, `position ${position + ref.shift} moved by ${ref.shift}`, at);
        }
        place[next * PLACE_WORDS] = ref.cell;
        place[next * PLACE_WORDS + 1] = ref.layout;
        place[next * PLACE_WORDS + 2] = row;
        next++;
      }
      entry = end;
    }
    return place;
  });
  return { stored, shifts, places };
}

/** Entries [from, from + rows) of a job: moves their column values into a cell. */
export function joinColumns(c: Content, job: JoinJob, i: number, from: number, rows: number, cell: number): void {
  const { layouts, memory } = c.storage;
  const { f32 } = memory;
  const place = job.places[i]!;
  for (const [name, offset] of job.layout.columns) {
    const to = (cell + offset) >>> 2;
    for (let j = 0; j < rows; j++) {
      const at = (from + j) * PLACE_WORDS;
      const column = layouts.get(place[at + 1]!).columns.get(name);
      if (column !== undefined) f32[to + j] = f32[((place[at]! + column) >>> 2) + place[at + 2]!]!;
    }
  }
}

/** Ascending entries as cuts without anything in their place. */
export function cutsOf(entries: Uint32Array): Cut[] {
  const cuts: Cut[] = [];
  for (let i = 0; i < entries.length; ) {
    const from = i++;
    while (i < entries.length && entries[i] === entries[i - 1]! + 1) i++;
    cuts.push({ from: entries[from]!, to: entries[i - 1]! + 1 });
  }
  return cuts;
}
