import { KvasirError } from '../errors.ts';
import type { Content } from './content.ts';
import { type EntryRows, entryRows, isExactPage, isUnrotated } from './entry-rows.ts';
import { Ref } from './ref-list.ts';
import type { MapItem, RowMap } from './types.ts';

/** A map item that has been checked. */
export interface MapJob {
  readonly item: MapItem;
  readonly view: number;
  readonly where: EntryRows;
  readonly sources: readonly { readonly view: number; readonly where: EntryRows; readonly entries: Uint32Array }[];
}

/** Hidden channels of a net at most. */
const MOST_HIDDEN = 8192;

const ref = new Ref();

/** Checks all of a plan. Raises `invalid_request` naming the first item that is wrong. */
export function checkMap(c: Content, items: readonly MapItem[]): MapJob[] {
  const rows = new Map<number, EntryRows>();
  const rowsOf = (view: number) => {
    let where = rows.get(view);
    if (!where) {
      where = entryRows(c, view);
      rows.set(view, where);
    }
    return where;
  };
  const taken = new Map<number, Set<number>>();
  return items.map((item, n) => {
    const view = c.viewOf(item.slot, item.head);
    const sources = item.sources.map(({ slot, head, entries }) => {
      const source = c.viewOf(slot, head);
      return { view: source, where: rowsOf(source), entries };
    });
    const job = { item, view, where: rowsOf(view), sources };
    const written = taken.get(view) ?? new Set();
    taken.set(view, written);
    for (const target of item.targets) {
      if (target >= c.entries[view]! || written.has(target))
        throw badMap(n, 'targets', target, `entries 0 to ${c.entries[view]! - 1}, each once`);
      written.add(target);
    }
    checkMapping(c, item.by, item, n);
    checkRows(c, job, n);
    return job;
  });
}

function checkMapping(c: Content, by: RowMap, { targets, sources }: MapItem, n: number): void {
  const { headDim, rotary } = c.storage.shape;
  if (sources.length === 0) throw badMap(n, 'sources', 0, 'at least one source');
  for (const { entries } of sources)
    if (entries.length !== targets.length)
      throw badMap(n, 'sources', entries.length, `${targets.length} entries a source, one a target`);
  const need = (field: string, values: Float32Array, length: number) => {
    if (values.length !== length) throw badMap(n, `by.${field}`, values.length, `${length} numbers`);
    const bad = values.find(value => !Number.isFinite(value));
    if (bad !== undefined) throw badMap(n, `by.${field}`, bad, 'finite numbers');
  };
  switch (by.kind) {
    case 'blend':
      if (by.key !== undefined && by.key !== 'sum' && by.key !== 'direction')
        throw badMap(n, 'by.key', by.key, 'sum, direction');
      need('weightsK', by.weightsK, targets.length * sources.length);
      need('weightsV', by.weightsV, targets.length * sources.length);
      for (let t = 0; by.key === 'direction' && t < targets.length; t++) {
        const weights = by.weightsK.subarray(t * sources.length, (t + 1) * sources.length);
        if (weights.reduce((a, b) => a + b, 0) === 0)
          throw badMap(n, 'by.weightsK', 0, `a sum other than 0 for target ${t}`);
      }
      break;
    case 'rotate':
      if (sources.length !== 1) throw badMap(n, 'sources', sources.length, 'one source, to rotate');
      need('turns', by.turns, targets.length * rotary);
      break;
    case 'net': {
      const hidden = by.bias1.length;
      if (hidden < 1 || hidden > MOST_HIDDEN)
        throw badMap(n, 'by.bias1', hidden, `1 to ${MOST_HIDDEN} hidden channels`);
      need('bias1', by.bias1, hidden);
      need('weights1', by.weights1, hidden * sources.length * 2 * headDim);
      need('weights2', by.weights2, 2 * headDim * hidden);
      need('bias2', by.bias2, 2 * headDim);
      break;
    }
    default:
      throw badMap(n, 'by.kind', (by as { kind: unknown }).kind, 'blend, rotate, net');
  }
}

/** Targets must be exact and at rest; sources may be encoded, but their keys must be turned as the target's are. */
function checkRows(c: Content, { item, view, where, sources }: MapJob, n: number): void {
  const { memory, pages } = c.storage;
  for (const [i, target] of item.targets.entries()) {
    ref.load(memory, c.ref(view, where.record[target]!));
    if (!isExactPage(c, ref.page)) throw badMap(n, 'targets', target, 'entries whose rows are exact, not encoded');
    if (pages.fetched.has(ref.page)) throw badMap(n, 'targets', target, 'entries that are not parked');
    const unrotated = isUnrotated(c, ref.layout);
    const { shift } = ref;
    if (unrotated && item.by.kind === 'rotate')
      throw badMap(n, 'by.kind', 'rotate', 'pages with keys after RoPE, to rotate them');
    for (const source of sources) {
      const entry = source.entries[i]!;
      if (entry >= c.entries[source.view]!)
        throw badMap(n, 'sources', entry, `entries 0 to ${c.entries[source.view]! - 1}`);
      ref.load(memory, c.ref(source.view, source.where.record[entry]!));
      if (isUnrotated(c, ref.layout) !== unrotated || (!unrotated && ref.shift !== shift))
        throw badMap(
          n,
          'sources',
          entry,
          `entries whose keys are turned as those of target ${target} (shift ${shift})`,
        );
    }
  }
}

function badMap(n: number, field: string, value: unknown, allowed: string): KvasirError {
  return new KvasirError('invalid_request', `Cannot map: ${field} of item ${n} is ${String(value)}.`, {
    field: `plan[${n}].${field}`,
    value,
    allowed,
  });
}
