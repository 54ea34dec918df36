import type { Kernels } from '../../backend/types.ts';
import type { CacheSequence } from '../../cache/sequence.ts';
import type { Nearest, NearestSignal } from '../../methods/types.ts';
import { NearestSearch } from './nearest-search.ts';
import { readRows } from './rows.ts';
import { Space } from './space.ts';

/** The entries of one view that are most alike to others (NearestSignal): keys or values as stored. */
export function nearestEntries(
  kernels: Kernels,
  sequence: CacheSequence,
  layer: number,
  head: number,
  request: NearestSignal,
): Nearest {
  const centres = request.centres[head]!;
  const members = request.members[head]!;
  const { headDim: width } = sequence.cache.shape;
  const { memory } = kernels;
  const cosine = new Float32Array(members.length);
  if (members.length === 0) return { place: new Uint32Array(0), cosine };
  const space = new Space(memory);
  try {
    const entries = sequence.entries(layer, head);
    const rows = space.alloc(entries * width * 4);
    const x = space.alloc(members.length * width * 4);
    const search = new NearestSearch(kernels, space, members.length, width, centres.length);
    readRows(kernels, sequence, layer, head, request.of, 0, entries, rows);
    const row = (entry: number) => memory.f32.subarray(rows / 4 + entry * width, rows / 4 + (entry + 1) * width);
    for (const [j, entry] of centres.entries()) {
      const inverse = inverseNorm(row(entry));
      search.setCentroid(
        j,
        row(entry).map(value => value * inverse),
        0,
      );
    }
    // A row's length changes nothing about which product is the greatest.
    for (const [i, entry] of members.entries()) memory.f32.set(row(entry), x / 4 + i * width);
    search.run(x);
    const place = search.found.slice();
    for (const [i, entry] of members.entries()) {
      const [a, b] = [row(entry), row(centres[place[i]!]!)];
      let dot = 0;
      for (let c = 0; c < width; c++) dot += a[c]! * b[c]!;
      cosine[i] = Math.max(-1, Math.min(1, dot * inverseNorm(a) * inverseNorm(b)));
    }
    return { place, cosine };
  } finally {
    space.free();
  }
}

/** 0 where the row is zero. */
function inverseNorm(row: Float32Array): number {
  let square = 0;
  for (let c = 0; c < row.length; c++) square += row[c]! * row[c]!;
  return square > 0 ? 1 / Math.sqrt(square) : 0;
}
