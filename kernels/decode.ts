import {
  FORMAT_JOINT,
  FORMAT_LATENT,
  LAYOUT_FORMAT_K,
  LAYOUT_FORMAT_V,
  LAYOUT_HEAD_DIM,
  LAYOUT_PLANE_K,
  LAYOUT_PLANE_V,
  PAGE_TOKENS,
  PART_BYTES,
  PART_CHANNELS,
  PART_SIDE,
  PART_TRANSFORM,
  PART_WIDTH,
  PLANE_A,
  PLANE_B,
  PLANE_OUTLIER_INDEX,
  PLANE_OUTLIER_VALUE,
  PLANE_OUTLIERS,
  PLANE_PART_COUNT,
  PLANE_PARTS,
  PLANE_RANK,
} from './abi.ts';
import { decodePair } from './codes.ts';
import { decodeHalf, decodeHalves } from './f16.ts';
import { channelOf, hadamardLine, hadamardRows, rowOf } from './hadamard.ts';
import { decodeJoint } from './joint.ts';
import { decodeLatent } from './latent.ts';
import { planeBase, planeBlock } from './plane.ts';
import { addTransformed, sumsCodes } from './rotated.ts';
import { DECODE } from './scratch.ts';

/** f32 [MAX_HEAD_DIM] each: two decoded rows of a V part before their channels are put in place; a row of A or B. */
const ROWS: usize = DECODE + 4096;
const ROW_BYTES: usize = 1088;
const FACTORS: usize = ROWS + 2 * ROW_BYTES;

/** Decodes tokens lo..hi of a scalar, latent or joint K plane to f32 [headDim][64]; tokens beside them, up to groups of 8, may be written. */
export function decodePlaneK(cell: usize, layout: usize, to: usize, lo: i32, hi: i32, scratch: usize): void {
  const format = load<i32>(layout, LAYOUT_FORMAT_K);
  if (format === FORMAT_LATENT) decodeLatent(cell, layout, true, to, lo, hi, scratch);
  else if (format === FORMAT_JOINT) decodeJoint(cell, layout, to, lo & ~7, (hi + 7) & ~7, scratch);
  else decodeScalar(cell, layout, true, to, lo & ~7, (hi + 7) & ~7, scratch);
}

/** Decodes tokens lo..hi of a scalar or latent V plane to f32 [64][headDim]; tokens beside them, up to groups of 4, may be written. */
export function decodePlaneV(cell: usize, layout: usize, to: usize, lo: i32, hi: i32, scratch: usize): void {
  if (load<i32>(layout, LAYOUT_FORMAT_V) === FORMAT_LATENT) decodeLatent(cell, layout, false, to, lo, hi, scratch);
  else decodeScalar(cell, layout, false, to, lo & ~1, (hi + 1) & ~1, scratch);
}

function decodeScalar(cell: usize, layout: usize, isK: bool, to: usize, lo: i32, hi: i32, scratch: usize): void {
  const plane = layout + (isK ? LAYOUT_PLANE_K : LAYOUT_PLANE_V);
  const base = planeBase(cell, layout, isK);
  const headDim = load<i32>(layout, LAYOUT_HEAD_DIM);
  decodeParts(plane, base, planeBlock(cell, layout, isK), headDim, isK, to, lo, hi, scratch);
  addLowRank(plane, base, headDim, isK, to, lo, hi, scratch);
  addOutliers(plane, base, headDim, isK, to, lo, hi);
}

/** What codes and parameters alone say. */
export function decodeParts(
  plane: usize,
  base: usize,
  block: usize,
  headDim: i32,
  isK: bool,
  to: usize,
  lo: i32,
  hi: i32,
  scratch: usize,
): void {
  let part = load<u32>(plane, PLANE_PARTS) as usize;
  const end = part + load<i32>(plane, PLANE_PART_COUNT) * PART_BYTES;
  for (; part < end; part += PART_BYTES) {
    if (isK) decodePartK(part, base, block, to, lo, hi, scratch);
    else decodePartV(part, base, block, headDim, to, lo, hi, scratch);
  }
}

function decodePartK(part: usize, base: usize, block: usize, to: usize, lo: i32, hi: i32, scratch: usize): void {
  const width = load<i32>(part, PART_WIDTH);
  const channels = load<u32>(part, PART_CHANNELS) as usize;
  if (!channels && load<i32>(part, PART_TRANSFORM) && load<i32>(part, PART_SIDE) < 0 && sumsCodes(part)) {
    addTransformed(part, base, 0, 1, width, to, lo, hi, true, scratch);
    return;
  }
  for (let i = 0; i < width; i += 2) {
    const row = rowOf(to, channels, i);
    // The last channel of an odd width is beside nothing: its partner goes to a row that is not read.
    const next = i + 1 < width ? rowOf(to, channels, i + 1) : scratch + ROWS;
    decodePair(part, base, block, true, i, row, next, lo, hi, scratch);
  }
  const from: usize = lo << 2;
  const until: usize = hi << 2;
  if (load<i32>(part, PART_TRANSFORM)) hadamardRows(to, channels, width, from, until);
  const side = load<i32>(part, PART_SIDE);
  if (side < 0) return;
  for (let i = 0; i < width; i++) {
    const row = rowOf(to, channels, i);
    const factor = f32x4.splat(decodeHalf(load<u16>(block + side + (i << 1)) as i32));
    for (let at = from; at < until; at += 16) v128.store(row + at, f32x4.mul(v128.load(row + at), factor));
  }
}

function decodePartV(
  part: usize,
  base: usize,
  block: usize,
  headDim: i32,
  to: usize,
  lo: i32,
  hi: i32,
  scratch: usize,
): void {
  const width = load<i32>(part, PART_WIDTH);
  const channels = load<u32>(part, PART_CHANNELS) as usize;
  const transform = load<i32>(part, PART_TRANSFORM);
  const side = load<i32>(part, PART_SIDE);
  const factors = scratch + FACTORS;
  if (side >= 0)
    for (let i = 0; i < width; i++)
      store<f32>(factors + (i << 2), decodeHalf(load<u16>(block + side + (i << 1)) as i32));
  // Rows are decoded 8 channels at a time: in place only where that ends at the row's end.
  const direct = channels === 0 && width === headDim;
  for (let t = lo; t < hi; t += 2) {
    const place = to + ((t * headDim) << 2);
    const stride: usize = direct ? (headDim as usize) << 2 : ROW_BYTES;
    const rows = direct ? place : scratch + ROWS;
    decodePair(part, base, block, false, t, rows, rows + stride, 0, (width + 7) & ~7, scratch);
    for (let m: usize = 0; m < 2; m++) {
      const row = rows + m * stride;
      if (transform) hadamardLine(row, width);
      if (side >= 0) {
        for (let i: usize = 0; i < (width as usize) << 2; i += 4)
          store<f32>(row + i, load<f32>(row + i) * load<f32>(factors + i));
      }
      if (direct) continue;
      const target = place + m * ((headDim as usize) << 2);
      for (let i = 0; i < width; i++) store<f32>(target + (channelOf(channels, i) << 2), load<f32>(row + (i << 2)));
    }
  }
}

/** Adds A B (GEAR). */
export function addLowRank(
  plane: usize,
  base: usize,
  headDim: i32,
  isK: bool,
  to: usize,
  lo: i32,
  hi: i32,
  scratch: usize,
): void {
  const rank = load<i32>(plane, PLANE_RANK);
  const a = base + load<i32>(plane, PLANE_A);
  const b = base + load<i32>(plane, PLANE_B);
  const line = scratch + ROWS;
  for (let r = 0; r < rank; r++) {
    const row = b + ((r * headDim) << 1);
    if (isK) {
      for (let t = lo; t < hi; t++)
        store<f32>(line + (t << 2), decodeHalf(load<u16>(a + ((t * rank + r) << 1)) as i32));
      for (let c = 0; c < headDim; c++)
        addScaled(line, to + (c << 8), decodeHalf(load<u16>(row + (c << 1)) as i32), lo << 2, hi << 2);
    } else {
      decodeHalves(row, line, headDim);
      for (let t = lo; t < hi; t++) {
        const factor = decodeHalf(load<u16>(a + ((t * rank + r) << 1)) as i32);
        addScaled(line, to + ((t * headDim) << 2), factor, 0, headDim << 2);
      }
    }
  }
}

/** to += factor * line, bytes [from, end). */
export function addScaled(line: usize, to: usize, factor: f32, from: usize, end: usize): void {
  const x = f32x4.splat(factor);
  for (let i = from; i < end; i += 16)
    v128.store(to + i, f32x4.add(v128.load(to + i), f32x4.mul(x, v128.load(line + i))));
}

function addOutliers(plane: usize, base: usize, headDim: i32, isK: bool, to: usize, lo: i32, hi: i32): void {
  const slots = load<i32>(plane, PLANE_OUTLIERS);
  const index = base + load<i32>(plane, PLANE_OUTLIER_INDEX);
  const value = base + load<i32>(plane, PLANE_OUTLIER_VALUE);
  for (let i: usize = 0; i < (slots as usize) << 1; i += 2) {
    const element = load<u16>(index + i) as i32;
    const token = element / headDim;
    if (token < lo || token >= hi) continue;
    const at = to + (isK ? (element - token * headDim) * PAGE_TOKENS + token : element) * 4;
    store<f32>(at, load<f32>(at) + decodeHalf(load<u16>(value + i) as i32));
  }
}
