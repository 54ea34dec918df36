import {
  OUTLIERS_PER_CHANNEL,
  PAGE_TOKENS,
  PART_BYTES,
  PART_CHANNELS,
  PART_GROUP,
  PART_LUT_GREATEST,
  PART_LUT_LEAST,
  PART_OFFSET,
  PART_SCALE,
  PART_SHARED,
  PART_SIDE,
  PART_WIDTH,
  PLANE_OUTLIER_RULE,
  PLANE_OUTLIERS,
  PLANE_PART_COUNT,
  PLANE_PARTS,
} from './abi.ts';
import { alongLanes, lanesOf, rowsOf } from './codes.ts';
import { decodeHalf } from './f16.ts';
import { channelOf } from './hadamard.ts';

/** Which elements of a plane (K: f32 [headDim][64], V: [64][headDim]) are kept apart: u8 flags [64][headDim]. */

/**
 * Flags the greatest and the least elements of each channel or token, as many each as the slots suffice for; the slots that are
 * left go where they narrow ranges the most. Where elements tie, the earliest. Rows from `rows` on never. `work`: f32 [64][headDim].
 */
export function flagExtremes(
  plane: usize,
  x: usize,
  flags: usize,
  headDim: i32,
  isK: bool,
  rows: i32,
  work: usize,
): void {
  const perChannel = load<i32>(plane, PLANE_OUTLIER_RULE) === OUTLIERS_PER_CHANNEL;
  const vectors = perChannel ? headDim : rows;
  const length = perChannel ? rows : headDim;
  const slots = load<i32>(plane, PLANE_OUTLIERS);
  const most = 2 * (perChannel ? headDim : PAGE_TOKENS);
  const side = slots / most;
  const alongTokens = isK ? 1 : headDim;
  const alongChannels = isK ? PAGE_TOKENS : 1;
  const step: usize = (perChannel ? alongTokens : alongChannels) << 2;
  const stride: usize = (perChannel ? alongChannels : alongTokens) << 2;
  const flagStep: usize = perChannel ? (headDim as usize) : 1;
  const flagStride: usize = perChannel ? 1 : (headDim as usize);
  for (let v: usize = 0; v < (vectors as usize); v++) {
    for (let n = 0; n < side; n++) flagBest(x + v * stride, step, flags + v * flagStride, flagStep, length, 1);
    for (let n = 0; n < side; n++) flagBest(x + v * stride, step, flags + v * flagStride, flagStep, length, -1);
    weighEnds(x + v * stride, step, flags + v * flagStride, flagStep, length, work + v * ENDS);
  }
  for (let left = slots - side * most; left > 0; left--) {
    let best: f64 = 0;
    let at: usize = 0;
    for (let v: usize = 0; v < (vectors as usize); v++) {
      for (let end: usize = 0; end < 16; end += 8) {
        const gain = load<f64>(work + v * ENDS + end);
        if (gain <= best) continue;
        best = gain;
        at = 1 + v * 2 + (end >>> 3);
      }
    }
    if (!at) return;
    const v = (at - 1) >>> 1;
    store<u8>(load<u32>(work + v * ENDS + (((at - 1) & 1) << 2), 16) as usize, 1);
    weighEnds(x + v * stride, step, flags + v * flagStride, flagStep, length, work + v * ENDS);
  }
}

/** Of a channel or token: f64 by how much its squared range falls without its greatest, without its least element; u32 where their flags are. */
const ENDS: usize = 24;

function weighEnds(from: usize, step: usize, flags: usize, flagStep: usize, count: i32, to: usize): void {
  let high = -Infinity;
  let nextHigh = -Infinity;
  let low = Infinity;
  let nextLow = Infinity;
  for (let i = 0, flag = flags; i < count; i++, from += step, flag += flagStep) {
    if (load<u8>(flag)) continue;
    const x = load<f32>(from) as f64;
    if (x > high) {
      nextHigh = high;
      high = x;
      store<u32>(to, flag as u32, 16);
    } else if (x > nextHigh) nextHigh = x;
    if (x < low) {
      nextLow = low;
      low = x;
      store<u32>(to, flag as u32, 20);
    } else if (x < nextLow) nextLow = x;
  }
  // One element alone, or none, has no range.
  const ranged = nextHigh > -Infinity;
  const whole = ranged ? (high - low) * (high - low) : 0;
  store<f64>(to, ranged ? whole - (nextHigh - low) * (nextHigh - low) : 0);
  store<f64>(to, ranged ? whole - (high - nextLow) * (high - nextLow) : 0, 8);
}

function flagBest(from: usize, step: usize, flags: usize, flagStep: usize, count: i32, sign: f32): void {
  let best: f32 = -Infinity as f32;
  let at: usize = 0;
  for (let i = 0, flag = flags; i < count; i++, from += step, flag += flagStep) {
    const x = sign * load<f32>(from);
    if (x <= best || load<u8>(flag)) continue;
    best = x;
    at = flag;
  }
  if (at) store<u8>(at, 1);
}

/**
 * Flags the elements farthest beyond what the shared range can stand for, as many as there are slots; returns how many more
 * there are. `work`: f32 [64][headDim].
 */
export function flagBeyondRange(
  plane: usize,
  block: usize,
  x: usize,
  flags: usize,
  headDim: i32,
  isK: bool,
  rows: i32,
  work: usize,
): i32 {
  memory.fill(work, 0, (PAGE_TOKENS * headDim) << 2);
  let part = load<u32>(plane, PLANE_PARTS) as usize;
  const end = part + load<i32>(plane, PLANE_PART_COUNT) * PART_BYTES;
  for (; part < end; part += PART_BYTES) {
    if (!load<i32>(part, PART_SHARED)) continue;
    const width = load<i32>(part, PART_WIDTH);
    const channels = load<u32>(part, PART_CHANNELS) as usize;
    for (let i = 0; i < width; i++) {
      const scale = blockValue(block, load<i32>(part, PART_SCALE), i, 1);
      const offset = blockValue(block, load<i32>(part, PART_OFFSET), i, 0);
      const side = blockValue(block, load<i32>(part, PART_SIDE), i, 1);
      const a = (load<f32>(part, PART_LUT_LEAST) * scale + offset) * side;
      const b = (load<f32>(part, PART_LUT_GREATEST) * scale + offset) * side;
      const channel = channelOf(channels, i);
      for (let t = 0; t < rows; t++) {
        const value = load<f32>(x + ((isK ? channel * PAGE_TOKENS + t : t * headDim + channel) << 2));
        const beyond = max<f32>(value - max<f32>(a, b), min<f32>(a, b) - value);
        store<f32>(work + ((t * headDim + channel) << 2), max<f32>(0, beyond));
      }
    }
  }
  const slots = load<i32>(plane, PLANE_OUTLIERS);
  flagGreatest(work, flags, rows * headDim, slots);
  return max<i32>(0, countAbove(work, rows * headDim, 0) - slots);
}

function blockValue(block: usize, at: i32, i: i32, otherwise: f32): f32 {
  return at < 0 ? otherwise : decodeHalf(load<u16>(block + at + (i << 1)) as i32);
}

/** Flags the `most` greatest positive numbers; where they tie, the earliest. */
function flagGreatest(from: usize, flags: usize, count: i32, most: i32): void {
  // Positive floats are ordered as their bits are: find the least threshold that at most `most` numbers exceed.
  let low = 0;
  let high = 0x7f800000;
  while (low < high) {
    const middle = low + ((high - low) >> 1);
    if (countAbove(from, count, middle) <= most) high = middle;
    else low = middle + 1;
  }
  let left = most - countAbove(from, count, low);
  for (let i = 0; i < count; i++) {
    const bits = load<i32>(from + (i << 2));
    if (bits > low) store<u8>(flags + i, 1);
    else if (bits === low && bits > 0 && left > 0) {
      store<u8>(flags + i, 1);
      left--;
    }
  }
}

function countAbove(from: usize, count: i32, bits: i32): i32 {
  const bound = i32x4.splat(bits);
  let sum = i32x4.splat(0);
  for (let i: usize = 0; i < (count as usize) << 2; i += 16)
    sum = i32x4.sub(sum, i32x4.gt_s(v128.load(from + i), bound));
  return (
    i32x4.extract_lane(sum, 0) + i32x4.extract_lane(sum, 1) + i32x4.extract_lane(sum, 2) + i32x4.extract_lane(sum, 3)
  );
}

/**
 * Puts the mean of the other elements of their group in the place of flagged ones (0 where there is none), then repeats the last
 * of `seen` tokens. `matrix` is one part (codes.ts).
 */
export function replaceFlagged(
  part: usize,
  matrix: usize,
  stride: usize,
  flags: usize,
  headDim: i32,
  isK: bool,
  seen: i32,
): void {
  const group = load<i32>(part, PART_GROUP);
  const along = alongLanes(part, isK);
  const rows = isK ? rowsOf(part, true) : seen;
  const lanes = isK ? seen : lanesOf(part, false);
  const rowStep = along ? 1 : group;
  const laneStep = along ? group : 1;
  for (let r = 0; r < rows; r += rowStep) {
    for (let l = 0; l < lanes; l += laneStep)
      replaceGroup(
        part,
        matrix,
        stride,
        flags,
        headDim,
        isK,
        r,
        min<i32>(rows, r + rowStep),
        l,
        min<i32>(lanes, l + laneStep),
      );
  }
  if (isK) {
    for (let r = 0; r < rows; r++) {
      const row = matrix + (r as usize) * stride;
      for (let t = seen; t < PAGE_TOKENS; t++) store<f32>(row + (t << 2), load<f32>(row + ((seen - 1) << 2)));
    }
  } else {
    const last = matrix + ((seen - 1) as usize) * stride;
    for (let t = seen; t < PAGE_TOKENS; t++) memory.copy(matrix + (t as usize) * stride, last, stride);
  }
}

function replaceGroup(
  part: usize,
  matrix: usize,
  stride: usize,
  flags: usize,
  headDim: i32,
  isK: bool,
  row: i32,
  lastRow: i32,
  lane: i32,
  lastLane: i32,
): void {
  const channels = load<u32>(part, PART_CHANNELS) as usize;
  let sum: f64 = 0;
  let count = 0;
  let flagged = 0;
  for (let r = row; r < lastRow; r++) {
    for (let l = lane; l < lastLane; l++) {
      const flag = isK ? l * headDim + channelOf(channels, r) : r * headDim + channelOf(channels, l);
      if (load<u8>(flags + flag)) {
        flagged++;
      } else {
        sum += load<f32>(matrix + (r as usize) * stride + (l << 2)) as f64;
        count++;
      }
    }
  }
  if (flagged === 0) return;
  const mean: f32 = count > 0 ? ((sum / (count as f64)) as f32) : 0;
  for (let r = row; r < lastRow; r++) {
    for (let l = lane; l < lastLane; l++) {
      const flag = isK ? l * headDim + channelOf(channels, r) : r * headDim + channelOf(channels, l);
      if (load<u8>(flags + flag)) store<f32>(matrix + (r as usize) * stride + (l << 2), mean);
    }
  }
}
