import type { CacheLayer, ParkAction } from '../types.ts';

/** Rows of a later prompt that read the same units: about a question's, so that each of them has a say. */
export const PROMPT_WINDOW = 32;

/** Resident entries of a view between sinks and buffer. What has been fetched is parked already and is not among the exact rows. */
export function movable(at: CacheLayer, head: number, sinks: number, recent: number): Uint32Array {
  const exact = at.exact(head).flatMap(([from, to]) => Array.from({ length: to - from }, (_, i) => from + i));
  return Uint32Array.from(exact.slice(sinks, Math.max(sinks, exact.length - recent)));
}

/** Whole stretches of `size` entries; what is left over waits. */
export function stretches(entries: Uint32Array, size: number): Uint32Array[] {
  return Array.from({ length: Math.floor(entries.length / size) }, (_, u) => entries.slice(u * size, (u + 1) * size));
}

/** Parks units of each head that has any. */
export function parkHeads(
  at: CacheLayer,
  units: (head: number) => Uint32Array[],
  how: Pick<ParkAction, 'place' | 'memory'>,
  index?: (units: readonly Uint32Array[]) => ParkAction['index'],
): ParkAction[] {
  return Array.from({ length: at.model.kvHeads }, (_, head): ParkAction => {
    const mine = units(head);
    const known = index?.(mine);
    return { do: 'park', layer: at.layer, head, units: mine, ...how, ...(known && { index: known }) };
  }).filter(action => action.units.length > 0);
}
