import { PAGE_TOKENS } from '../../kernels/abi.ts';
import type { Content } from './content.ts';
import { isExact } from './format.ts';
import { Ref } from './ref-list.ts';
import type { Ranges } from './types.ts';

const ref = new Ref();

/** Ranges of a view's entries whose records fit, neighbours joined; rows that were fetched fit nothing. */
function ranges(c: Content, view: number, fits: (ref: Ref) => boolean): Ranges {
  const { fetched } = c.storage.pages;
  const found: [number, number][] = [];
  let entry = 0;
  for (let i = 0; i < c.refs[view]!; i++) {
    ref.load(c.storage.memory, c.ref(view, i));
    const end = entry + ref.live;
    const last = found.at(-1);
    if (!fetched.has(ref.page) && fits(ref)) {
      if (last && last[1] === entry) last[1] = end;
      else found.push([entry, end]);
    }
    entry = end;
  }
  return found;
}

/** See CacheSequence.exactRanges. */
export function exactRanges(c: Content, view: number): Ranges {
  const { layouts } = c.storage;
  return ranges(c, view, ({ layout }) => layouts.get(layout).kind === 'exact');
}

/** See CacheSequence.fullPageRanges. */
export function fullPageRanges(c: Content, view: number, plane?: 'k' | 'v'): Ranges {
  const { layouts } = c.storage;
  const exact = (id: number) => {
    const { kind, formatK, formatV } = layouts.get(id);
    return plane ? isExact(plane === 'k' ? formatK : formatV) : kind === 'exact';
  };
  return ranges(c, view, ref => ref.live === PAGE_TOKENS && exact(ref.layout));
}
