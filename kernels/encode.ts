import {
  ENCODE_CELL,
  ENCODE_CLAMPED,
  ENCODE_K,
  ENCODE_LAYOUT,
  ENCODE_LAYOUTS,
  ENCODE_NORM_K,
  ENCODE_NORM_V,
  ENCODE_ROWS,
  ENCODE_V,
  FORMAT_JOINT,
  FORMAT_LATENT,
  FORMAT_SCALAR,
  LAYOUT_BYTES,
  LAYOUT_FORMAT_K,
  LAYOUT_FORMAT_V,
  LAYOUT_HEAD_DIM,
  LAYOUT_PLANE_K,
  LAYOUT_PLANE_V,
  MAX_HEAD_DIM,
  OUTLIERS_BY_RANGE,
  PAGE_TOKENS,
  PART_BYTES,
  PART_CHANNELS,
  PART_SIDE,
  PART_TRANSFORM,
  PART_WIDTH,
  PLANE_OUTLIER_INDEX,
  PLANE_OUTLIER_RULE,
  PLANE_OUTLIER_VALUE,
  PLANE_OUTLIERS,
  PLANE_PART_COUNT,
  PLANE_PARTS,
  PLANE_RANK,
} from './abi.ts';
import { writeKey, writeValue } from './append.ts';
import { decodeParts } from './decode.ts';
import { encodeHalf } from './f16.ts';
import { gather, loadKeys, loadValues } from './gather.ts';
import { hadamardLine, hadamardRows } from './hadamard.ts';
import { encodeJoint } from './joint.ts';
import { encodeLatentRows, encodeNorms } from './latent.ts';
import { fitLowRank, lowRankAt } from './lowrank.ts';
import { flagBeyondRange, flagExtremes, replaceFlagged } from './outliers.ts';
import { planeBase, planeBlock } from './plane.ts';
import { quantize } from './quantize.ts';

const PLANE_BYTES: usize = MAX_HEAD_DIM * PAGE_TOKENS * 4;
/** f32: the plane (K: [headDim][64], V: [64][headDim]), NaN as 0, within f16. */
const X: usize = 0;
/** f32: one part as quantize.ts wants it, a row of zeros after it. */
const MATRIX: usize = PLANE_BYTES;
/** f32: what codes and parameters leave of the plane. */
const LEFT: usize = MATRIX + PLANE_BYTES + 1024;
/** u8 [64][headDim]. */
const FLAGS: usize = LEFT + PLANE_BYTES;
/** QUANTIZE_BYTES or LOW_RANK_BYTES, one step at a time; all of it lies before the decoders' work space (scratch.ts). */
const WORK: usize = FLAGS + MAX_HEAD_DIM * PAGE_TOKENS;

/** One ENCODE record. */
export function encode(item: usize, scratch: usize): void {
  const layout = (load<u32>(item, ENCODE_LAYOUTS) as usize) + (load<i32>(item, ENCODE_LAYOUT) as usize) * LAYOUT_BYTES;
  const cell = load<u32>(item, ENCODE_CELL) as usize;
  const rows = load<i32>(item, ENCODE_ROWS);
  store<i32>(item, 0, ENCODE_CLAMPED);
  if (rows <= 0) return;
  const k = load<u32>(item, ENCODE_K) as usize;
  const v = load<u32>(item, ENCODE_V) as usize;
  const normK = load<u32>(item, ENCODE_NORM_K) as usize;
  const normV = load<u32>(item, ENCODE_NORM_V) as usize;
  let clamped = 0;
  if (k) clamped += encodePlane(cell, layout, true, k, rows, scratch);
  if (v) clamped += encodePlane(cell, layout, false, v, rows, scratch);
  store<i32>(item, clamped, ENCODE_CLAMPED);
  if (normK) encodeNorms(cell, layout, true, normK, rows);
  if (normV) encodeNorms(cell, layout, false, normV, rows);
}

/** Returns how many outliers found no slot. */
function encodePlane(cell: usize, layout: usize, isK: bool, from: usize, rows: i32, scratch: usize): i32 {
  const format = load<i32>(layout + (isK ? LAYOUT_FORMAT_K : LAYOUT_FORMAT_V));
  const headDim = load<i32>(layout, LAYOUT_HEAD_DIM);
  if (format === FORMAT_LATENT) {
    encodeLatentRows(cell, layout, isK, from, rows, scratch);
  } else if (format === FORMAT_JOINT) {
    encodeJoint(cell, layout, from, rows, scratch);
  } else if (format === FORMAT_SCALAR) {
    const plane = layout + (isK ? LAYOUT_PLANE_K : LAYOUT_PLANE_V);
    const base = planeBase(cell, layout, isK);
    return encodeScalar(plane, base, planeBlock(cell, layout, isK), headDim, isK, from, rows, scratch);
  } else {
    for (let t = 0; t < PAGE_TOKENS; t++) {
      const row = from + ((min<i32>(t, rows - 1) * headDim) << 2);
      if (isK) writeKey(cell, layout, headDim, t, row);
      else writeValue(cell, layout, headDim, t, row);
    }
  }
  return 0;
}

/**
 * Outliers are chosen, parts are encoded without them, A B is fitted to what is left, and outliers get what is left then. Returns
 * how many found no slot.
 */
function encodeScalar(
  plane: usize,
  base: usize,
  block: usize,
  headDim: i32,
  isK: bool,
  from: usize,
  rows: i32,
  scratch: usize,
): i32 {
  const x = scratch + X;
  const flags = scratch + FLAGS;
  const left = scratch + LEFT;
  const work = scratch + WORK;
  const slots = load<i32>(plane, PLANE_OUTLIERS);
  const rank = load<i32>(plane, PLANE_RANK);
  const byRange = load<i32>(plane, PLANE_OUTLIER_RULE) === OUTLIERS_BY_RANGE;
  if (isK) loadKeys(from, x, headDim, rows);
  else loadValues(from, x, headDim, rows);
  let clamped = 0;
  if (slots) {
    memory.fill(flags, 0, PAGE_TOKENS * headDim);
    if (byRange) clamped = flagBeyondRange(plane, block, x, flags, headDim, isK, rows, left);
    else flagExtremes(plane, x, flags, headDim, isK, rows, left);
  }
  let part = load<u32>(plane, PLANE_PARTS) as usize;
  const end = part + load<i32>(plane, PLANE_PART_COUNT) * PART_BYTES;
  for (; part < end; part += PART_BYTES) {
    const width = load<i32>(part, PART_WIDTH);
    const transform = load<i32>(part, PART_TRANSFORM);
    const stride: usize = isK ? PAGE_TOKENS * 4 : ((width + 63) & ~63) << 2;
    let matrix = scratch + MATRIX;
    const whole = !load<u32>(part, PART_CHANNELS) && width === headDim && load<i32>(part, PART_SIDE) < 0;
    if (whole && !slots && !rank && (isK || (headDim & 63) === 0)) matrix = x;
    else gather(part, block, x, headDim, isK, matrix, stride);
    if (slots && !byRange) replaceFlagged(part, matrix, stride, flags, headDim, isK, rows);
    if (transform) {
      if (isK) hadamardRows(matrix, 0, width, 0, stride);
      else for (let t = 0; t < PAGE_TOKENS; t++) hadamardLine(matrix + (t as usize) * stride, width);
    }
    quantize(part, base, block, isK, matrix, stride, work);
  }
  if (!slots && !rank) return 0;
  decodeParts(plane, base, block, headDim, isK, left, 0, PAGE_TOKENS, scratch);
  for (let i: usize = 0, bytes: usize = (PAGE_TOKENS * headDim) << 2; i < bytes; i += 16)
    v128.store(left + i, f32x4.sub(v128.load(x + i), v128.load(left + i)));
  if (rank) {
    // X is no longer needed: it becomes the residual without what outliers make up for and without rows that nobody sees.
    for (let t = 0; t < PAGE_TOKENS; t++) {
      for (let c = 0; c < headDim; c++) {
        const at: usize = (isK ? c * PAGE_TOKENS + t : t * headDim + c) << 2;
        const out = t >= rows || (slots !== 0 && load<u8>(flags + t * headDim + c) !== 0);
        store<f32>(x + at, out ? 0 : load<f32>(left + at));
      }
    }
    fitLowRank(plane, base, x, headDim, isK, work);
  }
  if (slots) storeOutliers(plane, base, left, flags, headDim, isK, slots);
  return clamped;
}

function storeOutliers(
  plane: usize,
  base: usize,
  left: usize,
  flags: usize,
  headDim: i32,
  isK: bool,
  slots: i32,
): void {
  const index = base + load<i32>(plane, PLANE_OUTLIER_INDEX);
  const value = base + load<i32>(plane, PLANE_OUTLIER_VALUE);
  memory.fill(index, 0, slots << 1);
  memory.fill(value, 0, slots << 1);
  let slot = 0;
  for (let t = 0; t < PAGE_TOKENS; t++) {
    for (let c = 0; c < headDim; c++) {
      if (!load<u8>(flags + t * headDim + c)) continue;
      const rest = load<f32>(left + ((isK ? c * PAGE_TOKENS + t : t * headDim + c) << 2));
      store<u16>(index + (slot << 1), (t * headDim + c) as u16);
      store<u16>(value + (slot << 1), encodeHalf(rest - lowRankAt(plane, base, headDim, t, c)) as u16);
      slot++;
    }
  }
}
