import { KvasirError } from '../../errors.ts';
import { tridiagonalValues, tridiagonalVectors } from './tridiagonal.ts';

export interface Eigenpairs {
  /** f64 [count], descending */
  readonly values: Float64Array;
  /** f64 [count][n]: orthonormal eigenvectors as rows, in the order of the values. */
  readonly vectors: Float64Array;
}

/**
 * The `count` greatest eigenvalues of a symmetric matrix and their vectors: Householder reduction to a tridiagonal matrix
 * (2 n^3 / 3 multiplications), its eigenvalues by implicit QL, its vectors by inverse iteration (Golub and Van Loan, Matrix
 * Computations, chapter 8). Signs, and directions within equal eigenvalues, are arbitrary but the same in each run.
 * @param matrix f64 [n][n]; the upper triangle is not looked at
 */
export function symmetricEigen(matrix: Float64Array, n: number, count = n): Eigenpairs {
  const finite = matrix.every(Number.isFinite);
  if (matrix.length !== n * n || count > n || !finite) {
    throw new KvasirError(
      'invalid_request',
      'Eigenvalues need a finite square matrix and no more of them than it has rows.',
      {
        field: 'matrix',
        value: finite ? `${matrix.length} numbers, ${count} eigenvalues` : 'not finite',
        allowed: `${n} x ${n} finite numbers, at most ${n} eigenvalues`,
      },
    );
  }
  const a = matrix.slice();
  const { diagonal, below, factors } = reduce(a, n);
  const values = tridiagonalValues(diagonal, below).subarray(0, count);
  const vectors = tridiagonalVectors(diagonal, below, values);
  for (let j = 0; j < count; j++) restore(a, n, factors, vectors.subarray(j * n, (j + 1) * n));
  return { values, vectors };
}

/**
 * Takes a to Q^T a Q, tridiagonal. Step k mirrors rows and columns k + 1.. by 1 - factor v v^T; v is left in row k of `a`,
 * right of the diagonal, where nothing is read any more.
 */
function reduce(a: Float64Array, n: number) {
  const diagonal = new Float64Array(n);
  const below = new Float64Array(Math.max(0, n - 1));
  const factors = new Float64Array(n);
  const v = new Float64Array(n);
  const p = new Float64Array(n);
  let squares = 0;
  for (const x of a) squares += x * x;
  // What is smaller is nothing beside the rounding of the whole; a mirror made of it would be of no finite length.
  const nothing = Number.EPSILON ** 2 * squares;
  for (let k = 0; k < n; k++) {
    diagonal[k] = a[k * n + k]!;
    if (k + 1 === n) break;
    let rest = 0;
    for (let i = k + 1; i < n; i++) {
      v[i] = a[i * n + k]!;
      if (i > k + 1) rest += v[i]! * v[i]!;
    }
    const head = v[k + 1]!;
    below[k] = head;
    if (!(rest > nothing)) continue;
    const length = Math.sqrt(head * head + rest);
    below[k] = head > 0 ? -length : length;
    v[k + 1] = head - below[k]!;
    const factor = 2 / (v[k + 1]! * v[k + 1]! + rest);
    factors[k] = factor;
    mirror(a, n, k + 1, factor, v, p);
    a.set(v.subarray(k + 1), k * n + k + 1);
  }
  return { diagonal, below, factors };
}

/** The lower triangle from row `from` on becomes that of (1 - f v v^T) a (1 - f v v^T). */
function mirror(a: Float64Array, n: number, from: number, factor: number, v: Float64Array, p: Float64Array): void {
  p.fill(0, from);
  for (let i = from; i < n; i++) {
    const row = i * n;
    const vi = v[i]!;
    let sum = a[row + i]! * vi;
    for (let j = from; j < i; j++) {
      const x = a[row + j]!;
      sum += x * v[j]!;
      p[j]! += x * vi;
    }
    p[i]! += sum;
  }
  let vp = 0;
  for (let i = from; i < n; i++) vp += v[i]! * p[i]!;
  const shift = (factor * factor * vp) / 2;
  for (let i = from; i < n; i++) p[i] = factor * p[i]! - shift * v[i]!;
  for (let i = from; i < n; i++) {
    const row = i * n;
    const vi = v[i]!;
    const pi = p[i]!;
    for (let j = from; j <= i; j++) a[row + j]! -= vi * p[j]! + pi * v[j]!;
  }
}

/** From a vector of the tridiagonal matrix to one of the matrix itself. */
function restore(a: Float64Array, n: number, factors: Float64Array, z: Float64Array): void {
  for (let k = n - 2; k >= 0; k--) {
    if (factors[k] === 0) continue;
    let dot = 0;
    for (let i = k + 1; i < n; i++) dot += a[k * n + i]! * z[i]!;
    dot *= factors[k]!;
    for (let i = k + 1; i < n; i++) z[i]! -= dot * a[k * n + i]!;
  }
}
