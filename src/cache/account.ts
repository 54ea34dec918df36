import { REF_BYTES } from '../../kernels/abi.ts';
import { blockBytes } from './arrays.ts';
import { Content } from './content.ts';
import { PAGE_ENTRY_BYTES } from './pages.ts';
import { POSITIONS_HELD } from './positions.ts';

export interface Reach {
  /** Bytes reachable from the sequence, shared pages whole. */
  readonly held: number;
  /** Bytes that freeing it alone would give back. */
  readonly unique: number;
}

/** Walks all references of a sequence. Shared pages are told apart by counting: a page is its own where it holds all references. */
export function measure(c: Content): Reach {
  const { pages, blocks, shape } = c.storage;
  const epoch = ++c.storage.epoch;
  let held = 0;
  let unique = 0;
  const own = Content.baseBytes(shape) + c.stateBytes;
  for (let view = 0; view < c.refs.length; view++) {
    const list = blockBytes(c.capacity[view]! * REF_BYTES);
    held += list;
    unique += list;
    const records = c.refs[view]! + c.prepared[view]!;
    for (let i = 0; i < records; i++) {
      const page = c.pageAt(view, i);
      const block = pages.positions[page]!;
      if (pages.stamp[page] !== epoch) {
        pages.stamp[page] = epoch;
        pages.seen[page] = 0;
        held += pages.bytes[page]! + PAGE_ENTRY_BYTES;
        if (blocks.stamp[block] !== epoch) {
          blocks.stamp[block] = epoch;
          blocks.seen[block] = 0;
          held += POSITIONS_HELD;
        }
      }
      if (++pages.seen[page]! < pages.refs[page]!) continue;
      unique += pages.bytes[page]! + PAGE_ENTRY_BYTES;
      if (++blocks.seen[block]! === blocks.refs[block]) unique += POSITIONS_HELD;
    }
  }
  return { held: held + own, unique: unique + own };
}

/** To be called before bytes are given up, so that the peak of a sequence is known without counting at every append. */
export function notePeak(c: Content, extra = 0): void {
  c.peak = Math.max(c.peak, measure(c).held + extra);
}
