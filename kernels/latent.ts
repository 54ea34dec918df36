import {
  LAYOUT_HEAD_DIM,
  LAYOUT_PLANE_K,
  LAYOUT_PLANE_V,
  PAGE_TOKENS,
  PLANE_BASIS,
  PLANE_BITS,
  PLANE_NORM,
  PLANE_RANK,
  PLANE_ROW_OFFSET,
  PLANE_ROW_SCALE,
} from './abi.ts';
import { decodeHalf, decodeHalves, encodeHalf, encodeHalves } from './f16.ts';
import { matmul } from './f32.ts';
import { latentRows, planeBlock } from './plane.ts';
import { DECODE, HELD_BYTES, HELD_K, HELD_V, LATENT_OUT, O, ROW, S, SHARED_ROWS } from './scratch.ts';

/**
 * Latent planes. Shared rows are token-major [64][rank]: halves; bytes; or half bytes, channels 2 i and 2 i + 1 in the low and the
 * high half of byte i. 8 and 4 bits: code * scale + offset with an f16 scale and offset a row.
 */

/** f32 [1024]: one row that is encoded. */
const LINE: usize = DECODE;
/** Tokens that are decoded together: a multiple of 4, and of the 6 rows of a product's tile. */
const TILE: i32 = 24;
/** Elements of the shared rows of a page that meet the weights at once, at most. */
const VALUE_STEP: i32 = 96;

/** Writes shared rows: `count` rows of f32 [rank], the last one repeated up to 64. */
export function encodeLatentRows(cell: usize, layout: usize, isK: bool, from: usize, count: i32, scratch: usize): void {
  const plane = layout + (isK ? LAYOUT_PLANE_K : LAYOUT_PLANE_V);
  const rows = latentRows(cell, layout, isK);
  const rank = load<i32>(plane, PLANE_RANK);
  const bits = load<i32>(plane, PLANE_BITS);
  const bytes = (rank * bits) >> 3;
  for (let t = 0; t < PAGE_TOKENS; t++) {
    const to = rows + t * bytes;
    if (t < count) {
      const row = from + ((t * rank) << 2);
      if (bits === 16) encodeHalves(row, to, rank);
      else encodeRow(row, to, rank, bits, rows + (t << 1), plane, scratch + LINE);
      continue;
    }
    memory.copy(to, to - bytes, bytes);
    if (bits === 16) continue;
    repeat(rows + load<i32>(plane, PLANE_ROW_SCALE), t);
    repeat(rows + load<i32>(plane, PLANE_ROW_OFFSET), t);
  }
}

function repeat(halves: usize, t: i32): void {
  store<u16>(halves + (t << 1), load<u16>(halves + ((t - 1) << 1)));
}

function encodeRow(from: usize, to: usize, rank: i32, bits: i32, params: usize, plane: usize, line: usize): void {
  const greatest = f32x4.splat(65504);
  const least = f32x4.splat(-65504);
  let low = greatest;
  let high = least;
  const end: usize = rank << 2;
  for (let i: usize = 0; i < end; i += 16) {
    const raw = v128.load(from + i);
    const x = f32x4.max(least, f32x4.min(greatest, v128.and(raw, f32x4.eq(raw, raw))));
    v128.store(line + i, x);
    low = f32x4.min(low, x);
    high = f32x4.max(high, x);
  }
  low = f32x4.min(low, v128.shuffle<i32>(low, low, 2, 3, 0, 1));
  low = f32x4.min(low, v128.shuffle<i32>(low, low, 1, 0, 3, 2));
  high = f32x4.max(high, v128.shuffle<i32>(high, high, 2, 3, 0, 1));
  high = f32x4.max(high, v128.shuffle<i32>(high, high, 1, 0, 3, 2));
  const levels = ((1 << bits) - 1) as f32;
  const halfOffset = encodeHalf(f32x4.extract_lane(low, 0));
  const halfScale = encodeHalf((f32x4.extract_lane(high, 0) - f32x4.extract_lane(low, 0)) / levels);
  store<u16>(params + load<i32>(plane, PLANE_ROW_SCALE), halfScale as u16);
  store<u16>(params + load<i32>(plane, PLANE_ROW_OFFSET), halfOffset as u16);
  const scale = decodeHalf(halfScale);
  const inverse = f32x4.splat(scale > 0 ? 1 / scale : 0);
  const offset = f32x4.splat(decodeHalf(halfOffset));
  const most = f32x4.splat(levels);
  const zero = f32x4.splat(0);
  for (let i: usize = 0; i < end; i += 16) {
    const code = f32x4.nearest(f32x4.mul(f32x4.sub(v128.load(line + i), offset), inverse));
    v128.store(line + i, i32x4.trunc_sat_f32x4_s(f32x4.min(most, f32x4.max(zero, code))));
  }
  if (bits === 8) {
    for (let i = 0; i < rank; i++) store<u8>(to + i, load<u8>(line + (i << 2)));
  } else {
    for (let i = 0; i < rank; i += 2)
      store<u8>(to + (i >> 1), load<u8>(line + (i << 2)) | (load<u8>(line + (i << 2), 4) << 4));
  }
}

/** Writes this view's factors: `count` of them, the last one repeated up to 64. */
export function encodeNorms(cell: usize, layout: usize, isK: bool, from: usize, count: i32): void {
  const norm = load<i32>(layout + (isK ? LAYOUT_PLANE_K : LAYOUT_PLANE_V), PLANE_NORM);
  if (norm < 0) return;
  for (let t = 0; t < PAGE_TOKENS; t++)
    store<f32>(cell + norm + (t << 2), load<f32>(from + (min<i32>(t, count - 1) << 2)));
}

/** Decodes elements [from, from + count) of the shared row of one token to f32; both are multiples of 8. */
function decodeLatentRow(rows: usize, plane: usize, token: i32, from: i32, count: i32, to: usize): void {
  const rank = load<i32>(plane, PLANE_RANK);
  const bits = load<i32>(plane, PLANE_BITS);
  const row = rows + (((token * rank + from) * bits) >> 3);
  if (bits === 16) {
    decodeHalves(row, to, count);
    return;
  }
  const params = rows + (token << 1);
  const scale = f32x4.splat(decodeHalf(load<u16>(params + load<i32>(plane, PLANE_ROW_SCALE)) as i32));
  const offset = f32x4.splat(decodeHalf(load<u16>(params + load<i32>(plane, PLANE_ROW_OFFSET)) as i32));
  for (let i = 0; i < count; i += 8) {
    let codes = i16x8.splat(0);
    if (bits === 8) codes = v128.load_ext<u8>(row + i);
    else {
      const pairs = i32x4.splat(load<i32>(row + (i >> 1)));
      const both = v128.shuffle<i8>(pairs, i8x16.shr_u(pairs, 4), 0, 16, 1, 17, 2, 18, 3, 19, 0, 0, 0, 0, 0, 0, 0, 0);
      codes = i16x8.extend_low_i8x16_u(v128.and(both, i8x16.splat(15)));
    }
    const at = to + (i << 2);
    const x = f32x4.convert_i32x4_u(i32x4.extend_low_i16x8_u(codes));
    const y = f32x4.convert_i32x4_u(i32x4.extend_high_i16x8_u(codes));
    v128.store(at, f32x4.add(f32x4.mul(x, scale), offset));
    v128.store(at, f32x4.add(f32x4.mul(y, scale), offset), 16);
  }
}

/** Where the f32 bases lie that HELD_K and HELD_V hold; pages of a view share them. 0: none. */
let heldK: usize = 0;
let heldV: usize = 0;

/** Another record begins: what lies at an address may be another basis by now. */
export function forgetBases(): void {
  heldK = 0;
  heldV = 0;
}

/** Rows of a basis that are decoded at once. */
function basisStep(headDim: i32): i32 {
  return min<i32>(256, ((HELD_BYTES >> 2) / headDim) & ~7);
}

/** Rows [from, from + count) of a basis as f32 [count][headDim]. A basis that fits whole is decoded once a record. */
function basisRows(basis: usize, isK: bool, rank: i32, headDim: i32, from: i32, count: i32, scratch: usize): usize {
  const to = scratch + (isK ? HELD_K : HELD_V);
  const whole = rank <= basisStep(headDim);
  if (!whole || (isK ? heldK : heldV) !== basis) {
    const first = whole ? 0 : from;
    decodeHalves(basis + ((first * headDim) << 1), to, (whole ? rank : count) * headDim);
    if (isK) heldK = whole ? basis : 0;
    else heldV = whole ? basis : 0;
  }
  return whole ? to + ((from * headDim) << 2) : to;
}

/** norm[t] * (C[t] . B), or norm[t] * C[t] without a basis; a plane as decodePlaneK and decodePlaneV write it. */
export function decodeLatent(cell: usize, layout: usize, isK: bool, to: usize, lo: i32, hi: i32, scratch: usize): void {
  const plane = layout + (isK ? LAYOUT_PLANE_K : LAYOUT_PLANE_V);
  const headDim = load<i32>(layout, LAYOUT_HEAD_DIM);
  const rank = load<i32>(plane, PLANE_RANK);
  const rows = latentRows(cell, layout, isK);
  const basis = load<i32>(plane, PLANE_BASIS) ? planeBlock(cell, layout, isK) : 0;
  const norm = load<i32>(plane, PLANE_NORM);
  const shared = scratch + SHARED_ROWS;
  const out = scratch + LATENT_OUT;
  const end = (hi + 3) & ~3;
  for (let t = lo & ~3; t < end; t += TILE) {
    const count = min<i32>(TILE, end - t);
    if (basis) {
      const step = basisStep(headDim);
      for (let from = 0; from < rank; from += step) {
        const depth = min<i32>(step, rank - from);
        for (let i = 0; i < count; i++) decodeLatentRow(rows, plane, t + i, from, depth, shared + (i as usize) * ROW);
        const b = basisRows(basis, isK, rank, headDim, from, depth, scratch);
        matmul(shared, depth, b, headDim << 2, out, headDim >> 3, count, from > 0);
      }
    } else {
      for (let i = 0; i < count; i++) decodeLatentRow(rows, plane, t + i, 0, rank, out + (i as usize) * ROW);
    }
    if (norm >= 0)
      for (let i = 0; i < count; i++) scale(out + (i as usize) * ROW, load<f32>(cell + norm + ((t + i) << 2)), headDim);
    for (let i = 0; i < count; i += 4) {
      const from = out + (i as usize) * ROW;
      if (isK) scatter(from, to + ((t + i) << 2), headDim);
      else
        for (let j = 0; j < 4; j++)
          memory.copy(to + (((t + i + j) * headDim) << 2), from + (j as usize) * ROW, headDim << 2);
    }
  }
}

function scale(row: usize, factor: f32, count: i32): void {
  const x = f32x4.splat(factor);
  for (const end = row + (count << 2); row < end; row += 16) v128.store(row, f32x4.mul(v128.load(row), x));
}

/**
 * O += weights of tokens lo..hi times values, for at most 8 queries: (p . C) . B, so that no row of values is built. Shared rows
 * are taken in stretches.
 */
export function latentValues(cell: usize, layout: usize, queries: i32, lo: i32, hi: i32, scratch: usize): void {
  const plane = layout + LAYOUT_PLANE_V;
  const headDim = load<i32>(layout, LAYOUT_HEAD_DIM);
  const rank = load<i32>(plane, PLANE_RANK);
  const rows = latentRows(cell, layout, false);
  const basis = load<i32>(plane, PLANE_BASIS) ? planeBlock(cell, layout, false) : 0;
  const norm = load<i32>(plane, PLANE_NORM);
  const depth = hi - lo;
  let weights = scratch + S + (lo << 2);
  if (norm >= 0) {
    const scaled = scratch + LATENT_OUT + 8 * ROW;
    for (let i = 0; i < queries; i++) {
      const from = weights + (i as usize) * ROW;
      const to = scaled + (i as usize) * ROW;
      for (let t = 0; t < depth; t++)
        store<f32>(to + (t << 2), load<f32>(from + (t << 2)) * load<f32>(cell + norm + ((lo + t) << 2)));
    }
    weights = scaled;
  }
  const shared = scratch + SHARED_ROWS;
  const sums = scratch + LATENT_OUT;
  const step = min<i32>(VALUE_STEP, basisStep(headDim));
  for (let from = 0; from < rank; from += step) {
    const width = min<i32>(step, rank - from);
    const stride: usize = width << 2;
    for (let t = lo; t < hi; t++) decodeLatentRow(rows, plane, t, from, width, shared + ((t - lo) as usize) * stride);
    if (!basis) {
      matmul(weights, depth, shared, stride, scratch + O + (from << 2), width >> 3, queries, true);
      continue;
    }
    matmul(weights, depth, shared, stride, sums, width >> 3, queries, false);
    const b = basisRows(basis, false, rank, headDim, from, width, scratch);
    matmul(sums, width, b, headDim << 2, scratch + O, headDim >> 3, queries, true);
  }
}

/** Four token-major rows to four columns of [headDim][64]. */
function scatter(rows: usize, to: usize, headDim: i32): void {
  for (let c = 0; c < headDim; c += 4, rows += 16) {
    transpose4(rows, ROW, to + (c << 8), 256);
  }
}

/** A block of 4 x 4, rows `from` and `to` strides apart. */
export function transpose4(from: usize, stride: usize, to: usize, toStride: usize): void {
  const a = v128.load(from);
  const b = v128.load(from + stride);
  const c = v128.load(from + 2 * stride);
  const d = v128.load(from + 3 * stride);
  const ab = v128.shuffle<i32>(a, b, 0, 4, 1, 5);
  const cd = v128.shuffle<i32>(c, d, 0, 4, 1, 5);
  const ef = v128.shuffle<i32>(a, b, 2, 6, 3, 7);
  const gh = v128.shuffle<i32>(c, d, 2, 6, 3, 7);
  v128.store(to, v128.shuffle<i64>(ab, cd, 0, 2));
  v128.store(to + toStride, v128.shuffle<i64>(ab, cd, 1, 3));
  v128.store(to + 2 * toStride, v128.shuffle<i64>(ef, gh, 0, 2));
  v128.store(to + 3 * toStride, v128.shuffle<i64>(ef, gh, 1, 3));
}
