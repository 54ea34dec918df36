import { KvasirError } from '../errors.ts';
import type { Content } from './content.ts';
import { type EntryRows, entryRows, isExactPage, isUnrotated } from './entry-rows.ts';
import { Ref } from './ref-list.ts';
import type { MergeItem } from './types.ts';

/** A merge item that has been checked. */
export interface MergeJob {
  readonly n: number;
  readonly item: MergeItem;
  readonly view: number;
  readonly where: EntryRows;
}

const ref = new Ref();

/** Checks all of a plan. Raises `invalid_request` naming the first item that is wrong. */
export function checkMerge(c: Content, items: readonly MergeItem[]): MergeJob[] {
  const seen = new Set<number>();
  return items.map((item, n) => {
    const view = c.viewOf(item.slot, item.head);
    if (seen.has(view)) throw badMerge(n, 'head', item.head, 'each view at most once');
    seen.add(view);
    checkArrays(item, n, c.entries[view]!);
    const where = entryRows(c, view);
    checkRows(c, view, item, n, where);
    return { n, item, view, where };
  });
}

function checkArrays(item: MergeItem, n: number, entries: number): void {
  const { targets, starts, members, weightsK, weightsV, bias } = item;
  const groups = targets.length;
  if (item.key !== undefined && item.key !== 'sum' && item.key !== 'direction') {
    throw badMerge(n, 'key', item.key, 'sum, direction');
  }
  if (starts.length !== groups + 1)
    throw badMerge(n, 'starts', starts.length, `${groups + 1} numbers, one a group and the end`);
  if (starts[0] !== 0 || starts[groups] !== members.length) {
    throw badMerge(n, 'starts', `${starts[0]}..${starts[groups]}`, `0 first, ${members.length} last`);
  }
  for (const [field, values] of [
    ['weightsK', weightsK],
    ['weightsV', weightsV],
  ] as const) {
    if (values.length !== members.length) throw badMerge(n, field, values.length, `${members.length} weights`);
    const bad = values.find(value => !Number.isFinite(value));
    if (bad !== undefined) throw badMerge(n, field, bad, 'finite numbers');
  }
  if (bias && bias.length !== groups) throw badMerge(n, 'bias', bias.length, `${groups} numbers`);
  const wrong = bias?.find(value => !Number.isFinite(value));
  if (wrong !== undefined) throw badMerge(n, 'bias', wrong, 'finite numbers');
  const taken = new Uint8Array(entries);
  for (let g = 0; g < groups; g++) {
    if (starts[g + 1]! <= starts[g]!)
      throw badMerge(n, 'starts', starts[g + 1], 'ascending, at least one member a group');
    let holdsTarget = false;
    let sum = 0;
    for (let m = starts[g]!; m < starts[g + 1]!; m++) {
      const entry = members[m]!;
      if (entry >= entries || taken[entry])
        throw badMerge(n, 'members', entry, `entries 0 to ${entries - 1}, each once`);
      taken[entry] = 1;
      if (entry === targets[g]) holdsTarget = true;
      sum += weightsK[m]!;
    }
    if (!holdsTarget) throw badMerge(n, 'targets', targets[g], `one of the members of group ${g}`);
    if (item.key === 'direction' && sum === 0) throw badMerge(n, 'weightsK', 0, `a sum other than 0 in group ${g}`);
  }
}

/** Rows must be exact, and of one group turned alike. */
function checkRows(c: Content, view: number, item: MergeItem, n: number, { record }: EntryRows): void {
  const { layouts, memory, pages } = c.storage;
  for (let g = 0; g < item.targets.length; g++) {
    let shift = 0;
    for (let m = item.starts[g]!; m < item.starts[g + 1]!; m++) {
      const entry = item.members[m]!;
      ref.load(memory, c.ref(view, record[entry]!));
      if (!isExactPage(c, ref.page)) throw badMerge(n, 'members', entry, 'entries whose rows are exact, not encoded');
      if (pages.fetched.has(ref.page)) throw badMerge(n, 'members', entry, 'entries that are not parked');
      if (m === item.starts[g]) shift = ref.shift;
      if (ref.shift !== shift && !isUnrotated(c, ref.layout)) {
        throw badMerge(n, 'members', entry, `entries at one shift (${shift}) in group ${g}, as their keys are turned`);
      }
      if (item.bias && entry === item.targets[g] && !layouts.get(ref.layout).columns.has('bias')) {
        throw badMerge(n, 'bias', item.bias[g], 'pages with a column named bias');
      }
    }
  }
}

function badMerge(n: number, field: string, value: unknown, allowed: string): KvasirError {
  return new KvasirError('invalid_request', `Cannot merge: ${field} of item ${n} is ${String(value)}.`, {
    field: `plan[${n}].${field}`,
    value,
    allowed,
  });
}
