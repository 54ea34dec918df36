import {
  ATTEND_GROUP,
  ATTEND_HEAD_DIM,
  ATTEND_LAYOUTS,
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
  SENSE_ENTROPY,
  SENSE_ENTRY,
  SENSE_M2,
  SENSE_MAX,
  SENSE_MEAN,
  SENSE_NORMS,
  SENSE_SEEN,
  SENSE_STRIDE,
  SENSE_SUM,
} from './abi.ts';
import { finishScores, scoreRef, startScoring } from './attend.ts';
import { BLOCK, MAX, O, ROW, S, SEEN, SUM } from './scratch.ts';
import { liveRows, see, seenHi, seenLo, seenWhole } from './seen.ts';
import { exponents, greatest, probabilities } from './softmax.ts';
import { exp2Scalar, ln } from './vector.ts';

/** Statistics of one page and head, f32[64] each, by row of the page; they lie where attention keeps its results. */
const LINE_SUM: usize = O;
const LINE_MAX: usize = O + 256;
const LINE_ENTROPY: usize = O + 512;
const LINE_M2: usize = O + 768;

/** One SENSE_ROWS record: attention without values, so that only each row's maximum and sum remain. */
export function senseRows(item: usize, scratch: usize): void {
  const rows = load<i32>(item, ATTEND_ROWS);
  const step = max<i32>(1, BLOCK / load<i32>(item, ATTEND_GROUP));
  for (let row = 0; row < rows; row += step) normsOfBlock(item, scratch, row, min<i32>(step, rows - row));
}

/** One SENSE record: its rows in blocks, each block over all references of the range. */
export function sense(item: usize, scratch: usize): void {
  const rows = load<i32>(item, ATTEND_ROWS);
  const step = max<i32>(1, BLOCK / load<i32>(item, ATTEND_GROUP));
  for (let row = 0; row < rows; row += step) senseBlock(item, scratch, row, min<i32>(step, rows - row));
}

/** Bounds of the positions of the block that `boundRows` looked at last. */
let least: i32 = 0;
let most: i32 = 0;

function boundRows(positions: usize, rows: i32): void {
  least = load<i32>(positions);
  most = least;
  for (let r = 1; r < rows; r++) {
    const position = load<i32>(positions + (r << 2));
    least = min<i32>(least, position);
    most = max<i32>(most, position);
  }
}

function normsOfBlock(item: usize, scratch: usize, row: i32, rows: i32): void {
  const group = load<i32>(item, ATTEND_GROUP);
  const headDim = load<i32>(item, ATTEND_HEAD_DIM);
  const window = load<i32>(item, ATTEND_WINDOW);
  const layouts = load<u32>(item, ATTEND_LAYOUTS) as usize;
  const positions = (load<u32>(item, ATTEND_POSITIONS) as usize) + (row << 2);
  boundRows(positions, rows);
  for (let i = 0; i < rows * group; i++) {
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
    const lo = seenLo & ~7;
    const hi = (seenHi + 7) & ~7;
    const masked = !seenWhole || lo !== seenLo || hi !== seenHi;
    const cell = load<u32>(ref, REF_CELL) as usize;
    let i = 0;
    for (let r = 0; r < rows; r++) {
      const mask = load<u64>(scratch + SEEN + (r << 3));
      for (let h = 0; h < group; h++, i++) {
        if (mask === 0) continue;
        const s = scratch + S + (i as usize) * ROW;
        finishScores(scratch, i, s, lo, hi, cell, layout, integerKeys, masked, mask);
        addToNorm(scratch, i, s, lo, hi);
      }
    }
  }
  let to = (load<u32>(item, ATTEND_PARTIAL) as usize) + ((row * group) << 3);
  for (let i = 0; i < rows * group; i++, to += 8) {
    store<f32>(to, load<f32>(scratch + MAX + (i << 2)));
    store<f32>(to, load<f32>(scratch + SUM + (i << 2)), 4);
  }
}

/** MAX and SUM of query i go on over scores s[lo .. hi). */
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

function senseBlock(item: usize, scratch: usize, row: i32, rows: i32): void {
  const group = load<i32>(item, ATTEND_GROUP);
  const headDim = load<i32>(item, ATTEND_HEAD_DIM);
  const window = load<i32>(item, ATTEND_WINDOW);
  const layouts = load<u32>(item, ATTEND_LAYOUTS) as usize;
  const positions = (load<u32>(item, ATTEND_POSITIONS) as usize) + (row << 2);
  const norms = (load<u32>(item, SENSE_NORMS) as usize) + ((row * group) << 3);
  boundRows(positions, rows);
  startScoring();
  let entry = load<i32>(item, SENSE_ENTRY);
  let ref = load<u32>(item, ATTEND_REFS) as usize;
  const end = ref + (load<i32>(item, ATTEND_REF_COUNT) as usize) * REF_BYTES;
  for (; ref < end; ref += REF_BYTES) {
    const live = liveRows(ref);
    let lo = 0;
    let hi = 0;
    if (see(ref, positions, rows, least, most, window, scratch + SEEN)) {
      const layout = layouts + (load<u16>(ref, REF_LAYOUT) as usize) * LAYOUT_BYTES;
      const integerKeys = scoreRef(item, scratch, ref, layout, headDim, row, rows);
      lo = seenLo & ~7;
      hi = (seenHi + 7) & ~7;
      const masked = !seenWhole || lo !== seenLo || hi !== seenHi;
      weigh(scratch, ref, layout, norms, rows, group, lo, hi, integerKeys, masked);
    }
    for (let h = 0; h < group; h++) {
      if (lo < hi) reduce(item, scratch, h, group, rows, lo, hi);
      scatter(item, scratch, h, row, rows, live, lo, hi, entry);
    }
    entry += popcnt(live) as i32;
  }
}

/** S = probabilities; 0 where a row does not see a token. */
function weigh(
  scratch: usize,
  ref: usize,
  layout: usize,
  norms: usize,
  rows: i32,
  group: i32,
  lo: i32,
  hi: i32,
  integerKeys: bool,
  masked: bool,
): void {
  const cell = load<u32>(ref, REF_CELL) as usize;
  let i = 0;
  for (let r = 0; r < rows; r++) {
    const mask = load<u64>(scratch + SEEN + (r << 3));
    for (let h = 0; h < group; h++, i++, norms += 8) {
      const s = scratch + S + (i as usize) * ROW;
      const sum = load<f32>(norms, 4);
      if (mask === 0 || !(sum > 0)) {
        memory.fill(s + (lo << 2), 0, (hi - lo) << 2);
        continue;
      }
      finishScores(scratch, i, s, lo, hi, cell, layout, integerKeys, masked, mask);
      probabilities(s, lo, hi, load<f32>(norms), sum);
    }
  }
}

/** What the asked planes get from head h of the block's rows, by row of the page, four at a time. */
function reduce(item: usize, scratch: usize, h: i32, group: i32, rows: i32, lo: i32, hi: i32): void {
  const step = (group as usize) * ROW;
  const greatestAsked = load<u32>(item, SENSE_MAX) !== 0;
  const entropyAsked = load<u32>(item, SENSE_ENTROPY) !== 0;
  const m2Asked = load<u32>(item, SENSE_M2) !== 0;
  const share = f32x4.splat((1 as f32) / (rows as f32));
  for (let t: usize = lo << 2, end: usize = hi << 2; t < end; t += 16) {
    const first = scratch + S + (h as usize) * ROW + t;
    const last = first + (rows as usize) * step;
    let sum = f32x4.splat(0);
    for (let s = first; s < last; s += step) sum = f32x4.add(sum, v128.load(s));
    v128.store(scratch + LINE_SUM + t, sum);
    if (greatestAsked) {
      let top = f32x4.splat(0);
      for (let s = first; s < last; s += step) top = f32x4.pmax(top, v128.load(s));
      v128.store(scratch + LINE_MAX + t, top);
    }
    if (entropyAsked) {
      let entropy = f32x4.splat(0);
      for (let s = first; s < last; s += step) {
        const p = v128.load(s);
        entropy = f32x4.sub(entropy, f32x4.mul(p, ln(f32x4.add(p, f32x4.splat(1e-10)))));
      }
      v128.store(scratch + LINE_ENTROPY + t, entropy);
    }
    if (m2Asked) {
      const mean = f32x4.mul(sum, share);
      let m2 = f32x4.splat(0);
      for (let s = first; s < last; s += step) {
        const d = f32x4.sub(v128.load(s), mean);
        m2 = f32x4.add(m2, f32x4.mul(d, d));
      }
      v128.store(scratch + LINE_M2 + t, m2);
    }
  }
}

/** Adds the lines to the planes, live rows of the page to consecutive entries. Rows outside lo .. hi had only zeros. */
function scatter(
  item: usize,
  scratch: usize,
  h: i32,
  row: i32,
  rows: i32,
  live: u64,
  lo: i32,
  hi: i32,
  entry: i32,
): void {
  const at: usize = (h * load<i32>(item, SENSE_STRIDE) + entry) << 2;
  const sum = load<u32>(item, SENSE_SUM) as usize;
  const greatestAt = load<u32>(item, SENSE_MAX) as usize;
  const entropy = load<u32>(item, SENSE_ENTROPY) as usize;
  const mean = load<u32>(item, SENSE_MEAN) as usize;
  const m2 = load<u32>(item, SENSE_M2) as usize;
  if (lo === hi && !mean) return;
  const before = (load<i32>(item, SENSE_SEEN) + row) as f32;
  const total = before + (rows as f32);
  let to = at;
  for (; live; live &= live - 1, to += 4) {
    const t = ctz(live) as i32;
    const inside = t >= lo && t < hi;
    const line = scratch + ((t as usize) << 2);
    const sumHere: f32 = inside ? load<f32>(line + LINE_SUM) : 0;
    if (mean) {
      // Chan, Golub & LeVeque 1979: statistics of two sets of rows join exactly.
      const delta = sumHere / (rows as f32) - load<f32>(mean + to);
      const m2Here: f32 = inside ? load<f32>(line + LINE_M2) : 0;
      store<f32>(mean + to, load<f32>(mean + to) + (delta * (rows as f32)) / total);
      store<f32>(m2 + to, load<f32>(m2 + to) + m2Here + (delta * delta * before * (rows as f32)) / total);
    }
    if (!inside) continue;
    if (sum) store<f32>(sum + to, load<f32>(sum + to) + sumHere);
    if (greatestAt) store<f32>(greatestAt + to, max<f32>(load<f32>(greatestAt + to), load<f32>(line + LINE_MAX)));
    if (entropy) store<f32>(entropy + to, load<f32>(entropy + to) + load<f32>(line + LINE_ENTROPY));
  }
}
