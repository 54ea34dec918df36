import type { CacheSequence } from '../../cache/sequence.ts';
import type { ColumnItem, EncodeItem, KeepItem, MapItem, PreparedPlan } from '../../cache/types.ts';
import type {
  Action,
  ColumnAction,
  EncodeAction,
  JoinAction,
  KeepAction,
  MapAction,
  MergeAction,
  ParkAction,
  RenumberAction,
} from '../../methods/types.ts';
import type { RotaryTable } from '../rotary.ts';
import { joinItem } from './join.ts';
import { parkItem } from './park.ts';
import { rangesOf } from './view-rows.ts';

type CacheAction = Exclude<Action, { do: 'rows' }>;

/**
 * Carries out what a method decided: all of it, or nothing where one action cannot be (the sequence's views are then what they
 * were; what the method has written to its state stays). Neighbours of one kind are one plan, prepared together; plans follow
 * one another, each on what those before it have left.
 * @param ropeOf what turns a layer's keys
 * @returns the rows of a RowsAction, or null
 */
export function act(
  sequence: CacheSequence,
  actions: readonly Action[],
  ropeOf: (layer: number) => RotaryTable,
): Uint32Array | null {
  let rows: Uint32Array | null = null;
  const steps: (() => PreparedPlan | undefined)[] = [];
  for (let from = 0; from < actions.length; ) {
    const first = actions[from]!;
    let to = from + 1;
    while (to < actions.length && actions[to]!.do === first.do) to++;
    const plan = actions.slice(from, to);
    if (first.do === 'rows') rows = first.rows;
    else if (first.do !== 'renumber') steps.push(() => prepare(sequence, plan as CacheAction[], ropeOf));
    else for (const { layer } of plan as RenumberAction[]) steps.push(() => void sequence.renumber(layer));
    from = to;
  }
  if (steps.length > 0) sequence.inOrder(steps);
  return rows;
}

function prepare(
  sequence: CacheSequence,
  actions: readonly CacheAction[],
  ropeOf: (layer: number) => RotaryTable,
): PreparedPlan | undefined {
  const of = <A extends CacheAction>(): readonly A[] => actions as readonly A[];
  switch (actions[0]!.do) {
    case 'keep':
      return sequence.prepareKeep(of<KeepAction>().flatMap(keepItems));
    case 'merge':
      return sequence.prepareMerge(of<MergeAction>().map(({ layer, ...rest }) => ({ slot: layer, ...rest })));
    case 'map':
      return sequence.prepareMap(of<MapAction>().map(action => mapItem(action, ropeOf)));
    case 'encode':
      return sequence.prepareEncode(of<EncodeAction>().map(encodeItem));
    case 'join':
      return sequence.prepareJoin(of<JoinAction>().map(action => joinItem(sequence, action)));
    case 'park':
      return sequence.preparePark(of<ParkAction>().map(action => parkItem(sequence, action)));
    case 'column':
      return sequence.prepareColumns(of<ColumnAction>().flatMap(columnItems));
    default:
      return undefined;
  }
}

function mapItem({ layer, head, targets, sources, by }: MapAction, ropeOf: (layer: number) => RotaryTable): MapItem {
  return {
    slot: layer,
    head,
    targets,
    sources: sources.map(source => ({
      slot: source.layer ?? layer,
      head: source.head ?? head,
      entries: source.entries,
    })),
    by: by.kind === 'rotate' ? { kind: 'rotate', turns: ropeOf(layer).turns(by.by) } : by,
  };
}

function columnItems({ layer, name, values }: ColumnAction): ColumnItem[] {
  return values.map((list, head) => ({ slot: layer, head, name, values: list }));
}

function keepItems({ layer, entries }: KeepAction): KeepItem[] {
  return entries.map((kept, head) => ({ slot: layer, head, ranges: rangesOf(kept) }));
}

function encodeItem({ do: _, layer, ...rest }: EncodeAction): EncodeItem {
  return { slot: layer, ...rest };
}
