import { KvasirError } from '../errors.ts';
import { notePeak } from './account.ts';
import type { Content } from './content.ts';
import { entryRows, isUnrotated } from './entry-rows.ts';
import { prepareKeep } from './keep.ts';
import { hotCopies, type ParkedUnit, ParkedView, setParked, unitBytes } from './parked.ts';
import { PlanGuard } from './plan-guard.ts';
import { Ref } from './ref-list.ts';
import { Bytes, RowBytes } from './row-bytes.ts';
import { StoredUnit } from './stored-unit.ts';
import type { ParkItem, PreparedPlan, UnitIndexItem } from './types.ts';
import { boundsOf, decodeKeys, finerBounds, type IndexShape, indexWidth, meanOf } from './unit-index.ts';

/** A unit has at most 2^MOST_HALVINGS pieces. */
const MOST_HALVINGS = 10;
const MEAN = { kind: 'mean' } as const;

/** What leaves one view. */
interface Leaving {
  readonly item: ParkItem;
  readonly view: number;
  readonly units: ParkedUnit[];
  readonly shape: IndexShape;
  /** f32 [units][indexWidth] */
  readonly index: Float32Array;
  /** 1 for each entry that leaves. */
  readonly gone: Uint8Array;
}

const ref = new Ref();
const bytes = new Bytes();

/** See CacheSequence.preparePark. */
export function preparePark(c: Content, items: readonly ParkItem[]): PreparedPlan {
  const gone = items.map((item, n) => checkItem(c, items, item, n));
  const leaving: Leaving[] = items.map((item, n) => {
    const shape = shapeOf(item.index ?? MEAN);
    const index = new Float32Array(item.units.length * indexWidth(shape, c.storage.shape.headDim));
    return { item, view: c.viewOf(item.slot, item.head), units: [], shape, index, gone: gone[n]! };
  });
  checkRoom(c, leaving);
  try {
    for (const view of leaving) store(c, view);
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
  checkIndex(c, item, n, view);
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

function checkIndex(c: Content, { index = MEAN, memory = 0, units }: ParkItem, n: number, view: number): void {
  if (!(memory >= 0 && memory <= 1)) throw badPark(n, 'memory', memory, '0 to 1');
  const { headDim } = c.storage.shape;
  const shape = shapeOf(index);
  if (!(Number.isInteger(shape.halvings) && shape.halvings >= 0 && shape.halvings <= MOST_HALVINGS))
    throw badPark(n, 'index.halvings', shape.halvings, `a whole number, 0 to ${MOST_HALVINGS}`);
  if (index.kind === 'given' && index.keys.length !== units.length * headDim)
    throw badPark(n, 'index.keys', index.keys.length, `${headDim} floats a unit`);
  const before = c.parked.get(view)?.shape;
  if (before && (before.kind !== shape.kind || before.halvings !== shape.halvings))
    throw badPark(
      n,
      'index',
      shape.kind,
      `what the units before are known by: ${before.kind}, ${before.halvings} halvings`,
    );
}

function shapeOf(index: UnitIndexItem): IndexShape {
  return { kind: index.kind, halvings: index.kind === 'bounds' ? (index.halvings ?? 0) : 0 };
}

/** Raises `kv_cache_full` where the plan's units do not fit the ordinary memory that parked entries may take. */
function checkRoom(c: Content, leaving: readonly Leaving[]): void {
  const { headDim } = c.storage.shape;
  let bytes = 0;
  let entries = 0;
  for (const { item, view, shape } of leaving) {
    const rowBytes = new RowBytes(c.storage, c.spans.groups[c.spans.groupOfView[view]!]!.layout.id);
    for (const unit of item.units) {
      entries += unit.length;
      bytes += unit.length * 4 + unitBytes(shape, headDim);
      if (item.place === 'memory') bytes += StoredUnit.blobBytes(unit.length, rowBytes, shape.halvings, headDim);
    }
  }
  c.storage.parked.require(bytes, entries);
}

/** Writes the units of one view to their place. May raise `kv_cache_full`, `memory_limit` or `backend_failed`; then some are in `units`. */
function store(c: Content, { item, view, units, shape, index }: Leaving): void {
  const { storage } = c;
  const { headDim } = storage.shape;
  const where = entryRows(c, view);
  const place = item.place === 'file' ? storage.places.file! : storage.places.memory;
  const rowBytes = new RowBytes(storage, c.spans.groups[c.spans.groupOfView[view]!]!.layout.id);
  const width = indexWidth(shape, headDim);
  if (item.index?.kind === 'given') index.set(item.index.keys);
  for (const unit of item.units) {
    const positions = new Int32Array(unit.length);
    bytes.ensure(StoredUnit.blobBytes(unit.length, rowBytes, shape.halvings, headDim));
    for (const [i, entry] of unit.entries()) {
      ref.load(storage.memory, c.ref(view, where.record[entry]!));
      const row = where.row[entry]!;
      positions[i] = c.storedPosition(ref, row) + ref.shift;
      rowBytes.take(ref.cell, row, bytes, i * rowBytes.size);
    }
    if (shape.kind !== 'given') {
      const keys = decodeKeys(storage, rowBytes, bytes, Uint32Array.from(unit.keys()));
      const row = shape.kind === 'mean' ? meanOf(keys, headDim) : boundsOf(keys, headDim, 0, unit.length);
      index.set(row, units.length * width);
      if (shape.halvings > 0) {
        const finer = finerBounds(keys, headDim, shape.halvings);
        bytes.u8.set(new Uint8Array(finer.buffer), unit.length * rowBytes.size);
      }
    }
    const { halvings } = shape;
    const init = { totals: storage.parked, place, tier: item.place, rowBytes, positions, halvings, headDim, bytes };
    units.push({ stored: new StoredUnit(init), rows: null });
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
    for (const { item, view, units, shape, index } of this.#leaving) {
      if (units.length === 0) continue;
      const before = c.parked.get(view);
      const parked = before
        ? before.with(units, index)
        : new ParkedView(c.storage.parked, units, shape, index, new Set());
      setParked(c, view, parked);
      if (item.place === 'file') heat(c, view, units, parked.fileBytes * (item.memory ?? 0));
    }
    const plan = this.#leaving.map(({ item: { slot, head }, gone }) => ({ slot, head, ranges: rangesOf(gone) }));
    prepareKeep(c, plan).apply();
  }

  discard(): void {
    if (this.#guard.end()) release(this.#leaving);
  }
}

/** Gives a view's copies in memory their limit, and takes the newest units there. */
function heat(c: Content, view: number, units: readonly ParkedUnit[], limit: number): void {
  if (limit === 0) return;
  const hot = hotCopies(c, view);
  hot.limit = limit;
  let left = limit;
  for (let n = units.length - 1; n >= 0; n--) {
    const { stored } = units[n]!;
    left -= stored.positions.length * stored.rowBytes.size;
    if (left < 0) return;
    try {
      stored.readRows(bytes, 0, 0, stored.positions.length * stored.rowBytes.size);
    } catch {
      // Copies are for speed only; a file that cannot be read will be reported by the fetch that needs it.
      return;
    }
    for (let piece = 0; piece < stored.pieces; piece++) {
      const [from, to] = [stored.start(piece) * stored.rowBytes.size, stored.start(piece + 1) * stored.rowBytes.size];
      hot.put(stored.serial + piece, bytes.u8.subarray(from, to));
    }
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
