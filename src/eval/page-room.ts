import { PAGE_TOKENS } from '../../kernels/abi.ts';
import type { CacheSequence } from '../cache/sequence.ts';
import type { ModelShape } from '../methods/types.ts';

/** Rows until the first page of any view is full: recipes that look at no step act then at the earliest. */
export function roomInPages(sequence: CacheSequence, { layers, kvHeads }: ModelShape): number {
  let room = PAGE_TOKENS;
  for (let layer = 0; layer < layers; layer++)
    for (let head = 0; head < kvHeads; head++)
      room = Math.min(room, PAGE_TOKENS - (sequence.entries(layer, head) % PAGE_TOKENS));
  return room;
}
