import type { ScalarFormat } from '../../cache/format.ts';
import type { CacheLayer, EncodeAction } from '../types.ts';
import { exactBlocks, pagesWithin, without } from './due.ts';

/** What is due of a view: the first `k` entries' keys in one format, the first `v` entries' values in another. */
export interface Due {
  readonly k: number;
  readonly v: number;
}

/**
 * Encodes what is due and still exact, in all heads of a layer. Rows of which both planes are due go together, in blocks of whole
 * pages; where one plane is ahead of the other, or is to stay exact, it goes page by page. What is encoded is never encoded again.
 */
export function encodeDue(
  at: CacheLayer,
  formats: { readonly k?: ScalarFormat; readonly v?: ScalarFormat },
  dueOf: (entries: number) => Due,
): EncodeAction[] {
  const { k, v } = formats;
  return Array.from({ length: at.model.kvHeads }, (_, head): EncodeAction[] => {
    const due = dueOf(at.entries(head));
    const common = { do: 'encode', layer: at.layer, head } as const;
    if (!k || !v) {
      const plane = k ? 'k' : 'v';
      const format = k ?? v;
      if (!format) return [];
      return pagesWithin(at, head, 0, due[plane], plane).map(([from, to]) => ({
        ...common,
        from,
        to,
        [plane]: format,
      }));
    }
    const both = exactBlocks(at, head, 0, Math.min(due.k, due.v));
    const done = both.at(-1)?.[1] ?? 0;
    const onlyK = pagesWithin(at, head, Math.max(done, due.v), due.k);
    const onlyV = without(pagesWithin(at, head, 0, due.v, 'v'), at.exact(head));
    return [
      ...both.map(([from, to]) => ({ ...common, from, to, k, v })),
      ...onlyK.map(([from, to]) => ({ ...common, from, to, k })),
      ...onlyV.map(([from, to]) => ({ ...common, from, to, v })),
    ];
  }).flat();
}
