import { KvasirError } from '../errors.ts';
import type { Content } from './content.ts';
import { isExact, type PlaneFormat } from './format.ts';
import type { CellLayout } from './layout.ts';
import { internShared, type SharedEntry } from './shared-blocks.ts';
import { type EncodeItem, FORMAT_NAMES, type SharedBlock } from './types.ts';

/** An item of an encode plan, checked as far as it can be without looking at pages. */
export interface EncodeJob {
  readonly n: number;
  readonly view: number;
  readonly slot: number;
  readonly from: number;
  readonly to: number;
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

  layout(formatK: PlaneFormat, formatV: PlaneFormat, like: CellLayout): CellLayout {
    const { layouts } = this.#content.storage;
    const { keysUnrotated, columns } = like;
    const layout = layouts.hold({ formatK, formatV, keysUnrotated, columns: [...columns.keys()] });
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

/** By view, ascending and disjoint. Raises `invalid_request` naming the first item that is wrong. */
export function checkItems(c: Content, items: readonly EncodeItem[], holds: Holds): Map<number, EncodeJob[]> {
  const { layouts } = c.storage;
  const byView = new Map<number, EncodeJob[]>();
  for (const [n, item] of items.entries()) {
    const view = c.viewOf(item.slot, item.head);
    const { from, to } = item;
    if (!(Number.isInteger(from) && Number.isInteger(to) && from >= 0 && from <= to && to <= c.entries[view]!)) {
      throw badItem(n, 'from', `${from}..${to}`, `a range of entries within 0..${c.entries[view]}`);
    }
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
    const { slot, k, v } = item;
    const sharedK = block('k', item.sharedK);
    const sharedV = block('v', item.sharedV);
    if (from === to) continue;
    const jobs = byView.get(view);
    const job = { n, view, slot, from, to, k, v, sharedK, sharedV };
    if (jobs) jobs.push(job);
    else byView.set(view, [job]);
  }
  for (const jobs of byView.values()) {
    jobs.sort((a, b) => a.from - b.from);
    for (const [i, job] of jobs.entries()) {
      const before = jobs[i - 1];
      if (before && before.to > job.from)
        throw badItem(job.n, 'from', job.from, 'ranges of a view that do not overlap');
    }
  }
  return byView;
}

export function badItem(n: number, field: string, value: unknown, allowed: string): KvasirError {
  return new KvasirError('invalid_request', `Cannot encode: ${field} of item ${n} is ${String(value)}.`, {
    field: `plan[${n}].${field}`,
    value,
    allowed,
  });
}
