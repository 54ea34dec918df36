import {
  ATTEND_GROUP,
  ATTEND_HEAD_DIM,
  ATTEND_LAYOUTS,
  ATTEND_OUT,
  ATTEND_OUT_STRIDE,
  ATTEND_PARTIAL,
  ATTEND_POSITIONS,
  ATTEND_REF_COUNT,
  ATTEND_REFS,
  ATTEND_ROWS,
  ATTEND_WINDOW,
  LAYOUT_BYTES,
  REF_BYTES,
  REF_CELL,
  REF_LAYOUT,
} from './abi.ts';
import { finishScores, scoreRef, startScoring } from './attend.ts';
import { BLOCK, MAX, ROW, S, SEEN, SUM } from './scratch.ts';
import { liveRows, see, seenHi, seenLo, seenWhole } from './seen.ts';
import { exponents, greatest } from './softmax.ts';
import { exp2Scalar } from './vector.ts';

/** One SENSE_ROWS record: attention without values, so that only scores and each row's maximum and sum remain. */
export function senseRows(item: usize, scratch: usize): void {
  const rows = load<i32>(item, ATTEND_ROWS);
  const step = max<i32>(1, BLOCK / load<i32>(item, ATTEND_GROUP));
  for (let row = 0; row < rows; row += step) senseBlock(item, scratch, row, min<i32>(step, rows - row));
}

function senseBlock(item: usize, scratch: usize, row: i32, rows: i32): void {
  const group = load<i32>(item, ATTEND_GROUP);
  const headDim = load<i32>(item, ATTEND_HEAD_DIM);
  const window = load<i32>(item, ATTEND_WINDOW);
  const layouts = load<u32>(item, ATTEND_LAYOUTS) as usize;
  const positions = (load<u32>(item, ATTEND_POSITIONS) as usize) + (row << 2);
  const stride = (load<i32>(item, ATTEND_OUT_STRIDE) as usize) << 2;
  const queries = rows * group;
  let out = load<u32>(item, ATTEND_OUT) as usize;
  if (out) out += ((row * group) as usize) * stride;
  let least = load<i32>(positions);
  let most = least;
  for (let r = 1; r < rows; r++) {
    const position = load<i32>(positions + (r << 2));
    least = min<i32>(least, position);
    most = max<i32>(most, position);
  }
  for (let i = 0; i < queries; i++) {
    store<f32>(scratch + MAX + (i << 2), -Infinity as f32);
    store<f32>(scratch + SUM + (i << 2), 0);
  }
  startScoring();
  let ref = load<u32>(item, ATTEND_REFS) as usize;
  const end = ref + (load<i32>(item, ATTEND_REF_COUNT) as usize) * REF_BYTES;
  for (; ref < end; ref += REF_BYTES) {
    const live = liveRows(ref);
    if (see(ref, positions, rows, least, most, window, scratch + SEEN)) {
      const layout = layouts + (load<u16>(ref, REF_LAYOUT) as usize) * LAYOUT_BYTES;
      const integerKeys = scoreRef(item, scratch, ref, layout, headDim, row, rows);
      addPage(scratch, ref, layout, rows, group, integerKeys, live, out, stride);
    } else if (out) {
      const count = popcnt(live) as i32;
      for (let i: usize = 0; i < (queries as usize); i++) fillUnseen(out + i * stride, count);
    }
    if (out) out += (popcnt(live) as usize) << 2;
  }
  let to = (load<u32>(item, ATTEND_PARTIAL) as usize) + ((row * group) << 3);
  for (let i = 0; i < queries; i++, to += 8) {
    store<f32>(to, load<f32>(scratch + MAX + (i << 2)));
    store<f32>(to, load<f32>(scratch + SUM + (i << 2)), 4);
  }
}

/** MAX and SUM go on over the page; its scores go out. */
function addPage(
  scratch: usize,
  ref: usize,
  layout: usize,
  rows: i32,
  group: i32,
  integerKeys: bool,
  live: u64,
  out: usize,
  stride: usize,
): void {
  const lo = seenLo & ~7;
  const hi = (seenHi + 7) & ~7;
  const masked = !seenWhole || lo !== seenLo || hi !== seenHi;
  const cell = load<u32>(ref, REF_CELL) as usize;
  const count = popcnt(live) as i32;
  let i = 0;
  for (let r = 0; r < rows; r++) {
    const mask = load<u64>(scratch + SEEN + (r << 3));
    for (let h = 0; h < group; h++, i++) {
      if (mask === 0) {
        if (out) fillUnseen(out + (i as usize) * stride, count);
        continue;
      }
      const s = scratch + S + (i as usize) * ROW;
      finishScores(scratch, i, s, lo, hi, cell, layout, integerKeys, masked, mask);
      if (out) copyLive(s, lo, hi, live, out + (i as usize) * stride);
      addToNorm(scratch, i, s, lo, hi);
    }
  }
}

/** MAX and SUM of query i go on over scores s[lo .. hi), which become weights. */
function addToNorm(scratch: usize, i: i32, s: usize, lo: i32, hi: i32): void {
  const before = load<f32>(scratch + MAX + (i << 2));
  const top = max<f32>(before, greatest(s, lo, hi));
  if (top === (-Infinity as f32)) return;
  let sum = load<f32>(scratch + SUM + (i << 2));
  if (top !== before) {
    sum *= exp2Scalar(before - top);
    store<f32>(scratch + MAX + (i << 2), top);
  }
  store<f32>(scratch + SUM + (i << 2), sum + exponents(s, lo, hi, top));
}

function fillUnseen(to: usize, count: i32): void {
  const end = to + (count << 2);
  for (; to + 16 <= end; to += 16) v128.store(to, f32x4.splat(-Infinity as f32));
  for (; to < end; to += 4) store<f32>(to, -Infinity as f32);
}

/** The live ones of a page's scores s[lo .. hi), side by side. Live rows outside are not seen. */
function copyLive(s: usize, lo: i32, hi: i32, live: u64, to: usize): void {
  const first = ctz(live) as i32;
  const end = 64 - (clz(live) as i32);
  if ((popcnt(live) as i32) === end - first && first >= lo && end <= hi) {
    let from = s + (first << 2);
    const last = s + (end << 2);
    for (; from + 16 <= last; from += 16, to += 16) v128.store(to, v128.load(from));
    for (; from < last; from += 4, to += 4) store<f32>(to, load<f32>(from));
    return;
  }
  for (; live; live &= live - 1, to += 4) {
    const t = ctz(live) as i32;
    store<f32>(to, t >= lo && t < hi ? load<f32>(s + (t << 2)) : (-Infinity as f32));
  }
}
