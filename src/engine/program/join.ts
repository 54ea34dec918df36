import type { CacheSequence } from '../../cache/sequence.ts';
import type { JoinItem } from '../../cache/types.ts';
import type { JoinAction, JoinPlane } from '../../methods/types.ts';
import { directions } from './join-directions.ts';
import { projected } from './join-projection.ts';

/** Computes the rows that the views of a join are to share; own ones are left where they lie. */
export function joinItem(sequence: CacheSequence, action: JoinAction): JoinItem {
  const plane = (spec: JoinPlane, of: 'k' | 'v') => {
    if (spec.kind === 'own') return { format: spec.format };
    return spec.kind === 'directions' ? directions(sequence, action, spec, of) : projected(sequence, action, spec, of);
  };
  return {
    views: action.views.map(({ layer, head }) => ({ slot: layer, head })),
    entries: action.entries,
    k: plane(action.k, 'k'),
    v: plane(action.v, 'v'),
  };
}
