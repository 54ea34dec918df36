import type { CacheSequence } from '../../cache/sequence.ts';
import { boundsOf } from '../../cache/unit-index.ts';
import type { UnitKeys } from './score.ts';

/** Bounds of a view's runs of so many entries. A plain object: it is kept with the sequence and forks with it. */
export interface RunIndex {
  /** CacheSequence.edits when it was computed: runs that stood then stand while that is so. */
  edits: number;
  count: number;
  /** f32 [count or more][2 * headDim] */
  bounds: Float32Array;
}

export function runIndex(): RunIndex {
  return { edits: -1, count: 0, bounds: new Float32Array() };
}

/**
 * Brings the index up to date: the whole runs among the first `entries` entries of a view.
 * @returns whether its size has changed
 */
export function updateRuns(
  index: RunIndex,
  sequence: CacheSequence,
  layer: number,
  head: number,
  size: number,
  entries: number,
): boolean {
  const { headDim } = sequence.cache.shape;
  const width = 2 * headDim;
  const count = Math.floor(entries / size);
  if (index.edits !== sequence.edits || count < index.count) index.count = 0;
  index.edits = sequence.edits;
  if (count === index.count) return false;
  const before = index.bounds.length;
  if (before < count * width) {
    const grown = new Float32Array(Math.max(count, 2 * index.count) * width);
    grown.set(index.bounds.subarray(0, index.count * width));
    index.bounds = grown;
  }
  const keys = sequence.readKeys(layer, head, index.count * size, count * size);
  for (let run = index.count; run < count; run++) {
    const from = (run - index.count) * size;
    index.bounds.set(boundsOf(keys, headDim, from, from + size), run * width);
  }
  index.count = count;
  return index.bounds.length !== before;
}

/** Groups of `units` neighbouring runs: the bounds of all their keys; the last may have fewer. */
export function groupRuns({ count, bounds }: RunIndex, units: number, headDim: number): UnitKeys {
  if (units === 1) return { count, index: bounds };
  const width = 2 * headDim;
  const groups = Math.ceil(count / units);
  const index = new Float32Array(groups * width);
  for (let group = 0; group < groups; group++) {
    const first = group * units;
    index.set(bounds.subarray(first * width, (first + 1) * width), group * width);
    for (let run = first + 1; run < Math.min(count, first + units); run++)
      for (let c = 0; c < headDim; c++) {
        const [least, greatest] = [group * width + c, group * width + headDim + c];
        index[least] = Math.min(index[least]!, bounds[run * width + c]!);
        index[greatest] = Math.max(index[greatest]!, bounds[run * width + headDim + c]!);
      }
  }
  return { count: groups, index };
}
