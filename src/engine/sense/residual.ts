import type { Kernels } from '../../backend/types.ts';
import type { CacheSequence } from '../../cache/sequence.ts';
import type { ResidualSignal } from '../../methods/types.ts';
import { readRows } from './rows.ts';
import { Space } from './space.ts';

/** A row whose rest is smaller than this share of it lies in the span of those before. */
const DEPENDENT = 1e-6;

/** What the span of some entries of one view leaves of others (ResidualSignal): keys or values as stored. f32 [members]. */
export function residuals(
  kernels: Kernels,
  sequence: CacheSequence,
  layer: number,
  head: number,
  request: ResidualSignal,
): Float32Array {
  const basis = request.basis[head]!;
  const members = request.members[head]!;
  if (members.length === 0) return new Float32Array(0);
  const { headDim: width } = sequence.cache.shape;
  const { memory } = kernels;
  const space = new Space(memory);
  try {
    const entries = sequence.entries(layer, head);
    const address = space.alloc(entries * width * 4);
    readRows(kernels, sequence, layer, head, request.of, 0, entries, address);
    const rows = memory.f32.subarray(address / 4, address / 4 + entries * width);
    const row = (entry: number) => Float64Array.from(rows.subarray(entry * width, (entry + 1) * width));
    const vectors = request.choose === 'first' ? basis.subarray(0, request.rank) : basis;
    const directions = orthonormal(Array.from(vectors, row), Math.min(request.rank, width), request.choose);
    return Float32Array.from(members, entry => Math.sqrt(square(without(row(entry), directions))));
  } finally {
    space.free();
  }
}

/**
 * Gram-Schmidt, each row orthogonalised twice so that nearly dependent rows lose no accuracy. Takes rows in their order, or
 * always the one of which most is left (QR with column pivoting).
 */
function orthonormal(rows: readonly Float64Array[], rank: number, choose: ResidualSignal['choose']): Float64Array[] {
  const directions: Float64Array[] = [];
  const add = (row: Float64Array) => {
    const whole = square(row);
    const rest = square(without(without(row, directions), directions));
    if (rest <= DEPENDENT ** 2 * whole) return;
    directions.push(row.map(x => x / Math.sqrt(rest)));
  };
  if (choose === 'first') for (const row of rows) add(row);
  else {
    const left = rows.map(row => row.slice());
    const smallest = DEPENDENT ** 2 * Math.max(0, ...rows.map(square));
    while (directions.length < rank) {
      const squares = left.map(square);
      const most = squares.reduce((best, x, i) => (x > squares[best]! ? i : best), 0);
      if (!(squares[most]! > smallest)) break;
      add(left[most]!.slice());
      left[most]!.fill(0);
      const last = directions.slice(-1);
      for (const row of left) without(row, last);
    }
  }
  return directions;
}

/** Takes from `row`, in place, its part along each of some orthonormal directions. */
function without(row: Float64Array, directions: readonly Float64Array[]): Float64Array {
  for (const direction of directions) {
    let along = 0;
    for (let c = 0; c < row.length; c++) along += row[c]! * direction[c]!;
    for (let c = 0; c < row.length; c++) row[c]! -= along * direction[c]!;
  }
  return row;
}

function square(row: Float64Array): number {
  let sum = 0;
  for (const x of row) sum += x * x;
  return sum;
}
