import {
  KIND_READ,
  PAGE_TOKENS,
  READ_BYTES,
  READ_CELL,
  READ_COUNT,
  READ_FIRST,
  READ_K,
  READ_LAYOUT,
  READ_LAYOUTS,
  READ_V,
} from '../../kernels/abi.ts';
import type { Storage } from './content.ts';
import type { Bytes, RowBytes } from './row-bytes.ts';

/** What the units of a view are known by. `given` rows are not computed anew where a unit loses rows. */
export interface IndexShape {
  readonly kind: 'mean' | 'bounds' | 'given';
  /** How often a unit can be halved: it has 2^halvings pieces. */
  readonly halvings: number;
}

/** Floats of a unit's row of the index: a key, or the least values of its channels and then the greatest. */
export function indexWidth({ kind }: IndexShape, headDim: number): number {
  return kind === 'bounds' ? 2 * headDim : headDim;
}

/** Bytes of the bounds of a unit's halves, quarters, ... that lie behind its rows. */
export function finerBytes(halvings: number, headDim: number): number {
  return (2 ** (halvings + 1) - 2) * 2 * headDim * 4;
}

/** Where those of pieces of a level (1 to halvings) begin among them. */
export function levelOffset(level: number, headDim: number): number {
  return (2 ** level - 2) * 2 * headDim * 4;
}

/** First row of piece `piece` of 2^level of a unit. */
export function pieceStart(rows: number, level: number, piece: number): number {
  return Math.floor((piece * rows) / 2 ** level);
}

/** Keys of some stored rows as they are stored: f32 [rows, headDim]. Decoded by the kernels from a cell of its own; may raise `memory_limit`. */
export function decodeKeys(storage: Storage, rowBytes: RowBytes, bytes: Bytes, rows: ArrayLike<number>): Float32Array {
  const { memory, kernels, layouts, shape } = storage;
  const { headDim } = shape;
  const keys = new Float32Array(rows.length * headDim);
  const { cellBytes } = layouts.get(rowBytes.layout);
  const plane = PAGE_TOKENS * headDim * 4;
  const work = memory.alloc(cellBytes + plane + READ_BYTES);
  try {
    const out = work + cellBytes;
    const at = (out + plane) >>> 2;
    for (let from = 0; from < rows.length; from += PAGE_TOKENS) {
      const count = Math.min(PAGE_TOKENS, rows.length - from);
      for (let row = 0; row < count; row++) rowBytes.put(work, row, bytes, rows[from + row]! * rowBytes.size);
      const { u32, f32 } = memory;
      u32[at + READ_CELL / 4] = work;
      u32[at + READ_LAYOUT / 4] = rowBytes.layout;
      u32[at + READ_FIRST / 4] = 0;
      u32[at + READ_COUNT / 4] = count;
      u32[at + READ_K / 4] = out;
      u32[at + READ_V / 4] = 0;
      u32[at + READ_LAYOUTS / 4] = layouts.address;
      kernels.run(KIND_READ, out + plane, 1);
      keys.set(f32.subarray(out / 4, out / 4 + count * headDim), from * headDim);
    }
  } finally {
    memory.free(work, cellBytes + plane + READ_BYTES);
  }
  return keys;
}

/** Mean of rows [from, to) of f32 [rows, headDim], summed in float64. */
export function meanOf(keys: Float32Array, headDim: number): Float32Array {
  const rows = keys.length / headDim;
  const sum = new Float64Array(headDim);
  for (let i = 0; i < keys.length; i++) sum[i % headDim]! += keys[i]!;
  return Float32Array.from(sum, value => value / rows);
}

/** Least and greatest value of each channel of rows [from, to): f32 [2 * headDim]; without rows +Infinity and -Infinity. */
export function boundsOf(keys: Float32Array, headDim: number, from: number, to: number): Float32Array {
  const bounds = new Float32Array(2 * headDim).fill(Number.POSITIVE_INFINITY, 0, headDim);
  bounds.fill(Number.NEGATIVE_INFINITY, headDim);
  for (let row = from; row < to; row++) {
    for (let c = 0; c < headDim; c++) {
      const key = keys[row * headDim + c]!;
      if (key < bounds[c]!) bounds[c] = key;
      if (key > bounds[headDim + c]!) bounds[headDim + c] = key;
    }
  }
  return bounds;
}

/** Bounds of the halves, quarters, ... of a unit, level by level: f32 [2^(halvings + 1) - 2][2 * headDim]. */
export function finerBounds(keys: Float32Array, headDim: number, halvings: number): Float32Array {
  const rows = keys.length / headDim;
  const finer = new Float32Array(finerBytes(halvings, headDim) / 4);
  for (let level = 1; level <= halvings; level++) {
    for (let piece = 0; piece < 2 ** level; piece++) {
      const [from, to] = [pieceStart(rows, level, piece), pieceStart(rows, level, piece + 1)];
      finer.set(boundsOf(keys, headDim, from, to), levelOffset(level, headDim) / 4 + piece * 2 * headDim);
    }
  }
  return finer;
}
