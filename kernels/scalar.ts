import {
  LAYOUT_HEAD_DIM,
  LAYOUT_PLANE_K,
  LAYOUT_PLANE_V,
  PAGE_TOKENS,
  PART_BITS,
  PART_BYTES,
  PART_CHANNELS,
  PART_CODES,
  PART_CODES_HIGH,
  PART_GROUP,
  PART_LUT,
  PART_OFFSET,
  PART_RANGE,
  PART_SCALE,
  PART_SHARED,
  PART_SIDE,
  PART_TRANSFORM,
  PART_WIDTH,
  PLANE_PART_COUNT,
  PLANE_PARTS,
  RANGE_ABSMAX,
  RANGE_SIGN,
  RANGE_TERNARY,
} from './abi.ts';
import { alongLanes, lanesOf } from './codes.ts';
import { decodeHalves } from './f16.ts';
import { fold, foldedLoss, foldedSum, foldedUnit } from './fold.ts';
import { channelOf, hadamardLine } from './hadamard.ts';
import { addPanels } from './packed.ts';
import { planeBase, planeBlock } from './plane.ts';
import { CODES, FOLD_LINE, FOLDED, FOLDED_UNIT, O, OFFSET_LINE, PLANE_V, Q, ROW, S, SCALE_LINE } from './scratch.ts';
import { addLine, addOutlierScores, addOutlierValues, addPairScores, addPairValues } from './side.ts';
import { unpack } from './unpack.ts';

/**
 * Few query rows over a scalar plane, without decoding it. Codes are a matrix of rows (channels of K, tokens of V) by lanes
 * (tokens of K, channels of V), and the queries (the weights) a matrix whose columns are the code's rows. Where a scale
 * belongs to a row and a group of lanes, it goes into the queries before they become integers; where it belongs to a lane
 * and a group of rows, it multiplies that group's integer sums. Offsets come to one number a query (and lane).
 * A part's order, side factors and transform of channels are done to the queries, or undone on what the values sum up to.
 */

/** Queries in the order of a part's channels; what its values sum up to. f32 rows of a plane that nobody has decoded. */
const LINES: usize = PLANE_V;

/** Can the plane be read this way? Codes of at most 8 bits that stand for themselves, widths and groups of eights. */
export function readsPacked(layout: usize, isK: bool): bool {
  const plane = layout + (isK ? LAYOUT_PLANE_K : LAYOUT_PLANE_V);
  let part = load<u32>(plane, PLANE_PARTS) as usize;
  const end = part + load<i32>(plane, PLANE_PART_COUNT) * PART_BYTES;
  for (; part < end; part += PART_BYTES) {
    if (load<i32>(part, PART_BITS) === 16 || load<u32>(part, PART_LUT)) return false;
    if ((load<i32>(part, PART_WIDTH) | load<i32>(part, PART_GROUP)) & 7) return false;
  }
  return true;
}

/** All channels in order, as they are? */
function isPlain(part: usize, headDim: i32): bool {
  if (load<u32>(part, PART_CHANNELS) || load<i32>(part, PART_WIDTH) !== headDim) return false;
  return !load<i32>(part, PART_TRANSFORM) && load<i32>(part, PART_SIDE) < 0;
}

/** S = scores of tokens lo..hi, multiples of 8. */
export function packedScores(cell: usize, layout: usize, queries: i32, lo: i32, hi: i32, scratch: usize): void {
  const headDim = load<i32>(layout, LAYOUT_HEAD_DIM);
  const plane = layout + LAYOUT_PLANE_K;
  const base = planeBase(cell, layout, true);
  const block = planeBlock(cell, layout, true);
  for (let i = 0; i < queries; i++) memory.fill(scratch + S + (i as usize) * ROW + (lo << 2), 0, (hi - lo) << 2);
  let part = load<u32>(plane, PLANE_PARTS) as usize;
  const end = part + load<i32>(plane, PLANE_PART_COUNT) * PART_BYTES;
  for (; part < end; part += PART_BYTES) {
    const width = load<i32>(part, PART_WIDTH);
    let a = Q;
    if (!isPlain(part, headDim)) {
      a = LINES;
      gatherQueries(part, block, queries, scratch);
    }
    addProduct(part, base, block, true, a, 0, width, S, lo, hi, queries, scratch);
  }
  addPairScores(plane, base, headDim, queries, lo, hi, scratch);
  addOutlierScores(plane, base, headDim, queries, scratch);
}

/** O += weights of tokens lo..hi, multiples of 8, times values. */
export function packedValues(cell: usize, layout: usize, queries: i32, lo: i32, hi: i32, scratch: usize): void {
  const headDim = load<i32>(layout, LAYOUT_HEAD_DIM);
  const plane = layout + LAYOUT_PLANE_V;
  const base = planeBase(cell, layout, false);
  const block = planeBlock(cell, layout, false);
  let part = load<u32>(plane, PLANE_PARTS) as usize;
  const end = part + load<i32>(plane, PLANE_PART_COUNT) * PART_BYTES;
  for (; part < end; part += PART_BYTES) {
    const width = load<i32>(part, PART_WIDTH);
    if (isPlain(part, headDim)) {
      addProduct(part, base, block, false, S, lo, hi, O, 0, headDim, queries, scratch);
      continue;
    }
    for (let i = 0; i < queries; i++) memory.fill(scratch + LINES + (i as usize) * ROW, 0, width << 2);
    addProduct(part, base, block, false, S, lo, hi, LINES, 0, width, queries, scratch);
    scatterValues(part, block, queries, scratch);
  }
  addPairValues(plane, base, headDim, queries, lo, hi, scratch);
  addOutlierValues(plane, base, headDim, queries, lo, hi, scratch);
}

/** LINES = queries as the part's stored channels see them: in its order, times side factors, transformed. */
function gatherQueries(part: usize, block: usize, queries: i32, scratch: usize): void {
  const width = load<i32>(part, PART_WIDTH);
  const side = sideLine(part, block, width, scratch);
  const channels = load<u32>(part, PART_CHANNELS) as usize;
  for (let i = 0; i < queries; i++) {
    const from = scratch + Q + (i as usize) * ROW;
    const to = scratch + LINES + (i as usize) * ROW;
    if (channels)
      for (let c = 0; c < width; c++) store<f32>(to + (c << 2), load<f32>(from + (channelOf(channels, c) << 2)));
    else memory.copy(to, from, width << 2);
    if (side) multiply(to, side, width);
    if (load<i32>(part, PART_TRANSFORM)) hadamardLine(to, width);
  }
}

/** O += LINES, brought back to the channels of the plane. */
function scatterValues(part: usize, block: usize, queries: i32, scratch: usize): void {
  const width = load<i32>(part, PART_WIDTH);
  const side = sideLine(part, block, width, scratch);
  const channels = load<u32>(part, PART_CHANNELS) as usize;
  for (let i = 0; i < queries; i++) {
    const from = scratch + LINES + (i as usize) * ROW;
    const to = scratch + O + (i as usize) * ROW;
    if (load<i32>(part, PART_TRANSFORM)) hadamardLine(from, width);
    if (side) multiply(from, side, width);
    if (!channels) {
      for (let at: usize = 0; at < (width as usize) << 2; at += 16)
        v128.store(to + at, f32x4.add(v128.load(to + at), v128.load(from + at)));
      continue;
    }
    for (let c = 0; c < width; c++) {
      const at = to + (channelOf(channels, c) << 2);
      store<f32>(at, load<f32>(at) + load<f32>(from + (c << 2)));
    }
  }
}

/** The part's side factors as f32, 0: it has none. */
function sideLine(part: usize, block: usize, width: i32, scratch: usize): usize {
  const side = load<i32>(part, PART_SIDE);
  if (side < 0) return 0;
  decodeHalves(block + side, scratch + SCALE_LINE, width);
  return scratch + SCALE_LINE;
}

function multiply(line: usize, by: usize, count: i32): void {
  for (let at: usize = 0; at < (count as usize) << 2; at += 16)
    v128.store(line + at, f32x4.mul(v128.load(line + at), v128.load(by + at)));
}

/** C[i][lo .. hi) += sum over rows from..to of A[i][row] * x[row][lane]; A and C are offsets in the work space. */
function addProduct(
  part: usize,
  base: usize,
  block: usize,
  isK: bool,
  a: usize,
  from: i32,
  to: i32,
  c: usize,
  lo: i32,
  hi: i32,
  queries: i32,
  scratch: usize,
): void {
  const group = load<i32>(part, PART_SHARED) ? PAGE_TOKENS : load<i32>(part, PART_GROUP);
  const params = load<i32>(part, PART_SHARED) ? block : base;
  const bits = load<i32>(part, PART_BITS);
  const narrow = ASC_FEATURE_RELAXED_SIMD && bits < 8;
  const codes = scratch + CODES;
  const high = base + load<i32>(part, PART_CODES_HIGH);
  const panel = unpack(base + load<i32>(part, PART_CODES), high, lanesOf(part, isK), bits, from, to, codes);
  const units = scratch + FOLDED_UNIT;
  // What integers lose of a weight is alike in all lanes, as far as codes are: a transform would gather it in one channel.
  const middle: f32 = isK || !load<i32>(part, PART_TRANSFORM) ? 0 : 0.5 * (((1 << bits) - 1) as f32);
  if (alongLanes(part, isK)) {
    for (let g = lo / group; g * group < hi; g++) {
      const first = max<i32>(lo, g * group);
      const last = min<i32>(hi, (g + 1) * group);
      loadParameters(part, params, g * (isK ? load<i32>(part, PART_WIDTH) : PAGE_TOKENS) + from, to - from, scratch);
      for (let i = 0; i < queries; ) {
        const count = blockOf(queries - i);
        for (let j = i; j < i + count; j++) {
          const row = scratch + a + (j as usize) * ROW + (from << 2);
          foldRow(narrow, row, scratch + SCALE_LINE, to - from, j - i, count, scratch);
          const lost: f32 = middle > 0 ? middle * foldedLoss(scratch + FOLD_LINE, to - from) : 0;
          addConstant(scratch + c + (j as usize) * ROW, first, last, foldedSum + lost);
        }
        const b = codes + ((first >> 3) as usize) * panel;
        const target = scratch + c + (i as usize) * ROW + (first << 2);
        addPanels(narrow, count, scratch + FOLDED, (to - from) >> 2, b, panel, (last - first) >> 3, target, 0, units);
        i += count;
      }
    }
    return;
  }
  for (let g = from / group; g * group < to; g++) {
    const first = max<i32>(from, g * group);
    const last = min<i32>(to, (g + 1) * group);
    loadParameters(part, params, g * lanesOf(part, isK) + lo, hi - lo, scratch);
    for (let i = 0; i < queries; ) {
      const count = blockOf(queries - i);
      for (let j = i; j < i + count; j++) {
        foldRow(narrow, scratch + a + (j as usize) * ROW + (first << 2), 0, last - first, j - i, count, scratch);
        const row = scratch + c + (j as usize) * ROW + (lo << 2);
        addLine(scratch + OFFSET_LINE, row, foldedSum, hi - lo);
        if (middle > 0) {
          const lost = middle * foldedLoss(scratch + FOLD_LINE, last - first);
          addLine(scratch + SCALE_LINE, row, lost, hi - lo);
        }
      }
      const b = codes + ((lo >> 3) as usize) * panel + ((first - from) << 3);
      const target = scratch + c + (i as usize) * ROW + (lo << 2);
      const scales = scratch + SCALE_LINE;
      addPanels(narrow, count, scratch + FOLDED, (last - first) >> 2, b, panel, (hi - lo) >> 3, target, scales, units);
      i += count;
    }
  }
}

/** Folds row `slot` of `rows` that addPanels takes together. */
function foldRow(narrow: bool, a: usize, scale: usize, count: i32, slot: i32, rows: i32, scratch: usize): void {
  const vectors: usize = narrow ? 32 : 16;
  const to = scratch + FOLDED + (slot as usize) * vectors;
  fold(a, scale, scratch + OFFSET_LINE, count, scratch + FOLD_LINE, to, vectors * rows, narrow);
  store<f32>(scratch + FOLDED_UNIT + (slot << 2), foldedUnit);
}

/** Rows taken together: three at most, and none is left alone where it need not be. */
function blockOf(rest: i32): i32 {
  return rest === 4 ? 2 : min<i32>(rest, 3);
}

/** SCALE_LINE and OFFSET_LINE: `count` parameters from number `index` on, such that code * scale + offset is the element. */
function loadParameters(part: usize, params: usize, index: i32, count: i32, scratch: usize): void {
  const scale = scratch + SCALE_LINE;
  const offset = scratch + OFFSET_LINE;
  decodeHalves(params + load<i32>(part, PART_SCALE) + (index << 1), scale, count);
  if (load<i32>(part, PART_OFFSET) >= 0) {
    decodeHalves(params + load<i32>(part, PART_OFFSET) + (index << 1), offset, count);
    return;
  }
  const range = load<i32>(part, PART_RANGE);
  let middle: f32 = 0;
  if (range === RANGE_ABSMAX) middle = (1 << (load<i32>(part, PART_BITS) - 1)) as f32;
  if (range === RANGE_SIGN || range === RANGE_TERNARY) middle = 1;
  const factor: f32 = range === RANGE_SIGN ? 2 : 1;
  for (let i: usize = 0; i < (count as usize) << 2; i += 16) {
    const x = v128.load(scale + i);
    v128.store(scale + i, f32x4.mul(x, f32x4.splat(factor)));
    v128.store(offset + i, f32x4.mul(x, f32x4.splat(-middle)));
  }
}

function addConstant(row: usize, lo: i32, hi: i32, x: f32): void {
  const constant = f32x4.splat(x);
  for (let i: usize = lo << 2, end: usize = hi << 2; i < end; i += 16) {
    v128.store(row + i, f32x4.add(v128.load(row + i), constant));
  }
}
