import {
  PROJECT_BASIS,
  PROJECT_OUT,
  PROJECT_PART_STRIDE,
  PROJECT_PARTS,
  PROJECT_RANK,
  PROJECT_ROW_STRIDE,
  PROJECT_ROWS,
  PROJECT_WIDTH,
  PROJECT_X,
} from './abi.ts';
import { matmul } from './f32.ts';
import { O, Q, ROW } from './scratch.ts';

/** Rows in a block: whole tiles of the product. */
const ROWS: i32 = 60;
/** Columns of the result in a block. */
const COLUMNS: i32 = 256;

/** One PROJECT record, in blocks of the result: each element is one chain of multiply-adds in the order of X's columns. */
export function project(item: usize, scratch: usize): void {
  const rows = load<i32>(item, PROJECT_ROWS);
  const rank = load<i32>(item, PROJECT_RANK);
  for (let row = 0; row < rows; row += ROWS) {
    for (let column = 0; column < rank; column += COLUMNS)
      block(item, scratch, row, min<i32>(ROWS, rows - row), column, min<i32>(COLUMNS, rank - column));
  }
}

function block(item: usize, scratch: usize, row: i32, rows: i32, column: i32, columns: i32): void {
  const width = load<i32>(item, PROJECT_WIDTH);
  const rank = load<i32>(item, PROJECT_RANK);
  const stride: usize = load<i32>(item, PROJECT_ROW_STRIDE) << 2;
  const partStride: usize = load<i32>(item, PROJECT_PART_STRIDE) << 2;
  const parts = load<i32>(item, PROJECT_PARTS);
  const bytes: usize = rank << 2;
  let x = (load<u32>(item, PROJECT_X) as usize) + (row as usize) * stride;
  let basis = (load<u32>(item, PROJECT_BASIS) as usize) + (column << 2);
  for (let part = 0; part < parts; part++) {
    for (let i = 0; i < rows; i++) memory.copy(scratch + Q + (i as usize) * ROW, x + (i as usize) * stride, width << 2);
    matmul(scratch + Q, width, basis, bytes, scratch + O, columns >> 3, rows, part > 0);
    x += partStride;
    basis += (width as usize) * bytes;
  }
  const to = (load<u32>(item, PROJECT_OUT) as usize) + (row as usize) * bytes + (column << 2);
  for (let i = 0; i < rows; i++) memory.copy(to + (i as usize) * bytes, scratch + O + (i as usize) * ROW, columns << 2);
}
