import type { Memory } from '../../backend/types.ts';
import { rowsOfShares } from '../../methods/row-shares.ts';
import type { RowShares, SignalRequest } from '../../methods/types.ts';
import type { Space } from './space.ts';
import type { QueryRows } from './types.ts';

/** Rows of a prompt, ascending, whose queries the requests are about. */
export function askedRows(requests: Iterable<SignalRequest>, rows: number, seed: number): Uint32Array {
  let last = 0;
  const single = new Set<number>();
  for (const request of requests) {
    if (request.signal === 'ranges' && request.of === 'q') last = rows;
    if (request.signal !== 'attention' || request.from === 'probe') continue;
    if (request.rows === 'all') last = rows;
    else if (typeof request.rows === 'number') last = Math.max(last, Math.min(rows, request.rows));
    else for (const row of rowsOfShares(request.rows, rows, seed)) single.add(row);
  }
  for (let row = rows - last; row < rows; row++) single.add(row);
  return Uint32Array.from(single).sort();
}

/** Rows of the prompt that a record of its queries is about. */
export function promptRows({ of, rows }: QueryRows): number {
  return of ?? rows;
}

/** Which rows of the record stand for shares of the prompt's rows: their indices, ascending. */
export function indicesOf(shares: RowShares, queries: QueryRows, seed: number): Uint32Array {
  const rows = rowsOfShares(shares, promptRows(queries), seed);
  const { numbers } = queries;
  return numbers ? rows.map(row => numbers.indexOf(row)) : rows;
}

/** Some rows of a record, copied side by side. */
export function gatherQueries(
  memory: Memory,
  { address, positions }: QueryRows,
  indices: Uint32Array,
  width: number,
  space: Space,
): QueryRows {
  const to = space.alloc(indices.length * width * 4);
  const { f32 } = memory;
  for (const [i, index] of indices.entries()) {
    const from = address / 4 + index * width;
    f32.copyWithin(to / 4 + i * width, from, from + width);
  }
  return { address: to, rows: indices.length, positions: Int32Array.from(indices, index => positions[index]!) };
}

/**
 * How many of the rows can see each entry: those at or after its position, within the window of the layer.
 * @param rows ascending positions
 * @param window 0: none
 */
export function seenBy(positions: Int32Array, rows: Int32Array, window: number): Uint32Array {
  const ascending = rows.every((position, i) => i === 0 || position >= rows[i - 1]!) ? rows : rows.slice().sort();
  const before = (position: number) => {
    let [low, high] = [0, ascending.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (ascending[middle]! < position) low = middle + 1;
      else high = middle;
    }
    return low;
  };
  return Uint32Array.from(positions, position => {
    const end = window > 0 ? before(position + window) : ascending.length;
    return end - before(position);
  });
}
