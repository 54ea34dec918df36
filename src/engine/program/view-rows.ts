import type { CacheSequence } from '../../cache/sequence.ts';
import type { JoinAction } from '../../methods/types.ts';
import { readRows } from '../sense/rows.ts';

/** Decodes the given entries of a view, ascending, keys or values as stored, to f32 [entries][headDim] at an address. */
export function readEntries(
  sequence: CacheSequence,
  { layer, head }: JoinAction['views'][number],
  entries: Uint32Array,
  of: 'k' | 'v',
  address: number,
): void {
  const { kernels, shape } = sequence.cache;
  const ranges = rangesOf(entries);
  for (let i = 0, to = address; i < ranges.length; i += 2) {
    const [first, end] = [ranges[i]!, ranges[i + 1]!];
    readRows(kernels, sequence, layer, head, of, first, end, to);
    to += (end - first) * shape.headDim * 4;
  }
}

/** Ascending entry numbers as pairs (from, to). */
export function rangesOf(entries: Uint32Array): Uint32Array {
  const ranges = new Uint32Array(2 * entries.length);
  let at = 0;
  for (let i = 0; i < entries.length; i++) {
    if (at > 0 && ranges[at - 1] === entries[i]) ranges[at - 1]!++;
    else {
      ranges[at++] = entries[i]!;
      ranges[at++] = entries[i]! + 1;
    }
  }
  return ranges.subarray(0, at);
}
