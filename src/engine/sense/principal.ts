import {
  GRAM_BYTES,
  GRAM_FROM,
  GRAM_OUT,
  GRAM_ROWS,
  GRAM_TO,
  GRAM_WIDTH,
  GRAM_X,
  KIND_GRAM,
} from '../../../kernels/abi.ts';
import type { Kernels } from '../../backend/types.ts';
import { symmetricEigen } from '../../methods/shared/eigen.ts';
import { Random } from '../random.ts';
import { projectRows } from './project.ts';
import { Space } from './space.ts';

/** Products with the matrix before the last one. */
const ROUNDS = 6;
/** Columns beside the wanted ones, as a share and at least: they let the last of those converge. */
const BESIDE = 1 / 8;
const LEAST_BESIDE = 16;
/** Added to the diagonal, as a share of it, where columns are made orthonormal but for what sums in f32 leave of a column. */
const SHIFT = 1e-4;

/**
 * Orthonormal columns f32 [n][rank] that span the `rank` greatest eigenvectors of a positive semidefinite matrix, greatest
 * first. A narrow or nearly whole basis comes from the eigenvectors themselves; else by subspace iteration from a fixed start
 * and a Rayleigh-Ritz step (Halko, Martinsson and Tropp 2011, algorithm 4.4), products on the kernels, columns made
 * orthonormal by shifted Cholesky QR (Fukaya et al. 2020). Eigenvalues beside the last wanted one may be mixed up: of the
 * dropped energy that costs below a hundredth.
 * @param matrix f64 [n][n], n a multiple of 8
 * @param part width of a stretch of columns: a divisor of n, a multiple of 8, at most 256
 */
export function principalBasis(
  kernels: Kernels,
  matrix: Float64Array,
  n: number,
  rank: number,
  part: number,
): Float32Array {
  const beside = rank + Math.max(LEAST_BESIDE, Math.ceil(rank * BESIDE));
  const step = beside > 256 ? 64 : 8;
  const columns = Math.ceil(beside / step) * step;
  if (2 * columns > n) return transposed(symmetricEigen(matrix, n, rank).vectors, rank, n);
  let trace = 0;
  for (let i = 0; i < n; i++) trace += matrix[i * n + i]!;
  const { memory } = kernels;
  const space = new Space(memory);
  try {
    const a = space.alloc(n * n * 4);
    const x = space.alloc(n * columns * 4);
    const y = space.alloc(n * columns * 4);
    const small = space.alloc(columns * columns * 4);
    const { f32 } = memory;
    for (let i = 0; i < n * n; i++) f32[a / 4 + i] = trace > 0 ? matrix[i]! / trace : 0;
    const random = new Random(1);
    for (let i = 0; i < n * columns; i++) f32[x / 4 + i] = random.next() - 0.5;
    const rows = { address: a, rows: n, rowStride: n, parts: n / part, partStride: part, width: part };
    const wide = columns > 256 ? 64 : columns;
    const tall = (address: number, count: number) => ({
      ...{ address, rows: count, rowStride: columns, parts: columns / wide, partStride: wide, width: wide },
    });
    const orthonormalise = (from: number, to: number, shift: number) => {
      memory.f32.set(inverseFactor(gramOfColumns(kernels, from, n, columns, small), columns, shift), small / 4);
      projectRows(kernels, tall(from, n), small, columns, to);
    };
    for (let round = 0; round < ROUNDS; round++) {
      projectRows(kernels, rows, x, columns, y);
      orthonormalise(y, x, SHIFT);
    }
    orthonormalise(x, y, 0);
    orthonormalise(y, x, 0);
    // Ritz vectors: eigenvectors of Q^T A Q.
    projectRows(kernels, rows, x, columns, y);
    const turn = space.alloc(n * columns * 4);
    memory.f32.set(transposed(memory.f32.subarray(x / 4, x / 4 + n * columns), n, columns), turn / 4);
    const flat = { address: turn, rows: columns, rowStride: n, parts: n / part, partStride: part, width: part };
    projectRows(kernels, flat, y, columns, small);
    const ritz = Float64Array.from(memory.f32.subarray(small / 4, small / 4 + columns * columns));
    memory.f32.set(transposed(symmetricEigen(ritz, columns, rank).vectors, rank, columns), small / 4);
    projectRows(kernels, tall(x, n), small, rank, y);
    return memory.f32.slice(y / 4, y / 4 + n * rank);
  } finally {
    space.free();
  }
}

/** f32 [columns][rows] of [rows][columns]. */
function transposed(x: Float64Array | Float32Array, rows: number, columns: number): Float32Array {
  const out = new Float32Array(rows * columns);
  for (let j = 0; j < rows; j++) for (let c = 0; c < columns; c++) out[c * rows + j] = x[j * columns + c]!;
  return out;
}

/** X^T X of f32 [rows][columns], on and above the diagonal. */
function gramOfColumns(kernels: Kernels, x: number, rows: number, columns: number, out: number): Float64Array {
  const { memory } = kernels;
  const space = new Space(memory);
  try {
    const items = Math.ceil(columns / 32);
    const records = space.alloc(items * GRAM_BYTES);
    const { f32, i32 } = memory;
    f32.fill(0, out / 4, out / 4 + columns * columns);
    for (let i = 0; i < items; i++) {
      const at = (records + i * GRAM_BYTES) / 4;
      const first = (items - 1 - i) * 32;
      i32[at + GRAM_X / 4] = x;
      i32[at + GRAM_ROWS / 4] = rows;
      i32[at + GRAM_WIDTH / 4] = columns;
      i32[at + GRAM_OUT / 4] = out;
      i32[at + GRAM_FROM / 4] = first;
      i32[at + GRAM_TO / 4] = Math.min(columns, first + 32);
    }
    kernels.run(KIND_GRAM, records, items);
    return Float64Array.from(memory.f32.subarray(out / 4, out / 4 + columns * columns));
  } finally {
    space.free();
  }
}

/**
 * R^-1 [n][n] for R^T R = G + shift * diag(G), R upper triangular; a column that the ones before it explain becomes 0. Shares of
 * each column's own length, so that none is lost beside much longer ones.
 */
function inverseFactor(gram: Float64Array, n: number, shift: number): Float32Array {
  const r = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    const own = gram[i * n + i]!;
    for (let j = i; j < n; j++) r[i * n + j] = gram[i * n + j]!;
    r[i * n + i]! += shift * own;
    for (let k = 0; k < i; k++) {
      const factor = r[k * n + i]!;
      for (let j = i; j < n; j++) r[i * n + j]! -= factor * r[k * n + j]!;
    }
    const pivot = r[i * n + i]!;
    const scale = pivot > 1e-12 * own ? 1 / Math.sqrt(pivot) : 0;
    for (let j = i; j < n; j++) r[i * n + j]! *= scale;
  }
  const inverse = new Float64Array(n * n);
  for (let i = n - 1; i >= 0; i--) {
    const pivot = r[i * n + i]!;
    if (pivot === 0) continue;
    inverse[i * n + i] = 1 / pivot;
    for (let k = i + 1; k < n; k++) {
      const factor = r[i * n + k]! / pivot;
      if (factor !== 0) for (let j = k; j < n; j++) inverse[i * n + j]! -= factor * inverse[k * n + j]!;
    }
  }
  return Float32Array.from(inverse);
}
