import {
  ATTEND_GROUP,
  ATTEND_HEAD_DIM,
  ATTEND_KEY_COARSE,
  ATTEND_KEY_FINE,
  ATTEND_LAYOUTS,
  ATTEND_OUT,
  ATTEND_OUT_STRIDE,
  ATTEND_PARTIAL,
  ATTEND_POSITIONS,
  ATTEND_Q,
  ATTEND_Q_STRIDE,
  ATTEND_REF_COUNT,
  ATTEND_REFS,
  ATTEND_ROWS,
  ATTEND_SCALE,
  ATTEND_TURN_COUNT,
  ATTEND_TURNS,
  ATTEND_WINDOW,
  FORMAT_F16,
  FORMAT_INT8,
  FORMAT_LATENT,
  FORMAT_SCALAR,
  LAYOUT_BIAS,
  LAYOUT_BYTES,
  LAYOUT_FORMAT_K,
  LAYOUT_FORMAT_V,
  LAYOUT_K,
  LAYOUT_K_SCALE,
  LAYOUT_KEYS_UNROTATED,
  LAYOUT_ROTARY,
  LAYOUT_V,
  LAYOUT_V_SCALE,
  PAGE_TOKENS,
  REF_BYTES,
  REF_CELL,
  REF_FLAG_CONTIGUOUS,
  REF_FLAGS,
  REF_LAYOUT,
  REF_POSITIONS,
  REF_SHIFT,
  TURN_BYTES,
} from './abi.ts';
import { decodePlaneK, decodePlaneV } from './decode.ts';
import { decodeHalves } from './f16.ts';
import { matmul } from './f32.ts';
import { decodeKeys, quantizeRow, scores, values } from './int8.ts';
import { forgetBases, latentValues } from './latent.ts';
import { packedScores, packedValues, readsPacked } from './scalar.ts';
import { BLOCK, MAX, O, P_UNIT, PLANE_K, PLANE_V, Q, Q_UNIT, Q16, ROW, S, SEEN, SUM } from './scratch.ts';
import { see, seenHi, seenLo, seenWhole } from './seen.ts';
import { addBias, exponents, greatest, maskScores, rescale, scaleScores, scaleWeights } from './softmax.ts';
import { turn, turnKeys } from './turn.ts';
import { exp2Scalar } from './vector.ts';

/** Query vectors of a record up to which it meets packed and latent planes as they are; more of them share a decoded plane. */
const FEW: i32 = 8;
const LOG2_E: f32 = Math.LOG2E as f32;

/** One ATTEND record: its rows in blocks of at most BLOCK query vectors, each block over all references. */
export function attend(item: usize, scratch: usize): void {
  const rows = load<i32>(item, ATTEND_ROWS);
  const step = max<i32>(1, BLOCK / load<i32>(item, ATTEND_GROUP));
  for (let row = 0; row < rows; row += step) attendBlock(item, scratch, row, min<i32>(step, rows - row));
}

/**
 * Online softmax of rows [row, row + rows) over the references in order (Milakov & Gimelshein 2018; FlashAttention,
 * Dao et al. 2022). A row's running maximum, sum and result change only at pages of which it sees a token, and every
 * step is per row, so its bits do not depend on the other rows of the block.
 */
function attendBlock(item: usize, scratch: usize, row: i32, rows: i32): void {
  const group = load<i32>(item, ATTEND_GROUP);
  const headDim = load<i32>(item, ATTEND_HEAD_DIM);
  const window = load<i32>(item, ATTEND_WINDOW);
  const layouts = load<u32>(item, ATTEND_LAYOUTS) as usize;
  const positions = (load<u32>(item, ATTEND_POSITIONS) as usize) + (row << 2);
  const queries = rows * group;
  let least = load<i32>(positions);
  let most = least;
  for (let r = 1; r < rows; r++) {
    const position = load<i32>(positions + (r << 2));
    least = min<i32>(least, position);
    most = max<i32>(most, position);
  }
  for (let i = 0; i < queries; i++) {
    memory.fill(scratch + O + (i as usize) * ROW, 0, headDim << 2);
    store<f32>(scratch + MAX + (i << 2), -Infinity as f32);
    store<f32>(scratch + SUM + (i << 2), 0);
  }

  startScoring();
  let ref = load<u32>(item, ATTEND_REFS) as usize;
  const end = ref + (load<i32>(item, ATTEND_REF_COUNT) as usize) * REF_BYTES;
  for (; ref < end; ref += REF_BYTES) {
    if (!see(ref, positions, rows, least, most, window, scratch + SEEN)) continue;
    const layout = layouts + (load<u16>(ref, REF_LAYOUT) as usize) * LAYOUT_BYTES;
    const integerKeys = scoreRef(item, scratch, ref, layout, headDim, row, rows);
    weighPage(scratch, ref, layout, headDim, rows, group, integerKeys);
    addPage(item, scratch, ref, layout, headDim, queries);
  }
  finish(item, scratch, row, rows);
}

/** Which turn of the block's queries Q holds, and whether Q16 holds it too. */
let turned: bool = false;
let turnedBy: i32 = 0;
let quantized: bool = false;

/** A block of other queries begins. */
export function startScoring(): void {
  turned = false;
  quantized = false;
  forgetBases();
}

/**
 * S = scores of what `see` found in a reference, before scales, bias and mask (`finishScores`); says whether they are
 * integers.
 */
export function scoreRef(
  item: usize,
  scratch: usize,
  ref: usize,
  layout: usize,
  headDim: i32,
  row: i32,
  rows: i32,
): bool {
  const queries = rows * load<i32>(item, ATTEND_GROUP);
  const shift = load<i32>(ref, REF_SHIFT);
  if (!turned || shift !== turnedBy) {
    turnQueries(item, scratch, row, rows, load<i32>(layout, LAYOUT_ROTARY), shift);
    turned = true;
    turnedBy = shift;
    quantized = false;
  }
  const integerKeys = load<i32>(layout, LAYOUT_FORMAT_K) === FORMAT_INT8 && !load<i32>(layout, LAYOUT_KEYS_UNROTATED);
  if (integerKeys && !quantized) {
    for (let i = 0; i < queries; i++) {
      const at = (i as usize) * ROW;
      store<f32>(scratch + Q_UNIT + (i << 2), quantizeRow(scratch + Q + at, scratch + Q16 + at, headDim));
    }
    quantized = true;
  }
  scorePage(item, scratch, ref, layout, headDim, queries, integerKeys);
  return integerKeys;
}

/** The rest of query i's scores s[lo .. hi): in units of log2, -infinity where its row does not see the token. */
export function finishScores(
  scratch: usize,
  i: i32,
  s: usize,
  lo: i32,
  hi: i32,
  cell: usize,
  layout: usize,
  integerKeys: bool,
  masked: bool,
  mask: u64,
): void {
  if (integerKeys) {
    scaleScores(s, lo, hi, load<f32>(scratch + Q_UNIT + (i << 2)), cell + load<i32>(layout, LAYOUT_K_SCALE));
  }
  const bias = load<i32>(layout, LAYOUT_BIAS);
  if (bias) addBias(s, lo, hi, cell + bias);
  if (masked) maskScores(s, lo, hi, mask);
}

/** Q = the block's queries turned by the table of `shift`, times scale * log2(e). */
function turnQueries(item: usize, scratch: usize, row: i32, rows: i32, rotary: i32, shift: i32): void {
  const group = load<i32>(item, ATTEND_GROUP);
  const headDim = load<i32>(item, ATTEND_HEAD_DIM);
  const factor = load<f32>(item, ATTEND_SCALE) * LOG2_E;
  let entry = load<u32>(item, ATTEND_TURNS) as usize;
  const last = entry + load<i32>(item, ATTEND_TURN_COUNT) * TURN_BYTES;
  while (load<i32>(entry) !== shift) {
    entry += TURN_BYTES;
    if (entry >= last) unreachable();
  }
  let table = (load<u32>(entry, 4) as usize) + ((row * rotary) << 2);
  const stride = load<i32>(item, ATTEND_Q_STRIDE) << 2;
  let from = (load<u32>(item, ATTEND_Q) as usize) + row * stride;
  let to = scratch + Q;
  for (let r = 0; r < rows; r++) {
    for (let h = 0; h < group; h++) {
      turn(from + ((h * headDim) << 2), to, headDim, rotary, table, factor);
      to += ROW;
    }
    from += stride;
    table += rotary << 2;
  }
}

/** S = scores of the tokens of the page that the block sees, in groups of 8 tokens. */
function scorePage(
  item: usize,
  scratch: usize,
  ref: usize,
  layout: usize,
  headDim: i32,
  queries: i32,
  integerKeys: bool,
): void {
  const lo = seenLo & ~7;
  const hi = (seenHi + 7) & ~7;
  const panels = (hi - lo) >> 3;
  const cell = load<u32>(ref, REF_CELL) as usize;
  let k = cell + load<i32>(layout, LAYOUT_K);
  const s = scratch + S + (lo << 2);
  if (integerKeys) {
    scores(scratch + Q16, headDim, k + (lo << 1), s, panels, queries);
    return;
  }
  const format = load<i32>(layout, LAYOUT_FORMAT_K);
  const plane = scratch + PLANE_K;
  const unrotated = load<i32>(layout, LAYOUT_KEYS_UNROTATED) !== 0;
  if (format === FORMAT_F16) {
    decodeHalves(k, plane, headDim * PAGE_TOKENS);
    k = plane;
  } else if (format >= FORMAT_SCALAR) {
    if (format === FORMAT_SCALAR && !unrotated && isFew(item) && readsPacked(layout, true)) {
      packedScores(cell, layout, queries, lo, hi, scratch);
      return;
    }
    decodePlaneK(cell, layout, plane, seenLo, seenHi, scratch);
    k = plane;
  }
  if (unrotated) {
    if (format === FORMAT_INT8) decodeKeys(k, cell + load<i32>(layout, LAYOUT_K_SCALE), plane, headDim, seenLo, seenHi);
    else if (k !== plane) memory.copy(plane, k, (headDim * PAGE_TOKENS) << 2);
    const contiguous = (load<i32>(ref, REF_FLAGS) & REF_FLAG_CONTIGUOUS) !== 0;
    const stored = load<u32>(ref, REF_POSITIONS) as usize;
    const coarse = load<u32>(item, ATTEND_KEY_COARSE) as usize;
    const fine = load<u32>(item, ATTEND_KEY_FINE) as usize;
    turnKeys(plane, load<i32>(layout, LAYOUT_ROTARY), seenLo, seenHi, stored, contiguous, coarse, fine);
    k = plane;
  }
  matmul(scratch + Q, headDim, k + (lo << 2), PAGE_TOKENS << 2, s, panels, queries, false);
}

/** What a record does depends on the record alone, not on the blocks that it is cut into. */
function isFew(item: usize): bool {
  return load<i32>(item, ATTEND_ROWS) * load<i32>(item, ATTEND_GROUP) <= FEW;
}

/** S = weights relative to each row's new maximum (i16 codes for int8 values); MAX, SUM and O follow. */
function weighPage(
  scratch: usize,
  ref: usize,
  layout: usize,
  headDim: i32,
  rows: i32,
  group: i32,
  integerKeys: bool,
): void {
  const lo = seenLo & ~7;
  const hi = (seenHi + 7) & ~7;
  const masked = !seenWhole || lo !== seenLo || hi !== seenHi;
  const cell = load<u32>(ref, REF_CELL) as usize;
  const integerValues = load<i32>(layout, LAYOUT_FORMAT_V) === FORMAT_INT8;
  let i = 0;
  for (let r = 0; r < rows; r++) {
    const mask = load<u64>(scratch + SEEN + (r << 3));
    for (let h = 0; h < group; h++, i++) {
      const s = scratch + S + (i as usize) * ROW;
      if (mask === 0) {
        memory.fill(s + (lo << 2), 0, (hi - lo) << 2);
        store<f32>(scratch + P_UNIT + (i << 2), 0);
        continue;
      }
      finishScores(scratch, i, s, lo, hi, cell, layout, integerKeys, masked, mask);
      const before = load<f32>(scratch + MAX + (i << 2));
      const most = max<f32>(before, greatest(s, lo, hi));
      // Only possible where every score is -infinity or NaN; a row without a maximum keeps its zeros.
      const top: f32 = most === (-Infinity as f32) ? 0 : most;
      let sum = load<f32>(scratch + SUM + (i << 2));
      if (most !== before) {
        const factor = exp2Scalar(before - top);
        sum *= factor;
        rescale(scratch + O + (i as usize) * ROW, headDim, factor);
        store<f32>(scratch + MAX + (i << 2), most);
      }
      store<f32>(scratch + SUM + (i << 2), sum + exponents(s, lo, hi, top));
      if (integerValues) {
        scaleWeights(s, lo, hi, cell + load<i32>(layout, LAYOUT_V_SCALE));
        store<f32>(scratch + P_UNIT + (i << 2), quantizeRow(s + (lo << 2), s + (lo << 1), hi - lo));
      }
    }
  }
}

/** O += weights * V over the tokens that the block sees. */
function addPage(item: usize, scratch: usize, ref: usize, layout: usize, headDim: i32, queries: i32): void {
  const format = load<i32>(layout, LAYOUT_FORMAT_V);
  const cell = load<u32>(ref, REF_CELL) as usize;
  let v = cell + load<i32>(layout, LAYOUT_V);
  if (format === FORMAT_INT8) {
    const last = (seenHi + 1) >> 1;
    values(scratch + S, seenLo >> 1, last, v, headDim, scratch + O, scratch + P_UNIT, queries);
    return;
  }
  if (format === FORMAT_F16) {
    const plane = scratch + PLANE_V;
    const from = seenLo * headDim;
    decodeHalves(v + (from << 1), plane + (from << 2), (seenHi - seenLo) * headDim);
    v = plane;
  } else if (format >= FORMAT_SCALAR) {
    if (format === FORMAT_SCALAR && isFew(item) && readsPacked(layout, false)) {
      packedValues(cell, layout, queries, seenLo & ~7, (seenHi + 7) & ~7, scratch);
      return;
    }
    if (format === FORMAT_LATENT && isFew(item)) {
      latentValues(cell, layout, queries, seenLo, seenHi, scratch);
      return;
    }
    v = scratch + PLANE_V;
    decodePlaneV(cell, layout, v, seenLo, seenHi, scratch);
  }
  const depth = seenHi - seenLo;
  const stride: usize = headDim << 2;
  const weights = scratch + S + (seenLo << 2);
  matmul(weights, depth, v + (seenLo as usize) * stride, stride, scratch + O, headDim >> 3, queries, true);
}

/** Writes result rows, or partial ones. */
function finish(item: usize, scratch: usize, row: i32, rows: i32): void {
  const group = load<i32>(item, ATTEND_GROUP);
  const headDim = load<i32>(item, ATTEND_HEAD_DIM);
  const bytes: usize = headDim << 2;
  const partial = load<u32>(item, ATTEND_PARTIAL) as usize;
  const stride = load<i32>(item, ATTEND_OUT_STRIDE) << 2;
  let to = (load<u32>(item, ATTEND_OUT) as usize) + row * stride;
  if (partial) to = partial + row * group * (bytes + 8);
  let i = 0;
  for (let r = 0; r < rows; r++) {
    for (let h = 0; h < group; h++, i++) {
      const from = scratch + O + (i as usize) * ROW;
      const sum = load<f32>(scratch + SUM + (i << 2));
      if (partial) {
        memory.copy(to, from, bytes);
        store<f32>(to + bytes, load<f32>(scratch + MAX + (i << 2)));
        store<f32>(to + bytes, sum, 4);
        to += bytes + 8;
      } else {
        divide(from, to + h * bytes, headDim, sum);
      }
    }
    if (!partial) to += stride;
  }
}

/** to = from / sum, or zeros where nothing was seen. */
export function divide(from: usize, to: usize, headDim: i32, sum: f32): void {
  const divisor = f32x4.splat(sum);
  for (let i: usize = 0, end: usize = headDim << 2; i < end; i += 16) {
    v128.store(to + i, sum > 0 ? f32x4.div(v128.load(from + i), divisor) : f32x4.splat(0));
  }
}
