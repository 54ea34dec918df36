import {
  GRAM_BYTES,
  GRAM_FROM,
  GRAM_OUT,
  GRAM_ROWS,
  GRAM_TO,
  GRAM_WIDTH,
  GRAM_X,
  KIND_GRAM,
} from '../../../kernels/abi.ts';
import type { Kernels } from '../../backend/types.ts';
import type { CacheSequence } from '../../cache/sequence.ts';
import { KvasirError } from '../../errors.ts';
import type { GramSignal } from '../../methods/types.ts';
import { readRows } from './rows.ts';
import { Space } from './space.ts';

/** Rows whose products are summed in f32; sums of blocks are f64. */
const BLOCK_ROWS = 1024;
const COLUMNS_PER_ITEM = 64;

/** See GramSignal. Raises `invalid_request` where the views do not hold the same entries. */
export function gramOf(kernels: Kernels, sequence: CacheSequence, request: GramSignal): Float64Array {
  const { kvHeads, headDim } = sequence.cache.shape;
  const { memory } = kernels;
  const entries = commonEntries(sequence, request);
  const width = request.layers.length * kvHeads * headDim;
  const result = new Float64Array(width * width);
  const block = Math.min(BLOCK_ROWS, entries);
  const items = Math.ceil(width / COLUMNS_PER_ITEM);
  const space = new Space(memory);
  try {
    const x = space.alloc(block * width * 4);
    const part = space.alloc(block * headDim * 4);
    const out = space.alloc(width * width * 4);
    const records = space.alloc(items * GRAM_BYTES);
    for (let from = 0; from < entries; from += block) {
      const rows = Math.min(block, entries - from);
      let column = 0;
      for (const layer of request.layers) {
        for (let head = 0; head < kvHeads; head++, column += headDim) {
          readRows(kernels, sequence, layer, head, request.of, from, from + rows, part);
          const { f32 } = memory;
          for (let row = 0; row < rows; row++) {
            const source = part / 4 + row * headDim;
            f32.copyWithin(x / 4 + row * width + column, source, source + headDim);
          }
        }
      }
      const { f32, i32 } = memory;
      f32.fill(0, out / 4, out / 4 + width * width);
      for (let i = 0; i < items; i++) {
        // The widest column blocks cost most: they go first.
        const first = (items - 1 - i) * COLUMNS_PER_ITEM;
        const at = (records + i * GRAM_BYTES) / 4;
        i32[at + GRAM_X / 4] = x;
        i32[at + GRAM_ROWS / 4] = rows;
        i32[at + GRAM_WIDTH / 4] = width;
        i32[at + GRAM_OUT / 4] = out;
        i32[at + GRAM_FROM / 4] = first;
        i32[at + GRAM_TO / 4] = Math.min(width, first + COLUMNS_PER_ITEM);
      }
      kernels.run(KIND_GRAM, records, items);
      const sums = memory.f32.subarray(out / 4, out / 4 + width * width);
      for (let i = 0; i < width; i++) for (let at = i * width + i; at < (i + 1) * width; at++) result[at]! += sums[at]!;
    }
  } finally {
    space.free();
  }
  for (let i = 0; i < width; i++) for (let j = 0; j < i; j++) result[i * width + j] = result[j * width + i]!;
  return result;
}

/** How many entries count; all views must hold at least those, at the same positions. */
function commonEntries(sequence: CacheSequence, { layers, entries }: GramSignal): number {
  const { kvHeads } = sequence.cache.shape;
  const first = sequence.positions(layers[0]!, 0);
  const count = Math.min(entries ?? first.length, first.length);
  for (const layer of layers) {
    for (let head = 0; head < kvHeads; head++) {
      const positions = sequence.positions(layer, head);
      const fits = entries === undefined ? positions.length === count : positions.length >= count;
      if (fits && positions.subarray(0, count).every((position, i) => position === first[i])) continue;
      throw new KvasirError('invalid_request', `Layer ${layer} does not hold the entries of layer ${layers[0]}.`, {
        field: 'signal.layers',
        value: layers,
        allowed: 'layers whose views all hold the same entries',
      });
    }
  }
  return count;
}
