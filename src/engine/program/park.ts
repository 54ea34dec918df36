import type { CacheSequence } from '../../cache/sequence.ts';
import type { ParkItem, UnitIndexItem } from '../../cache/types.ts';
import type { ParkAction, UnitIndex } from '../../methods/types.ts';

/** What is to be parked, with the keys that its units are known by. */
export function parkItem(sequence: CacheSequence, { do: _, layer, index, ...rest }: ParkAction): ParkItem {
  return { slot: layer, ...rest, ...(index && { index: indexOf(sequence, layer, rest.head, index) }) };
}

function indexOf(sequence: CacheSequence, layer: number, head: number, index: UnitIndex): UnitIndexItem {
  if (index.kind !== 'representatives') return index;
  const { headDim } = sequence.cache.shape;
  const all = sequence.readKeys(layer, head, 0, sequence.entries(layer, head));
  const keys = new Float32Array(index.entries.length * headDim);
  for (const [unit, entries] of index.entries.entries()) {
    const sum = new Float64Array(headDim);
    for (const entry of entries) for (let c = 0; c < headDim; c++) sum[c]! += all[entry * headDim + c]!;
    keys.set(
      sum.map(value => value / entries.length),
      unit * headDim,
    );
  }
  return { kind: 'given', keys };
}
