import {
  PAGE_TOKENS,
  PART_ALONG,
  PART_BITS,
  PART_CODES,
  PART_CODES_HIGH,
  PART_GROUP,
  PART_LUT,
  PART_OFFSET,
  PART_RANGE,
  PART_SCALE,
  PART_SHARED,
  PART_WIDTH,
  RANGE_ABSMAX,
  RANGE_SIGN,
  RANGE_TERNARY,
} from './abi.ts';
import { decodeHalf, decodeLine } from './f16.ts';
import { DECODE } from './scratch.ts';

/**
 * Codes of a part as a matrix (PART): rows are channels of K and tokens of V, two of them side by side; lanes are tokens of
 * K and channels of V. A group runs along lanes within a row, or along rows within a lane.
 */

/** f32 [MAX_HEAD_DIM] scale, then offset, by lane: of the first row and of the second one. */
const SCALES: usize = DECODE;
const LINE_BYTES: usize = 1024;
/** One vector. */
const PACKED: usize = DECODE + 8192;

/** Do groups run along lanes? */
export function alongLanes(part: usize, isK: bool): bool {
  return isK === (load<i32>(part, PART_ALONG) === 0);
}

export function lanesOf(part: usize, isK: bool): i32 {
  return isK ? PAGE_TOKENS : load<i32>(part, PART_WIDTH);
}

export function rowsOf(part: usize, isK: bool): i32 {
  return isK ? load<i32>(part, PART_WIDTH) : PAGE_TOKENS;
}

/** Bytes of the codes of two rows. */
export function pairBytes(lanes: i32, bits: i32): i32 {
  return ((lanes * bits + 63) >> 6) << 4;
}

/** LUT or code times scale plus offset of rows `row` and `row` + 1, lanes lo..hi (multiples of 8), to f32 at to0 and to1. */
export function decodePair(
  part: usize,
  base: usize,
  block: usize,
  isK: bool,
  row: i32,
  to0: usize,
  to1: usize,
  lo: i32,
  hi: i32,
  scratch: usize,
): void {
  const bits = load<i32>(part, PART_BITS);
  const lanes = lanesOf(part, isK);
  const codes = base + load<i32>(part, PART_CODES);
  const pair = row >> 1;
  if (bits === 16) {
    const from = codes + ((row * lanes + lo) << 1);
    const count = min<i32>(hi, lanes) - lo;
    decodeLine(from, to0 + (lo << 2), count);
    if (row + 1 < rowsOf(part, isK)) decodeLine(from + (lanes << 1), to1 + (lo << 2), count);
    return;
  }
  const low = bits === 3 ? 2 : bits;
  const stretch = codes + pair * pairBytes(lanes, low);
  const high = bits === 3 ? base + load<i32>(part, PART_CODES_HIGH) + pair * pairBytes(lanes, 1) : 0;
  const last = min<i32>(row + 1, rowsOf(part, isK) - 1);
  const line0 = scratch + SCALES;
  let line1 = line0;
  scaleLine(part, base, block, isK, row, line0);
  if (alongLanes(part, isK) || row / load<i32>(part, PART_GROUP) !== last / load<i32>(part, PART_GROUP)) {
    line1 = line0 + 2 * LINE_BYTES;
    scaleLine(part, base, block, isK, last, line1);
  }
  const lut = load<u32>(part, PART_LUT) as usize;
  const ones = i16x8.splat(0xff);
  for (let i = lo; i < hi; i += 8) {
    const packed = codesAt(stretch, high, low, i >> 3);
    const at: usize = i << 2;
    if (lut === 0) {
      const even = v128.and(packed, ones);
      const odd = i16x8.shr_u(packed, 8);
      put(f32x4.convert_i32x4_u(i32x4.extend_low_i16x8_u(even)), line0 + at, to0 + at);
      put(f32x4.convert_i32x4_u(i32x4.extend_high_i16x8_u(even)), line0 + at + 16, to0 + at + 16);
      put(f32x4.convert_i32x4_u(i32x4.extend_low_i16x8_u(odd)), line1 + at, to1 + at);
      put(f32x4.convert_i32x4_u(i32x4.extend_high_i16x8_u(odd)), line1 + at + 16, to1 + at + 16);
    } else {
      v128.store(scratch + PACKED, packed);
      for (let j: usize = 0; j < 8; j++) {
        const code = load<u16>(scratch + PACKED + (j << 1)) as usize;
        const x = at + (j << 2);
        const y0 = load<f32>(lut + ((code & 255) << 2));
        const y1 = load<f32>(lut + ((code >> 8) << 2));
        store<f32>(to0 + x, y0 * load<f32>(line0 + x) + load<f32>(line0 + x, LINE_BYTES));
        store<f32>(to1 + x, y1 * load<f32>(line1 + x) + load<f32>(line1 + x, LINE_BYTES));
      }
    }
  }
}

/** Codes of 8 lanes, the two rows alternating. */
export function codesAt(stretch: usize, high: usize, bits: i32, chunk: i32): v128 {
  const shift = bits === 1 ? 3 : bits === 2 ? 2 : bits === 4 ? 1 : 0;
  const slot = chunk & ((1 << shift) - 1);
  const packed = i16x8.shr_u(v128.load(stretch + ((chunk >> shift) << 4)), slot * bits);
  const code = v128.and(packed, i32x4.splat(((1 << bits) - 1) * 0x01010101));
  if (high === 0) return code;
  const top = i16x8.shr_u(v128.load(high + ((chunk >> 3) << 4)), chunk & 7);
  return v128.or(code, i16x8.shl(v128.and(top, i8x16.splat(1)), 2));
}

/** Products are exact (8 bits by 11), so fused and unfused builds agree. */
function put(code: v128, line: usize, to: usize): void {
  v128.store(to, f32x4.add(f32x4.mul(code, v128.load(line)), v128.load(line, LINE_BYTES)));
}

/** Scale and offset by lane of one row, such that code * scale + offset is the decoded number (LUT[code] where there is one). */
function scaleLine(part: usize, base: usize, block: usize, isK: bool, row: i32, line: usize): void {
  const from = load<i32>(part, PART_SHARED) ? block : base;
  const lanes = lanesOf(part, isK);
  const group = load<i32>(part, PART_GROUP);
  const scale = from + load<i32>(part, PART_SCALE);
  let offset: usize = 0;
  if (load<i32>(part, PART_OFFSET) >= 0) offset = from + load<i32>(part, PART_OFFSET);
  const range = load<i32>(part, PART_RANGE);
  // Codes around the middle: (code - middle) * scale is code * scale - middle * scale, exactly.
  let factor: f32 = 1;
  let middle: f32 = 0;
  if (!load<u32>(part, PART_LUT)) {
    if (range === RANGE_ABSMAX) middle = (1 << (load<i32>(part, PART_BITS) - 1)) as f32;
    if (range === RANGE_TERNARY) middle = 1;
    if (range === RANGE_SIGN) {
      factor = 2;
      middle = 0.5;
    }
  }
  if (alongLanes(part, isK)) {
    const step: usize = rowsOf(part, isK) << 1;
    let at: usize = row << 1;
    for (let lane = 0; lane < lanes; lane += group, at += step) {
      const s = decodeHalf(load<u16>(scale + at) as i32) * factor;
      const o = offset ? decodeHalf(load<u16>(offset + at) as i32) : -middle * s;
      spread(line + (lane << 2), s, group);
      spread(line + LINE_BYTES + (lane << 2), o, group);
    }
    return;
  }
  const at = ((row / group) * lanes) << 1;
  decodeLine(scale + at, line, lanes);
  if (offset) {
    decodeLine(offset + at, line + LINE_BYTES, lanes);
    return;
  }
  for (let i = 0; i < lanes; i++) {
    const s = load<f32>(line + (i << 2)) * factor;
    store<f32>(line + (i << 2), s);
    store<f32>(line + (i << 2), -middle * s, LINE_BYTES);
  }
}

function spread(to: usize, x: f32, count: i32): void {
  const value = f32x4.splat(x);
  const whole = count & ~3;
  for (let i = 0; i < whole; i += 4) v128.store(to + (i << 2), value);
  for (let i = whole; i < count; i++) store<f32>(to + (i << 2), x);
}
