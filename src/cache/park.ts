import { KvasirError } from '../errors.ts';
import { notePeak } from './account.ts';
import type { Content } from './content.ts';
import { entryRows, isUnrotated } from './entry-rows.ts';
import { prepareKeep } from './keep.ts';
import { meanKey, type ParkedUnit, ParkedView, StoredUnit, setParked } from './parked.ts';
import { PlanGuard } from './plan-guard.ts';
import { Ref } from './ref-list.ts';
import { Bytes, RowBytes } from './row-bytes.ts';
import type { ParkItem, PreparedPlan } from './types.ts';

/** What leaves one view. */
interface Leaving {
  readonly item: ParkItem;
  readonly view: number;
  readonly units: ParkedUnit[];
  /** f32 [units, headDim] */
  readonly keys: Float32Array;
  /** 1 for each entry that leaves. */
  readonly gone: Uint8Array;
}

const ref = new Ref();
const bytes = new Bytes();

/** See CacheSequence.preparePark. */
export function preparePark(c: Content, items: readonly ParkItem[]): PreparedPlan {
  const gone = items.map((item, n) => checkItem(c, items, item, n));
  const leaving: Leaving[] = [];
  try {
    for (const [n, item] of items.entries()) {
      const view = c.viewOf(item.slot, item.head);
      const keys = new Float32Array(item.units.length * c.storage.shape.headDim);
      leaving.push({ item, view, units: [], keys, gone: gone[n]! });
      store(c, leaving.at(-1)!);
    }
  } catch (error) {
    release(leaving);
    throw error;
  }
  return new Park(c, leaving);
}

/** Checks one item; returns which entries leave. Raises `invalid_request`, `unsupported` without a place for files. */
function checkItem(c: Content, items: readonly ParkItem[], item: ParkItem, n: number): Uint8Array {
  const view = c.viewOf(item.slot, item.head);
  if (items.findIndex(({ slot, head }) => slot === item.slot && head === item.head) !== n) {
    throw badPark(n, 'head', item.head, 'each view at most once');
  }
  if (item.place !== 'memory' && item.place !== 'file') throw badPark(n, 'place', item.place, 'memory, file');
  if (item.place === 'file' && !c.storage.places.file) {
    throw new KvasirError('unsupported', 'This cache has no file to park rows in.', {
      field: `plan[${n}].place`,
      value: item.place,
      allowed: 'memory',
    });
  }
  const group = c.spans.groups[c.spans.groupOfView[view]!]!;
  if (group.views.length > 1) throw badPark(n, 'head', item.head, 'views whose pages span one slot and one KV head');
  const entries = c.entries[view]!;
  const gone = new Uint8Array(entries);
  for (const unit of item.units) {
    if (unit.length === 0) throw badPark(n, 'units', 0, 'units of at least one entry');
    for (const [i, entry] of unit.entries()) {
      const fits = entry < entries && gone[entry] === 0 && (i === 0 || entry > unit[i - 1]!);
      if (!fits) throw badPark(n, 'units', entry, `ascending entries 0 to ${entries - 1}, each in one unit`);
      gone[entry] = 1;
    }
  }
  let entry = 0;
  for (let i = 0; i < c.refs[view]!; i++) {
    ref.load(c.storage.memory, c.ref(view, i));
    const live = ref.live;
    const any = gone.subarray(entry, entry + live).includes(1);
    entry += live;
    if (!any) continue;
    if (ref.layout !== group.layout.id)
      throw badPark(n, 'units', entry - live, 'entries whose rows are exact, not encoded');
    if (c.storage.pages.fetched.has(ref.page))
      throw badPark(n, 'units', entry - live, 'entries that are not parked yet');
    if (ref.shift !== 0 && !isUnrotated(c, ref.layout)) {
      throw badPark(n, 'units', entry - live, 'entries that have not been shifted, as their keys are turned');
    }
  }
  return gone;
}

/** Writes the units of one view to their place. May raise `memory_limit` or `backend_failed`; then some are in `units`. */
function store(c: Content, { item, view, units, keys }: Leaving): void {
  const { storage } = c;
  const { headDim } = storage.shape;
  const where = entryRows(c, view);
  const place = item.place === 'file' ? storage.places.file! : storage.places.memory;
  const rowBytes = new RowBytes(storage, c.spans.groups[c.spans.groupOfView[view]!]!.layout.id);
  for (const unit of item.units) {
    const positions = new Int32Array(unit.length);
    bytes.ensure(unit.length * rowBytes.size);
    for (const [i, entry] of unit.entries()) {
      ref.load(storage.memory, c.ref(view, where.record[entry]!));
      const row = where.row[entry]!;
      positions[i] = c.storedPosition(ref, row) + ref.shift;
      rowBytes.take(ref.cell, row, bytes, i * rowBytes.size);
    }
    const rows = Uint32Array.from(unit.keys());
    keys.set(meanKey(storage, rowBytes, bytes, rows), units.length * headDim);
    units.push({ stored: new StoredUnit(storage.parked, place, rowBytes, positions, bytes), rows: null });
  }
}

function release(leaving: readonly Leaving[]): void {
  for (const { units } of leaving) for (const { stored } of units) stored.release();
}

class Park implements PreparedPlan {
  readonly #content: Content;
  readonly #leaving: readonly Leaving[];
  readonly #guard: PlanGuard;

  constructor(content: Content, leaving: readonly Leaving[]) {
    this.#content = content;
    this.#leaving = leaving;
    this.#guard = new PlanGuard(content);
  }

  apply(): void {
    this.#guard.begin(() => this.discard());
    const c = this.#content;
    notePeak(c);
    for (const { view, units, keys } of this.#leaving) {
      if (units.length === 0) continue;
      const before = c.parked.get(view);
      const parked = before ? before.with(units, keys) : new ParkedView(c.storage.parked, units, keys, new Set());
      setParked(c, view, parked);
    }
    const plan = this.#leaving.map(({ item: { slot, head }, gone }) => ({ slot, head, ranges: rangesOf(gone) }));
    prepareKeep(c, plan).apply();
  }

  discard(): void {
    if (this.#guard.end()) release(this.#leaving);
  }
}

/** Pairs (from, to) of the entries that stay. */
function rangesOf(gone: Uint8Array): Uint32Array {
  const ranges: number[] = [];
  for (let entry = 0; entry < gone.length; ) {
    const from = entry;
    while (entry < gone.length && !gone[entry]) entry++;
    if (entry > from) ranges.push(from, entry);
    while (entry < gone.length && gone[entry]) entry++;
  }
  return Uint32Array.from(ranges);
}

function badPark(n: number, field: string, value: unknown, allowed: string): KvasirError {
  return new KvasirError('invalid_request', `Cannot park: ${field} of item ${n} is ${String(value)}.`, {
    field: `plan[${n}].${field}`,
    value,
    allowed,
  });
}
