import type { AttentionSignal } from '../types.ts';

export interface WindowOptions {
  readonly window: number;
  readonly pool: 'mean' | 'max';
  readonly width: number;
  readonly group: 'mean' | 'sum' | 'max';
}

/**
 * What the last `window` queries gave to the entries before them: reduced over those queries, pooled along entries, then over
 * the query heads of a group.
 */
export function windowScore(
  { window, pool: kind, width, group }: WindowOptions,
  reduce: 'sum' | 'mean' = 'mean',
  after?: 'group',
): AttentionSignal {
  return {
    signal: 'attention',
    rows: window,
    reduce,
    drop: window,
    group,
    ...(width > 1 && { pool: { kind, width, ...(after && { after }) } }),
  };
}
