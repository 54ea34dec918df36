import {
  SENSE_ENTROPY,
  SENSE_FROM,
  SENSE_GROUP,
  SENSE_M2,
  SENSE_MAX,
  SENSE_MEAN,
  SENSE_NORMS,
  SENSE_ROWS,
  SENSE_SCORE_STRIDE,
  SENSE_SCORES,
  SENSE_SEEN,
  SENSE_STRIDE,
  SENSE_SUM,
  SENSE_TO,
} from './abi.ts';
import { O } from './scratch.ts';
import { exp2, ln } from './vector.ts';

/** Entries whose planes stay in the first cache while all rows go over them. */
const TILE: i32 = 512;
/** f32 [TILE]: probabilities of one row; it lies where attention keeps its results. */
const LINE: usize = O;

/** One SENSE record. Rows go in one after the other, so that an entry's bits do not depend on how entries are dealt out. */
export function sense(item: usize, scratch: usize): void {
  const to = load<i32>(item, SENSE_TO);
  const group = load<i32>(item, SENSE_GROUP);
  for (let from = load<i32>(item, SENSE_FROM); from < to; from += TILE) {
    for (let h = 0; h < group; h++) senseTile(item, scratch, h, from, min<i32>(TILE, to - from));
  }
}

/** All rows of a query head over entries [from, from + count). */
function senseTile(item: usize, scratch: usize, h: i32, from: i32, count: i32): void {
  const rows = load<i32>(item, SENSE_ROWS);
  const group = load<i32>(item, SENSE_GROUP);
  const stride = (load<i32>(item, SENSE_SCORE_STRIDE) as usize) << 2;
  const at: usize = (h * load<i32>(item, SENSE_STRIDE) + from) << 2;
  const sum = load<u32>(item, SENSE_SUM) as usize;
  const greatest = load<u32>(item, SENSE_MAX) as usize;
  const entropy = load<u32>(item, SENSE_ENTROPY) as usize;
  const mean = load<u32>(item, SENSE_MEAN) as usize;
  const m2 = load<u32>(item, SENSE_M2) as usize;
  const seen = load<i32>(item, SENSE_SEEN);
  let scores = (load<u32>(item, SENSE_SCORES) as usize) + (h as usize) * stride + (from << 2);
  let norms = (load<u32>(item, SENSE_NORMS) as usize) + (h << 3);
  for (let r = 0; r < rows; r++) {
    // A row that saw nothing has nothing but zeros.
    const total = load<f32>(norms, 4);
    fillLine(scratch + LINE, scores, count, load<f32>(norms), total > 0 ? (1 as f32) / total : 0);
    if (sum) addSum(scratch + LINE, sum + at, count);
    if (greatest) addMax(scratch + LINE, greatest + at, count);
    if (entropy) addEntropy(scratch + LINE, entropy + at, count);
    if (mean) addMoments(scratch + LINE, mean + at, m2 + at, count, (1 as f32) / ((seen + r + 1) as f32));
    scores += (group as usize) * stride;
    norms += group << 3;
  }
}

/** line = 2^(score - max) * share, zeros after `count` up to a whole vector. */
function fillLine(line: usize, scores: usize, count: i32, top: f32, share: f32): void {
  const end: usize = count << 2;
  const maximum = f32x4.splat(top);
  const factor = f32x4.splat(share);
  if (share === 0) {
    memory.fill(line, 0, end + 12);
    return;
  }
  for (let i: usize = 0; i < end; i += 16) {
    v128.store(line + i, f32x4.mul(factor, exp2(f32x4.sub(v128.load(scores + i), maximum))));
  }
  // Behind the last score anything may lie.
  for (let i = end; i & 15; i += 4) store<f32>(line + i, 0);
}

function addSum(line: usize, plane: usize, count: i32): void {
  for (let i: usize = 0, end: usize = count << 2; i < end; i += 16) {
    v128.store(plane + i, f32x4.add(v128.load(plane + i), v128.load(line + i)));
  }
}

function addMax(line: usize, plane: usize, count: i32): void {
  for (let i: usize = 0, end: usize = count << 2; i < end; i += 16) {
    v128.store(plane + i, f32x4.pmax(v128.load(plane + i), v128.load(line + i)));
  }
}

function addEntropy(line: usize, plane: usize, count: i32): void {
  const small = f32x4.splat(1e-10);
  for (let i: usize = 0, end: usize = count << 2; i < end; i += 16) {
    const p = v128.load(line + i);
    v128.store(plane + i, f32x4.sub(v128.load(plane + i), f32x4.mul(p, ln(f32x4.add(p, small)))));
  }
}

/** One more row, the n-th, share = 1 / n (Welford 1962). */
function addMoments(line: usize, mean: usize, m2: usize, count: i32, share: f32): void {
  const factor = f32x4.splat(share);
  for (let i: usize = 0, end: usize = count << 2; i < end; i += 16) {
    const p = v128.load(line + i);
    const before = v128.load(mean + i);
    const delta = f32x4.sub(p, before);
    const after = f32x4.add(before, f32x4.mul(delta, factor));
    v128.store(mean + i, after);
    v128.store(m2 + i, f32x4.add(v128.load(m2 + i), f32x4.mul(delta, f32x4.sub(p, after))));
  }
}
