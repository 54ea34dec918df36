import {
  LAYOUT_HEAD_DIM,
  LAYOUT_PLANE_K,
  LAYOUT_PLANE_V,
  PAGE_TOKENS,
  PART_BITS,
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
import { fold, foldedSum, foldedUnit } from './fold.ts';
import { addPanels } from './packed.ts';
import { planeBase, planeBlock } from './plane.ts';
import { CODES, FOLD_LINE, FOLDED, FOLDED_UNIT, O, OFFSET_LINE, Q, ROW, S, SCALE_LINE } from './scratch.ts';
import { addLine, addOutlierScores, addOutlierValues, addPairScores, addPairValues } from './side.ts';
import { unpack } from './unpack.ts';

/**
 * Few query rows over a scalar plane, without decoding it. Codes are a matrix of rows (channels of K, tokens of V) by lanes
 * (tokens of K, channels of V), and the queries (the weights) a matrix whose columns are the code's rows. Where a scale
 * belongs to a row and a group of lanes, it goes into the queries before they become integers; where it belongs to a lane
 * and a group of rows, it multiplies that group's integer sums. Offsets come to one number a query (and lane).
 */

/** Can the plane be read this way? One part of all channels in order, codes of at most 8 bits that stand for themselves. */
export function readsPacked(layout: usize, isK: bool): bool {
  const plane = layout + (isK ? LAYOUT_PLANE_K : LAYOUT_PLANE_V);
  if (load<i32>(plane, PLANE_PART_COUNT) !== 1) return false;
  const part = load<u32>(plane, PLANE_PARTS) as usize;
  if (load<i32>(part, PART_BITS) === 16 || load<u32>(part, PART_LUT) || load<i32>(part, PART_TRANSFORM)) return false;
  if (load<u32>(part, PART_CHANNELS) || load<i32>(part, PART_WIDTH) !== load<i32>(layout, LAYOUT_HEAD_DIM))
    return false;
  return load<i32>(part, PART_SIDE) < 0 && !(load<i32>(part, PART_GROUP) & 7);
}

/** S = scores of tokens lo..hi, multiples of 8. */
export function packedScores(cell: usize, layout: usize, queries: i32, lo: i32, hi: i32, scratch: usize): void {
  const headDim = load<i32>(layout, LAYOUT_HEAD_DIM);
  const plane = layout + LAYOUT_PLANE_K;
  const base = planeBase(cell, layout, true);
  for (let i = 0; i < queries; i++) memory.fill(scratch + S + (i as usize) * ROW + (lo << 2), 0, (hi - lo) << 2);
  const part = load<u32>(plane, PLANE_PARTS) as usize;
  addProduct(part, base, planeBlock(cell, layout, true), true, Q, 0, headDim, S, lo, hi, queries, scratch);
  addPairScores(plane, base, headDim, queries, lo, hi, scratch);
  addOutlierScores(plane, base, headDim, queries, scratch);
}

/** O += weights of tokens lo..hi, multiples of 8, times values. */
export function packedValues(cell: usize, layout: usize, queries: i32, lo: i32, hi: i32, scratch: usize): void {
  const headDim = load<i32>(layout, LAYOUT_HEAD_DIM);
  const plane = layout + LAYOUT_PLANE_V;
  const base = planeBase(cell, layout, false);
  const part = load<u32>(plane, PLANE_PARTS) as usize;
  addProduct(part, base, planeBlock(cell, layout, false), false, S, lo, hi, O, 0, headDim, queries, scratch);
  addPairValues(plane, base, headDim, queries, lo, hi, scratch);
  addOutlierValues(plane, base, headDim, queries, lo, hi, scratch);
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
          addConstant(scratch + c + (j as usize) * ROW, first, last, foldedSum);
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
        addLine(scratch + OFFSET_LINE, scratch + c + (j as usize) * ROW + (lo << 2), foldedSum, hi - lo);
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
