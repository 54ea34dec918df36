import type { CacheSequence } from '../../cache/sequence.ts';
import type { EncodeItem, KeepItem, PreparedPlan } from '../../cache/types.ts';
import type { Action, EncodeAction, KeepAction, ParkAction } from '../../methods/types.ts';
import { joinItem } from './join.ts';
import { parkItem } from './park.ts';

type CacheAction = Exclude<Action, { do: 'rows' }>;

/**
 * Carries out what a method decided. Actions of one kind are one plan: prepared together, then applied whole or not at all;
 * a method that returns several kinds gets one plan a kind, in their order.
 * @returns the rows of a RowsAction, or null
 */
export function act(sequence: CacheSequence, actions: readonly Action[]): Uint32Array | null {
  let rows: Uint32Array | null = null;
  for (let from = 0; from < actions.length; ) {
    const first = actions[from]!;
    let to = from + 1;
    while (to < actions.length && actions[to]!.do === first.do) to++;
    if (first.do === 'rows') rows = first.rows;
    else actOn(sequence, actions.slice(from, to) as CacheAction[]);
    from = to;
  }
  return rows;
}

function actOn(sequence: CacheSequence, actions: readonly CacheAction[]): void {
  const plan = prepare(sequence, actions);
  if (plan) plan.apply();
  else for (const action of actions) actNow(sequence, action);
}

function prepare(sequence: CacheSequence, actions: readonly CacheAction[]): PreparedPlan | null {
  const of = <A extends CacheAction>(): readonly A[] => actions as readonly A[];
  switch (actions[0]!.do) {
    case 'keep':
      return sequence.prepareKeep(of<KeepAction>().flatMap(keepItems));
    case 'merge':
      return sequence.prepareMerge(
        of<Extract<Action, { do: 'merge' }>>().map(({ layer, ...rest }) => ({ slot: layer, ...rest })),
      );
    case 'encode':
      return sequence.prepareEncode(of<EncodeAction>().map(encodeItem));
    case 'join':
      return sequence.prepareJoin(of<Extract<Action, { do: 'join' }>>().map(action => joinItem(sequence, action)));
    case 'park':
      return sequence.preparePark(of<ParkAction>().map(action => parkItem(sequence, action)));
    default:
      return null;
  }
}

function actNow(sequence: CacheSequence, action: CacheAction): void {
  if (action.do === 'renumber') sequence.renumber(action.layer);
  if (action.do === 'column')
    for (const [head, values] of action.values.entries()) sequence.setColumn(action.layer, head, action.name, values);
}

function keepItems({ layer, entries }: KeepAction): KeepItem[] {
  return entries.map((kept, head) => ({ slot: layer, head, ranges: rangesOf(kept) }));
}

function encodeItem({ do: _, layer, ...rest }: EncodeAction): EncodeItem {
  return { slot: layer, ...rest };
}

/** Ascending entry numbers as pairs (from, to). */
export function rangesOf(entries: Uint32Array): Uint32Array {
  const ranges = new Uint32Array(2 * entries.length);
  let at = 0;
  for (let i = 0; i < entries.length; i++) {
    if (at > 0 && ranges[at - 1] === entries[i]) ranges[at - 1]!++;
    else {
      ranges[at++] = entries[i]!;
      ranges[at++] = entries[i]! + 1;
    }
  }
  return ranges.subarray(0, at);
}
