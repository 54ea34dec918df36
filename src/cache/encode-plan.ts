import { KvasirError } from '../errors.ts';
import type { Content } from './content.ts';
import { isExact, type PlaneFormat } from './format.ts';
import type { CellLayout } from './layout.ts';
import { internShared, type SharedEntry } from './shared-blocks.ts';
import { type EncodedEntries, type EncodedRange, type EncodeItem, FORMAT_NAMES, type SharedBlock } from './types.ts';

/** An item of an encode plan, checked as far as it can be without looking at pages. */
export interface EncodeJob {
  readonly n: number;
  readonly view: number;
  readonly slot: number;
  /** Pairs (from, to) of entry numbers, ascending, disjoint, none empty. */
  readonly ranges: Uint32Array;
  /** Single entries: their pages stand before what is left of the view. */
  readonly single: boolean;
  readonly again: boolean;
  readonly without: readonly string[];
  readonly k: PlaneFormat | undefined;
  readonly v: PlaneFormat | undefined;
  readonly sharedK: SharedEntry | null;
  readonly sharedV: SharedEntry | null;
}

/** What a plan holds while it is being made; `release` ends it, made or failed. */
export class Holds {
  readonly #content: Content;
  readonly #layouts: number[] = [];
  readonly #shared: SharedEntry[] = [];

  constructor(content: Content) {
    this.#content = content;
  }

  /** @param without columns of `like` that the layout goes without */
  layout(formatK: PlaneFormat, formatV: PlaneFormat, like: CellLayout, without: readonly string[] = []): CellLayout {
    const { layouts } = this.#content.storage;
    const { keysUnrotated } = like;
    const columns = [...like.columns.keys()].filter(name => !without.includes(name));
    const layout = layouts.hold({ formatK, formatV, keysUnrotated, columns });
    this.#layouts.push(layout.id);
    return layout;
  }

  shared(block: SharedBlock, length: number, field: string): SharedEntry {
    const entry = internShared(this.#content, block, length, field);
    this.#shared.push(entry);
    return entry;
  }

  release(): void {
    const { layouts, shared } = this.#content.storage;
    for (const id of this.#layouts) layouts.release(id);
    for (const entry of this.#shared) shared.release(entry);
  }
}

/** By view, in the order of the items; entries are disjoint. Raises `invalid_request` naming the first item that is wrong. */
export function checkItems(c: Content, items: readonly EncodeItem[], holds: Holds): Map<number, EncodeJob[]> {
  const { layouts } = c.storage;
  const byView = new Map<number, EncodeJob[]>();
  for (const [n, item] of items.entries()) {
    const view = c.viewOf(item.slot, item.head);
    const ranges = 'entries' in item ? singleRanges(n, item, c.entries[view]!) : wholeRange(n, item, c.entries[view]!);
    const single = 'entries' in item;
    if (single && (item.k === undefined || item.v === undefined))
      throw badItem(n, item.k ? 'v' : 'k', undefined, 'a format for k and v where single entries are named');
    if (item.k === undefined && item.v === undefined) throw badItem(n, 'k', undefined, 'a format for k, v or both');
    const block = (plane: 'k' | 'v', shared: SharedBlock | undefined): SharedEntry | null => {
      const format = item[plane];
      const field = plane === 'k' ? 'sharedK' : 'sharedV';
      const known =
        format === undefined || (isExact(format) ? FORMAT_NAMES.includes(format) : format?.kind === 'scalar');
      if (!known) throw badItem(n, plane, isExact(format) ? format : format?.kind, 'an exact or a scalar format');
      const values = format === undefined ? 0 : layouts.sharedValues(format, plane, `plan[${n}].${plane}`);
      if (values > 0 !== (shared !== undefined)) {
        throw badItem(
          n,
          field,
          shared?.key,
          values > 0 ? `${values} values` : 'none: the format has no shared parameters',
        );
      }
      return shared ? holds.shared(shared, values, `plan[${n}].${field}`) : null;
    };
    const { slot, k, v, again = false, without = [] } = item;
    const sharedK = block('k', item.sharedK);
    const sharedV = block('v', item.sharedV);
    if (ranges.length === 0) continue;
    const jobs = byView.get(view);
    const job = { n, view, slot, ranges, single, again, without, k, v, sharedK, sharedV };
    if (jobs) jobs.push(job);
    else byView.set(view, [job]);
  }
  for (const jobs of byView.values()) checkDisjoint(jobs);
  return byView;
}

function wholeRange(n: number, { from, to }: EncodedRange, entries: number): Uint32Array {
  if (!(Number.isInteger(from) && Number.isInteger(to) && from >= 0 && from <= to && to <= entries)) {
    throw badItem(n, 'from', `${from}..${to}`, `a range of entries within 0..${entries}`);
  }
  return from === to ? new Uint32Array() : Uint32Array.of(from, to);
}

function singleRanges(n: number, { entries: list }: EncodedEntries, entries: number): Uint32Array {
  const ranges: number[] = [];
  for (const [i, entry] of list.entries()) {
    if (entry >= entries || (i > 0 && entry <= list[i - 1]!))
      throw badItem(n, 'entries', entry, `ascending numbers below ${entries}`);
    if (ranges.at(-1) === entry) ranges[ranges.length - 1]!++;
    else ranges.push(entry, entry + 1);
  }
  return Uint32Array.from(ranges);
}

function checkDisjoint(jobs: readonly EncodeJob[]): void {
  const all = jobs.flatMap(job =>
    Array.from({ length: job.ranges.length / 2 }, (_, i) => ({
      job,
      from: job.ranges[2 * i]!,
      to: job.ranges[2 * i + 1]!,
    })),
  );
  all.sort((a, b) => a.from - b.from);
  for (const [i, { job, from }] of all.entries()) {
    if (i === 0 || all[i - 1]!.to <= from) continue;
    throw badItem(job.n, job.single ? 'entries' : 'from', from, 'entries of a view that no other item names');
  }
}

export function badItem(n: number, field: string, value: unknown, allowed: string): KvasirError {
  return new KvasirError('invalid_request', `Cannot encode: ${field} of item ${n} is ${String(value)}.`, {
    field: `plan[${n}].${field}`,
    value,
    allowed,
  });
}
