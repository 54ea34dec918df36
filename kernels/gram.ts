import { GRAM_FROM, GRAM_OUT, GRAM_ROWS, GRAM_TO, GRAM_WIDTH, GRAM_X, SCRATCH_BYTES } from './abi.ts';
import { madd } from './vector.ts';

/** Columns side by side in a packed panel. */
const PANEL: i32 = 8;

/**
 * One GRAM record. Rows are taken in blocks that fit the scratch, repacked in panels of 8 columns so that the products read
 * straight lines whatever the width of X is.
 */
export function gram(item: usize, scratch: usize): void {
  const rows = load<i32>(item, GRAM_ROWS);
  const to = load<i32>(item, GRAM_TO);
  const first = load<i32>(item, GRAM_FROM) / PANEL;
  const width = load<i32>(item, GRAM_WIDTH);
  const out = load<u32>(item, GRAM_OUT) as usize;
  const stride: usize = width << 2;
  const step = max<i32>(1, SCRATCH_BYTES / (to << 2));
  for (let row = 0; row < rows; row += step) {
    const count = min<i32>(step, rows - row);
    const panel: usize = count * (PANEL << 2);
    pack((load<u32>(item, GRAM_X) as usize) + (row as usize) * stride, stride, count, to / PANEL, scratch);
    for (let j = first; j < to / PANEL; j++) {
      const b = scratch + (j as usize) * panel;
      for (let i = 0; i <= j; i++) {
        const a = scratch + (i as usize) * panel;
        const c = out + ((i * PANEL) as usize) * stride + ((j * PANEL) << 2);
        tile4x2(a, b, count, c, stride);
        tile4x2(a + 16, b, count, c + 4 * stride, stride);
      }
    }
  }
}

function pack(x: usize, stride: usize, rows: i32, panels: i32, to: usize): void {
  for (let p = 0; p < panels; p++) {
    let from = x + ((p * PANEL) << 2);
    for (let r = 0; r < rows; r++, from += stride, to += 32) {
      v128.store(to, v128.load(from));
      v128.store(to, v128.load(from, 16), 16);
    }
  }
}

/** C[4][8] += sum over rows of A[row][0 .. 4) * B[row][0 .. 8). */
function tile4x2(a: usize, b: usize, rows: i32, c: usize, stride: usize): void {
  const c1 = c + stride;
  const c2 = c1 + stride;
  const c3 = c2 + stride;
  let c00 = v128.load(c);
  let c01 = v128.load(c, 16);
  let c10 = v128.load(c1);
  let c11 = v128.load(c1, 16);
  let c20 = v128.load(c2);
  let c21 = v128.load(c2, 16);
  let c30 = v128.load(c3);
  let c31 = v128.load(c3, 16);
  for (let r = 0; r < rows; r++, a += 32, b += 32) {
    const b0 = v128.load(b);
    const b1 = v128.load(b, 16);
    let x = v128.load_splat<f32>(a);
    c00 = madd(x, b0, c00);
    c01 = madd(x, b1, c01);
    x = v128.load_splat<f32>(a, 4);
    c10 = madd(x, b0, c10);
    c11 = madd(x, b1, c11);
    x = v128.load_splat<f32>(a, 8);
    c20 = madd(x, b0, c20);
    c21 = madd(x, b1, c21);
    x = v128.load_splat<f32>(a, 12);
    c30 = madd(x, b0, c30);
    c31 = madd(x, b1, c31);
  }
  v128.store(c, c00);
  v128.store(c, c01, 16);
  v128.store(c1, c10);
  v128.store(c1, c11, 16);
  v128.store(c2, c20);
  v128.store(c2, c21, 16);
  v128.store(c3, c30);
  v128.store(c3, c31, 16);
}
