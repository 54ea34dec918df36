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
import { latentRows, planeBlock } from './plane.ts';
import { DECODE } from './scratch.ts';

/**
 * Latent planes. Shared rows are token-major [64][rank]: halves; bytes; or half bytes, channels 2 i and 2 i + 1 in the low and the
 * high half of byte i. 8 and 4 bits: code * scale + offset with an f16 scale and offset a row.
 */

/** f32 [4][1024]: shared rows of four tokens; in encode, one row. */
const SHARED: usize = DECODE;
/** f32 [4][MAX_HEAD_DIM]: decoded rows of four tokens. */
const ROWS: usize = DECODE + 16384;
const ROW_BYTES: usize = 1024;
/** f32 [8]: a stretch of the basis. */
const BASIS: usize = ROWS + 4 * ROW_BYTES;

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
      else encodeRow(row, to, rank, bits, rows + (t << 1), plane, scratch + SHARED);
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

/** Decodes the shared row of one token to f32 [rank]. */
export function decodeLatentRow(rows: usize, plane: usize, token: i32, to: usize): void {
  const rank = load<i32>(plane, PLANE_RANK);
  const bits = load<i32>(plane, PLANE_BITS);
  const from = rows + ((token * rank * bits) >> 3);
  if (bits === 16) {
    decodeHalves(from, to, rank);
    return;
  }
  const params = rows + (token << 1);
  const scale = f32x4.splat(decodeHalf(load<u16>(params + load<i32>(plane, PLANE_ROW_SCALE)) as i32));
  const offset = f32x4.splat(decodeHalf(load<u16>(params + load<i32>(plane, PLANE_ROW_OFFSET)) as i32));
  for (let i = 0; i < rank; i += 8) {
    let codes = i16x8.splat(0);
    if (bits === 8) codes = v128.load_ext<u8>(from + i);
    else {
      const pairs = i32x4.splat(load<i32>(from + (i >> 1)));
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

/** norm[t] * (C[t] . B), or norm[t] * C[t] without a basis; a plane as decodePlaneK and decodePlaneV write it. */
export function decodeLatent(cell: usize, layout: usize, isK: bool, to: usize, lo: i32, hi: i32, scratch: usize): void {
  const plane = layout + (isK ? LAYOUT_PLANE_K : LAYOUT_PLANE_V);
  const headDim = load<i32>(layout, LAYOUT_HEAD_DIM);
  const rank = load<i32>(plane, PLANE_RANK);
  const rows = latentRows(cell, layout, isK);
  const basis = load<i32>(plane, PLANE_BASIS) ? planeBlock(cell, layout, isK) : 0;
  const norm = load<i32>(plane, PLANE_NORM);
  const shared = scratch + SHARED;
  const out = scratch + ROWS;
  const stride: usize = basis ? (rank as usize) << 2 : ROW_BYTES;
  for (let t = lo & ~3; t < hi; t += 4) {
    const target = basis ? shared : out;
    for (let i = 0; i < 4; i++) decodeLatentRow(rows, plane, t + i, target + (i as usize) * stride);
    if (basis) project(shared, rank, basis, headDim, out, scratch + BASIS);
    if (norm >= 0) {
      for (let i = 0; i < 4; i++) {
        const factor = v128.load_splat<f32>(cell + norm + ((t + i) << 2));
        const row = out + (i as usize) * ROW_BYTES;
        for (let c: usize = 0; c < (headDim as usize) << 2; c += 16)
          v128.store(row + c, f32x4.mul(v128.load(row + c), factor));
      }
    }
    if (isK) scatter(out, to + (t << 2), headDim);
    else
      for (let i = 0; i < 4; i++)
        memory.copy(to + (((t + i) * headDim) << 2), out + (i as usize) * ROW_BYTES, headDim << 2);
  }
}

/** Four rows of rank values times f16 B [rank][headDim], 8 channels at a time. */
function project(shared: usize, rank: i32, basis: usize, headDim: i32, out: usize, line: usize): void {
  const stride: usize = rank << 2;
  const zero = f32x4.splat(0);
  for (let c = 0; c < headDim; c += 8) {
    let a0 = zero;
    let a1 = zero;
    let b0 = zero;
    let b1 = zero;
    let c0 = zero;
    let c1 = zero;
    let d0 = zero;
    let d1 = zero;
    for (let r = 0; r < rank; r++) {
      decodeHalves(basis + ((r * headDim + c) << 1), line, 8);
      const x = v128.load(line);
      const y = v128.load(line, 16);
      const from = shared + (r << 2);
      let s = v128.load_splat<f32>(from);
      a0 = f32x4.add(a0, f32x4.mul(s, x));
      a1 = f32x4.add(a1, f32x4.mul(s, y));
      s = v128.load_splat<f32>(from + stride);
      b0 = f32x4.add(b0, f32x4.mul(s, x));
      b1 = f32x4.add(b1, f32x4.mul(s, y));
      s = v128.load_splat<f32>(from + 2 * stride);
      c0 = f32x4.add(c0, f32x4.mul(s, x));
      c1 = f32x4.add(c1, f32x4.mul(s, y));
      s = v128.load_splat<f32>(from + 3 * stride);
      d0 = f32x4.add(d0, f32x4.mul(s, x));
      d1 = f32x4.add(d1, f32x4.mul(s, y));
    }
    const at = out + (c << 2);
    v128.store(at, a0);
    v128.store(at, a1, 16);
    v128.store(at, b0, ROW_BYTES);
    v128.store(at, b1, ROW_BYTES + 16);
    v128.store(at, c0, 2 * ROW_BYTES);
    v128.store(at, c1, 2 * ROW_BYTES + 16);
    v128.store(at, d0, 3 * ROW_BYTES);
    v128.store(at, d1, 3 * ROW_BYTES + 16);
  }
}

/** Four token-major rows to four columns of [headDim][64]. */
function scatter(rows: usize, to: usize, headDim: i32): void {
  for (let c = 0; c < headDim; c += 4, rows += 16) {
    transpose4(rows, ROW_BYTES, to + (c << 8), 256);
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
