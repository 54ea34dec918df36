import { LAYOUT_HEADER, LAYOUT_K, LAYOUT_V } from './abi.ts';

/** Where the parts of scalar and latent planes lie (LAYOUT_HEADER). */

/** What the offsets of a scalar plane count from: the cell, unless its header names another place. */
export function planeBase(cell: usize, layout: usize, isK: bool): usize {
  const outside = headerWord(cell, layout, isK ? 0 : 8);
  return outside ? outside : cell;
}

/** Shared rows of a latent plane. */
export function latentRows(cell: usize, layout: usize, isK: bool): usize {
  const outside = headerWord(cell, layout, isK ? 0 : 8);
  return outside ? outside : cell + load<i32>(layout + (isK ? LAYOUT_K : LAYOUT_V));
}

/** The parameter block: shared scales, offsets and side factors, or a latent basis. 0: none. */
export function planeBlock(cell: usize, layout: usize, isK: bool): usize {
  return headerWord(cell, layout, isK ? 4 : 12);
}

function headerWord(cell: usize, layout: usize, at: usize): usize {
  const header = load<i32>(layout, LAYOUT_HEADER);
  return header ? (load<u32>(cell + (header - 1) + at) as usize) : 0;
}
