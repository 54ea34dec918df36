import {
  NEAREST_CENTROIDS,
  NEAREST_CHUNKS,
  NEAREST_HALF_NORMS,
  NEAREST_OUT,
  NEAREST_ROWS,
  NEAREST_WIDTH,
  NEAREST_X,
} from './abi.ts';
import { matmul } from './f32.ts';
import { BLOCK, Q, ROW, S } from './scratch.ts';

/** Centroids of a chunk. */
const CHUNK: i32 = 64;

/** One NEAREST record, a block of rows at a time: |x - c|^2 is least where x . c - |c|^2 / 2 is greatest. */
export function nearest(item: usize, scratch: usize): void {
  const rows = load<i32>(item, NEAREST_ROWS);
  const width = load<i32>(item, NEAREST_WIDTH);
  const bytes: usize = width << 2;
  for (let row = 0; row < rows; row += BLOCK) {
    const count = min<i32>(BLOCK, rows - row);
    const x = (load<u32>(item, NEAREST_X) as usize) + (row as usize) * bytes;
    for (let i: usize = 0; i < (count as usize); i++) memory.copy(scratch + Q + i * ROW, x + i * bytes, bytes);
    searchBlock(item, scratch, count, width, (load<u32>(item, NEAREST_OUT) as usize) + (row << 2));
  }
}

/** The best so far of row i lies behind its scores: four values, then their four numbers. */
const BEST: usize = S + ((CHUNK as usize) << 2);

function searchBlock(item: usize, scratch: usize, rows: i32, width: i32, out: usize): void {
  const chunks = load<i32>(item, NEAREST_CHUNKS);
  let centroids = load<u32>(item, NEAREST_CENTROIDS) as usize;
  let half = load<u32>(item, NEAREST_HALF_NORMS) as usize;
  for (let i: usize = 0; i < (rows as usize); i++) {
    v128.store(scratch + BEST + i * ROW, f32x4.splat(-Infinity as f32));
    v128.store(scratch + BEST + i * ROW + 16, i32x4.splat(0));
  }
  for (let chunk = 0; chunk < chunks; chunk++) {
    matmul(scratch + Q, width, centroids, CHUNK << 2, scratch + S, CHUNK >> 3, rows, false);
    for (let i: usize = 0; i < (rows as usize); i++) {
      const s = scratch + S + i * ROW;
      let best = v128.load(s + ((CHUNK as usize) << 2));
      let number = v128.load(s + ((CHUNK as usize) << 2), 16);
      let here = i32x4.add(i32x4.splat(chunk * CHUNK), i32x4(0, 1, 2, 3));
      for (let t: usize = 0; t < (CHUNK as usize) << 2; t += 16) {
        const value = f32x4.sub(v128.load(s + t), v128.load(half + t));
        const better = f32x4.gt(value, best);
        best = v128.bitselect(value, best, better);
        number = v128.bitselect(here, number, better);
        here = i32x4.add(here, i32x4.splat(4));
      }
      v128.store(s + ((CHUNK as usize) << 2), best);
      v128.store(s + ((CHUNK as usize) << 2), number, 16);
    }
    centroids += (CHUNK * width) << 2;
    half += CHUNK << 2;
  }
  for (let i: usize = 0; i < (rows as usize); i++) store<u32>(out + (i << 2), firstOfBest(scratch + BEST + i * ROW));
}

/** Of four candidates the one with the greatest value; the least number among equals. */
function firstOfBest(at: usize): u32 {
  let value = load<f32>(at);
  let number = load<u32>(at, 16);
  for (let lane: usize = 4; lane < 16; lane += 4) {
    const other = load<f32>(at + lane);
    const otherNumber = load<u32>(at + lane, 16);
    if (other > value || (other === value && otherNumber < number)) {
      value = other;
      number = otherNumber;
    }
  }
  return number;
}
