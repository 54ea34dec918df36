import {
  KIND_PROJECT,
  PROJECT_BASIS,
  PROJECT_BYTES,
  PROJECT_OUT,
  PROJECT_PART_STRIDE,
  PROJECT_PARTS,
  PROJECT_RANK,
  PROJECT_ROW_STRIDE,
  PROJECT_ROWS,
  PROJECT_WIDTH,
  PROJECT_X,
} from '../../../kernels/abi.ts';
import type { Kernels } from '../../backend/types.ts';
import { Space } from './space.ts';

/** Rows of one record: whole blocks of the kernel. */
const ROWS_PER_ITEM = 120;

/** f32 rows whose columns lie in parts; strides in floats. A part is a multiple of 8 wide, at most 256. */
export interface RowsInParts {
  readonly address: number;
  readonly rows: number;
  readonly rowStride: number;
  readonly parts: number;
  readonly partStride: number;
  readonly width: number;
}

/** Writes X B, f32 [rows][rank], to `out`; B is f32 [parts * width][rank], rank a multiple of 8. */
export function projectRows(kernels: Kernels, x: RowsInParts, basis: number, rank: number, out: number): void {
  const items = Math.ceil(x.rows / ROWS_PER_ITEM);
  const space = new Space(kernels.memory);
  try {
    const records = space.alloc(items * PROJECT_BYTES);
    const { i32 } = kernels.memory;
    for (let i = 0; i < items; i++) {
      const at = (records + i * PROJECT_BYTES) / 4;
      const first = i * ROWS_PER_ITEM;
      i32[at + PROJECT_X / 4] = x.address + first * x.rowStride * 4;
      i32[at + PROJECT_ROW_STRIDE / 4] = x.rowStride;
      i32[at + PROJECT_PART_STRIDE / 4] = x.partStride;
      i32[at + PROJECT_ROWS / 4] = Math.min(ROWS_PER_ITEM, x.rows - first);
      i32[at + PROJECT_PARTS / 4] = x.parts;
      i32[at + PROJECT_WIDTH / 4] = x.width;
      i32[at + PROJECT_BASIS / 4] = basis;
      i32[at + PROJECT_RANK / 4] = rank;
      i32[at + PROJECT_OUT / 4] = out + first * rank * 4;
    }
    kernels.run(KIND_PROJECT, records, items);
  } finally {
    space.free();
  }
}
