import {
  PART_BITS,
  PART_CLIP,
  PART_CODES,
  PART_CODES_HIGH,
  PART_GROUP,
  PART_LUT,
  PART_LUT_GREATEST,
  PART_LUT_LEAST,
  PART_OFFSET,
  PART_RANGE,
  PART_SCALE,
  PART_SHARED,
  PART_THRESHOLD,
  RANGE_ABSMAX,
  RANGE_DEVIATION,
  RANGE_SIGN,
  RANGE_TERNARY,
} from './abi.ts';
import { alongLanes, lanesOf, rowsOf } from './codes.ts';
import { decodeLine, encodeHalves } from './f16.ts';
import { pack, splitHighBit } from './pack.ts';
import { maxOf, sumOf } from './vector.ts';

/**
 * From numbers to parameters and codes: one part as a matrix (codes.ts) of f32 rows `stride` bytes apart, whose lanes beyond the
 * last one, up to a multiple of 64, hold zeros, and which one row of zeros may follow. The matrix is overwritten.
 */

/** f32 [256] from `work` on: borders between LUT values; then scales and offsets, up to 16384 of each. */
const SCALES: usize = 1024;
const OFFSETS: usize = SCALES + 65600;
export const QUANTIZE_BYTES: usize = OFFSETS + 65600;

export function quantize(
  part: usize,
  base: usize,
  block: usize,
  isK: bool,
  matrix: usize,
  stride: usize,
  work: usize,
): void {
  const bits = load<i32>(part, PART_BITS);
  const rows = rowsOf(part, isK);
  const lanes = lanesOf(part, isK);
  const codes = base + load<i32>(part, PART_CODES);
  if (bits === 16) {
    for (let r = 0; r < rows; r++) encodeHalves(matrix + (r as usize) * stride, codes + ((r * lanes) << 1), lanes);
    return;
  }
  parameters(part, base, block, isK, matrix, stride, work);
  const lut = load<u32>(part, PART_LUT) as usize;
  if (lut) memory.copy(work, lut + ((1 << bits) << 2), ((1 << bits) - 1) << 2);
  const group = load<i32>(part, PART_GROUP);
  const along = alongLanes(part, isK);
  for (let r = 0; r < rows; r++) {
    const row = matrix + (r as usize) * stride;
    if (along) {
      let at: usize = r << 2;
      for (let lane = 0; lane < lanes; lane += group, at += rows << 2)
        codesOf(part, row + (lane << 2), group, work, at, 0);
    } else {
      codesOf(part, row, lanes, work, ((r / group) * lanes) << 2, 1);
    }
    memory.fill(row + (lanes << 2), 0, (((lanes + 63) & ~63) - lanes) << 2);
  }
  if (rows & 1) memory.fill(matrix + (rows as usize) * stride, 0, stride);
  if (bits === 3)
    splitHighBit(
      matrix,
      stride,
      rows,
      (lanes + 63) & ~63,
      work + SCALES,
      base + load<i32>(part, PART_CODES_HIGH),
      lanes,
    );
  pack(matrix, stride, rows, lanes, bits === 3 ? 2 : bits, codes);
}

/**
 * Stores f16 scales and offsets; leaves 1 / scale (0 where the scale is 0) and offset, as stored, in the work space (of
 * ternary codes: half the inverse of the threshold, which alone decides on a code, and 0).
 */
function parameters(
  part: usize,
  base: usize,
  block: usize,
  isK: bool,
  matrix: usize,
  stride: usize,
  work: usize,
): void {
  const rows = rowsOf(part, isK);
  const lanes = lanesOf(part, isK);
  const group = load<i32>(part, PART_GROUP);
  const along = alongLanes(part, isK);
  const range = load<i32>(part, PART_RANGE);
  const count = along ? (lanes / group) * rows : (rows / group) * lanes;
  const scales = work + SCALES;
  const offsets = work + OFFSETS;
  const shared = load<i32>(part, PART_SHARED) !== 0;
  const scale = (shared ? block : base) + load<i32>(part, PART_SCALE);
  let offset: usize = 0;
  if (load<i32>(part, PART_OFFSET) >= 0) offset = (shared ? block : base) + load<i32>(part, PART_OFFSET);
  if (!shared) {
    if (range === RANGE_SIGN) means(matrix, stride, rows, lanes, group, along, MAGNITUDE, 0, scales);
    else if (range === RANGE_TERNARY)
      beyond(matrix, stride, rows, lanes, group, along, load<f32>(part, PART_THRESHOLD), count, offsets, scales);
    else if (range === RANGE_DEVIATION) deviations(matrix, stride, rows, lanes, group, along, count, offsets, scales);
    else extremes(matrix, stride, rows, lanes, group, along, offsets, scales);
    const least = load<f32>(part, PART_LUT_LEAST);
    const greatest = load<f32>(part, PART_LUT_GREATEST);
    const clip = f32x4.splat((1 - load<f32>(part, PART_CLIP)) * 0.5);
    const span = f32x4.splat(greatest - least);
    const low = f32x4.splat(least);
    const reach = f32x4.splat(load<u32>(part, PART_LUT) ? max<f32>(abs<f32>(least), abs<f32>(greatest)) : greatest);
    for (let i: usize = 0; i < (count as usize) << 2; i += 16) {
      let least = v128.load(offsets + i);
      let greatest = v128.load(scales + i);
      if (range === RANGE_ABSMAX) {
        v128.store(scales + i, f32x4.div(f32x4.pmax(f32x4.abs(least), f32x4.abs(greatest)), reach));
      } else if (range !== RANGE_SIGN && range !== RANGE_TERNARY) {
        const aside = f32x4.mul(clip, f32x4.sub(greatest, least));
        least = f32x4.add(least, aside);
        greatest = f32x4.sub(greatest, aside);
        const step = f32x4.div(f32x4.sub(greatest, least), span);
        v128.store(scales + i, step);
        v128.store(offsets + i, f32x4.sub(least, f32x4.mul(low, step)));
      }
    }
    encodeHalves(scales, scale, count);
    if (offset) encodeHalves(offsets, offset, count);
    if (range === RANGE_TERNARY) {
      inverses(offsets, scales, count, 0.5);
      memory.fill(offsets, 0, count << 2);
      return;
    }
  }
  decodeLine(scale, scales, count);
  if (offset) decodeLine(offset, offsets, count);
  else memory.fill(offsets, 0, count << 2);
  inverses(scales, scales, count, 1);
}

/** to = factor / from, 0 where that is 0. */
function inverses(from: usize, to: usize, count: i32, factor: f32): void {
  const one = f32x4.splat(factor);
  for (let i: usize = 0; i < (count as usize) << 2; i += 16) {
    const x = v128.load(from + i);
    v128.store(to + i, v128.and(f32x4.div(one, x), f32x4.ne(x, f32x4.splat(0))));
  }
}

/** Least and greatest element of each group, in the order of parameters. */
function extremes(
  matrix: usize,
  stride: usize,
  rows: i32,
  lanes: i32,
  group: i32,
  along: bool,
  low: usize,
  high: usize,
): void {
  if (along) {
    for (let r = 0; r < rows; r++) {
      const row = matrix + (r as usize) * stride;
      let at: usize = r << 2;
      for (let lane = 0; lane < lanes; lane += group, at += rows << 2) {
        const from = row + (lane << 2);
        let least = v128.load_splat<f32>(from);
        let greatest = least;
        const whole = group & ~3;
        for (let i = 0; i < whole; i += 4) {
          const x = v128.load(from + (i << 2));
          least = f32x4.pmin(least, x);
          greatest = f32x4.pmax(greatest, x);
        }
        for (let i = whole; i < group; i++) {
          const x = v128.load_splat<f32>(from + (i << 2));
          least = f32x4.pmin(least, x);
          greatest = f32x4.pmax(greatest, x);
        }
        store<f32>(low + at, -maxOf(f32x4.neg(least)));
        store<f32>(high + at, maxOf(greatest));
      }
    }
    return;
  }
  for (let r = 0; r < rows; r += group) {
    const to: usize = ((r / group) * lanes) << 2;
    const first = matrix + (r as usize) * stride;
    // The last vector may reach into the next group's parameters, which are written after it.
    for (let i: usize = 0; i < (lanes as usize) << 2; i += 16) {
      let least = v128.load(first + i);
      let greatest = least;
      let at = first + i + stride;
      for (let j = 1; j < group; j++, at += stride) {
        const x = v128.load(at);
        least = f32x4.pmin(least, x);
        greatest = f32x4.pmax(greatest, x);
      }
      v128.store(low + to + i, least);
      v128.store(high + to + i, greatest);
    }
  }
}

/** What means are taken of: elements, how far they are from `around` (0: from 0), or magnitudes of at least `around`. */
const VALUE: i32 = 0;
const MAGNITUDE: i32 = 1;
const BEYOND: i32 = 2;

/** Mean and mean absolute deviation of each group: `low` one less the other, `high` their sum. */
function deviations(
  matrix: usize,
  stride: usize,
  rows: i32,
  lanes: i32,
  group: i32,
  along: bool,
  count: i32,
  low: usize,
  high: usize,
): void {
  means(matrix, stride, rows, lanes, group, along, VALUE, 0, low);
  means(matrix, stride, rows, lanes, group, along, MAGNITUDE, low, high);
  for (let i: usize = 0; i < (count as usize) << 2; i += 16) {
    const mean = v128.load(low + i);
    const far = v128.load(high + i);
    v128.store(low + i, f32x4.sub(mean, far));
    v128.store(high + i, f32x4.add(mean, far));
  }
}

/** Thresholds, a share of each group's mean magnitude, and the mean magnitude of what reaches them. */
function beyond(
  matrix: usize,
  stride: usize,
  rows: i32,
  lanes: i32,
  group: i32,
  along: bool,
  share: f32,
  count: i32,
  thresholds: usize,
  to: usize,
): void {
  means(matrix, stride, rows, lanes, group, along, MAGNITUDE, 0, thresholds);
  for (let i: usize = 0; i < (count as usize) << 2; i += 16)
    v128.store(thresholds + i, f32x4.mul(v128.load(thresholds + i), f32x4.splat(share)));
  means(matrix, stride, rows, lanes, group, along, BEYOND, thresholds, to);
}

/** A mean a group, in the order of parameters. `around`: f32 a group, 0: zeros. */
function means(
  matrix: usize,
  stride: usize,
  rows: i32,
  lanes: i32,
  group: i32,
  along: bool,
  kind: i32,
  around: usize,
  to: usize,
): void {
  const zero = f32x4.splat(0);
  const one = f32x4.splat(1);
  for (let r = 0; r < rows; r += along ? 1 : group) {
    const row = matrix + (r as usize) * stride;
    if (along) {
      let at: usize = r << 2;
      for (let lane = 0; lane < lanes; lane += group, at += rows << 2) {
        const centre = around ? v128.load_splat<f32>(around + at) : zero;
        const whole = lane + (group & ~3);
        let sum = zero;
        let count = zero;
        for (let i = lane; i < whole; i += 4) {
          const x = v128.load(row + (i << 2));
          sum = f32x4.add(sum, share(x, centre, kind));
          if (kind === BEYOND) count = f32x4.add(count, v128.and(f32x4.ge(f32x4.abs(x), centre), one));
        }
        let total = sumOf(sum);
        let counted = sumOf(count);
        for (let i = whole; i < lane + group; i++) {
          const x = v128.load_splat<f32>(row + (i << 2));
          total += f32x4.extract_lane(share(x, centre, kind), 0);
          if (kind === BEYOND) counted += f32x4.extract_lane(v128.and(f32x4.ge(f32x4.abs(x), centre), one), 0);
        }
        store<f32>(to + at, total / (kind === BEYOND ? max<f32>(counted, 1) : (group as f32)));
      }
    } else {
      const first: usize = ((r / group) * lanes) << 2;
      for (let i: usize = 0; i < (lanes as usize) << 2; i += 16) {
        const centre = around ? v128.load(around + first + i) : zero;
        let sum = zero;
        let count = zero;
        for (let j = 0; j < group; j++) {
          const x = v128.load(row + (j as usize) * stride + i);
          sum = f32x4.add(sum, share(x, centre, kind));
          if (kind === BEYOND) count = f32x4.add(count, v128.and(f32x4.ge(f32x4.abs(x), centre), one));
        }
        const counted = kind === BEYOND ? f32x4.pmax(one, count) : f32x4.splat(group as f32);
        v128.store(to + first + i, f32x4.div(sum, counted));
      }
    }
  }
}

function share(x: v128, centre: v128, kind: i32): v128 {
  if (kind === VALUE) return x;
  if (kind === MAGNITUDE) return f32x4.abs(f32x4.sub(x, centre));
  const size = f32x4.abs(x);
  return v128.and(size, f32x4.ge(size, centre));
}

/**
 * Replaces `count` numbers by codes, as f32. The parameters of the first one lie `param` bytes into the work space's arrays; those
 * of the next ones are the same (step 0) or follow.
 */
function codesOf(part: usize, from: usize, count: i32, work: usize, param: usize, step: usize): void {
  const bits = load<i32>(part, PART_BITS);
  const range = load<i32>(part, PART_RANGE);
  const lut = load<u32>(part, PART_LUT) !== 0;
  const scales = work + SCALES + param;
  const offsets = work + OFFSETS + param;
  const ternary = range === RANGE_TERNARY;
  const most = f32x4.splat(ternary ? 2 : (((1 << bits) - 1) as f32));
  const half: f32 = range === RANGE_ABSMAX && !lut ? ((1 << (bits - 1)) as f32) : 0;
  const middle = f32x4.splat(ternary ? 1 : half);
  const zero = f32x4.splat(0);
  const one = f32x4.splat(1);
  const end: usize = count << 2;
  let inverse = v128.load_splat<f32>(scales);
  let offset = v128.load_splat<f32>(offsets);
  for (let i: usize = 0; i < end; i += 16) {
    if (step) {
      inverse = v128.load(scales + i);
      offset = v128.load(offsets + i);
    }
    const x = v128.load(from + i);
    let code = f32x4.add(f32x4.mul(f32x4.sub(x, offset), inverse), middle);
    if (lut) code = nearestOf(code, work, bits);
    else if (range === RANGE_SIGN) code = v128.and(f32x4.ge(x, zero), one);
    else code = f32x4.nearest(f32x4.pmin(most, f32x4.pmax(zero, code)));
    if (i + 16 <= end) {
      v128.store(from + i, code);
    } else {
      store<f32>(from + i, f32x4.extract_lane(code, 0));
      if (i + 8 <= end) store<f32>(from + i, f32x4.extract_lane(code, 1), 4);
      if (i + 12 <= end) store<f32>(from + i, f32x4.extract_lane(code, 2), 8);
    }
  }
}

/** How many of the ascending points lie below each number: the index of the nearest LUT value. */
function nearestOf(x: v128, points: usize, bits: i32): v128 {
  if (bits <= 4) {
    let count = i32x4.splat(0);
    for (let i: usize = 0; i < ((1 << bits) - 1) << 2; i += 4)
      count = i32x4.sub(count, f32x4.gt(x, v128.load_splat<f32>(points + i)));
    return f32x4.convert_i32x4_s(count);
  }
  let out = f32x4.splat(below(f32x4.extract_lane(x, 0), points));
  out = f32x4.replace_lane(out, 1, below(f32x4.extract_lane(x, 1), points));
  out = f32x4.replace_lane(out, 2, below(f32x4.extract_lane(x, 2), points));
  return f32x4.replace_lane(out, 3, below(f32x4.extract_lane(x, 3), points));
}

function below(x: f32, points: usize): f32 {
  let low = 0;
  for (let half = 128; half > 0; half >>= 1) {
    if (x > load<f32>(points + ((low + half - 1) << 2))) low += half;
  }
  return low as f32;
}
