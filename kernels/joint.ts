import {
  LAYOUT_HEAD_DIM,
  LAYOUT_PLANE_K,
  MAX_JOINT_PART,
  MAX_JOINT_WIDTH,
  PAGE_TOKENS,
  PART_BYTES,
  PART_CHANNELS,
  PART_WIDTH,
  PLANE_HEADS,
  PLANE_PART_COUNT,
  PLANE_PARTS,
} from './abi.ts';
import { decodePair } from './codes.ts';
import { decodeHalf } from './f16.ts';
import { gather, loadKeys } from './gather.ts';
import { channelOf, hadamardRows } from './hadamard.ts';
import { planeBase, planeBlock } from './plane.ts';
import { quantize } from './quantize.ts';
import { addTransformed, sumsCodes } from './rotated.ts';
import { DECODE } from './scratch.ts';

/**
 * Joint planes: keys of `heads` KV heads side by side, f32 [heads * headDim][64], transformed as one. The transform of heads *
 * headDim channels is that of headDim within each head after that of the heads for each channel, so a view adds the heads up
 * with its own signs and then transforms headDim channels alone.
 */

/** f32: the transformed plane, then one part of it with a row of zeros after it, then what quantize.ts needs. */
const X: usize = 0;
const MATRIX: usize = MAX_JOINT_WIDTH * PAGE_TOKENS * 4;
const WORK: usize = MATRIX + (MAX_JOINT_PART + 1) * PAGE_TOKENS * 4;
/** f32 [2][64]: decoded channels. */
const ROWS: usize = DECODE + 4096;
const ROW_BYTES: usize = PAGE_TOKENS * 4;

/** Writes what the views share. `from`: f32 [heads][rows][headDim]. */
export function encodeJoint(cell: usize, layout: usize, from: usize, rows: i32, scratch: usize): void {
  const plane = layout + LAYOUT_PLANE_K;
  const base = planeBase(cell, layout, true);
  const headDim = load<i32>(layout, LAYOUT_HEAD_DIM);
  const width = headDim * load<i32>(plane, PLANE_HEADS);
  const x = scratch + X;
  for (let c = 0; c < width; c += headDim)
    loadKeys(from + ((c * rows) << 2), x + (c as usize) * ROW_BYTES, headDim, rows);
  hadamardRows(x, 0, width, 0, ROW_BYTES);
  let part = load<u32>(plane, PLANE_PARTS) as usize;
  const end = part + load<i32>(plane, PLANE_PART_COUNT) * PART_BYTES;
  for (; part < end; part += PART_BYTES) {
    gather(part, 0, x, width, true, scratch + MATRIX, ROW_BYTES);
    quantize(part, base, 0, true, scratch + MATRIX, ROW_BYTES, scratch + WORK);
  }
}

/** Decodes tokens lo..hi (multiples of 8) of this view to f32 [headDim][64]. */
export function decodeJoint(cell: usize, layout: usize, to: usize, lo: i32, hi: i32, scratch: usize): void {
  const plane = layout + LAYOUT_PLANE_K;
  const base = planeBase(cell, layout, true);
  const signs = planeBlock(cell, layout, true);
  const headDim = load<i32>(layout, LAYOUT_HEAD_DIM);
  const heads = load<i32>(plane, PLANE_HEADS);
  const parts = load<u32>(plane, PLANE_PARTS) as usize;
  const end = parts + load<i32>(plane, PLANE_PART_COUNT) * PART_BYTES;
  let part = parts;
  while (part < end && sumsCodes(part)) part += PART_BYTES;
  if (part === end) {
    for (part = parts; part < end; part += PART_BYTES)
      addTransformed(part, base, signs, heads, headDim, to, lo, hi, part === parts, scratch);
    return;
  }
  const factor: f32 = 1 / sqrt<f32>(heads as f32);
  const shift = ctz<i32>(headDim);
  const row = scratch + ROWS;
  for (let c = 0; c < headDim; c++) memory.fill(to + (c as usize) * ROW_BYTES + (lo << 2), 0, (hi - lo) << 2);
  for (part = parts; part < end; part += PART_BYTES) {
    const width = load<i32>(part, PART_WIDTH);
    const channels = load<u32>(part, PART_CHANNELS) as usize;
    for (let i = 0; i < width; i += 2) {
      decodePair(part, base, 0, true, i, row, row + ROW_BYTES, lo, hi, scratch);
      for (let n = i; n < min<i32>(i + 2, width); n++) {
        const channel = channelOf(channels, n);
        const sign = decodeHalf(load<u16>(signs + ((channel >> shift) << 1)) as i32);
        const target = to + ((channel & (headDim - 1)) as usize) * ROW_BYTES;
        addRow(row + ((n - i) as usize) * ROW_BYTES, target, sign * factor, lo << 2, hi << 2);
      }
    }
  }
  hadamardRows(to, 0, headDim, lo << 2, hi << 2);
}

/** to += factor * row, bytes [from, end). */
function addRow(row: usize, to: usize, factor: f32, from: usize, end: usize): void {
  const x = f32x4.splat(factor);
  for (let i = from; i < end; i += 16)
    v128.store(to + i, f32x4.add(v128.load(to + i), f32x4.mul(x, v128.load(row + i))));
}
