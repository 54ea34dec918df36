/**
 * Eigenvalues of a symmetric tridiagonal matrix by the implicit QL method, descending.
 * @param diagonal f64 [n]
 * @param below f64 [n - 1]
 */
export function tridiagonalValues(diagonal: Float64Array, below: Float64Array): Float64Array {
  const n = diagonal.length;
  const d = diagonal.slice();
  const e = new Float64Array(n);
  e.set(below);
  // What is smaller is nothing beside the rounding of the whole: without it a stretch of zeros with traces beside them never ends.
  const nothing = Number.EPSILON * normOf(diagonal, below);
  for (let l = 0; l < n; l++) {
    for (;;) {
      let m = l;
      while (m < n - 1 && Math.abs(e[m]!) > nothing) m++;
      if (m === l) break;
      sweep(d, e, l, m);
    }
  }
  return d.sort().reverse();
}

/** One QL step with Wilkinson's shift on rows l..m. */
function sweep(d: Float64Array, e: Float64Array, l: number, m: number): void {
  let g = (d[l + 1]! - d[l]!) / (2 * e[l]!);
  let r = Math.hypot(g, 1);
  g = d[m]! - d[l]! + e[l]! / (g + (g < 0 ? -r : r));
  let s = 1;
  let c = 1;
  let p = 0;
  for (let i = m - 1; i >= l; i--) {
    const f = s * e[i]!;
    const b = c * e[i]!;
    r = Math.hypot(f, g);
    e[i + 1] = r;
    if (r === 0) {
      d[i + 1]! -= p;
      e[m] = 0;
      return;
    }
    s = f / r;
    c = g / r;
    g = d[i + 1]! - p;
    r = (d[i]! - g) * s + 2 * c * b;
    p = s * r;
    d[i + 1] = g + p;
    g = c * r - b;
  }
  d[l]! -= p;
  e[l] = g;
  e[m] = 0;
}

/** Greatest sum of a row: no eigenvalue is greater. */
function normOf(diagonal: Float64Array, below: Float64Array): number {
  let norm = 0;
  for (const [i, value] of diagonal.entries())
    norm = Math.max(norm, Math.abs(value) + Math.abs(below[i] ?? 0) + Math.abs(below[i - 1] ?? 0));
  return norm;
}

/** Vectors of eigenvalues nearer than this share of the norm are made orthogonal to each other. */
const CLOSE = 1e-3;
const ITERATIONS = 3;

/** Orthonormal eigenvectors f64 [values.length][n] of descending eigenvalues, by inverse iteration. */
export function tridiagonalVectors(diagonal: Float64Array, below: Float64Array, values: Float64Array): Float64Array {
  const n = diagonal.length;
  const norm = normOf(diagonal, below);
  const vectors = new Float64Array(values.length * n);
  const apart = 10 * Number.EPSILON * (norm || 1);
  let value = Number.POSITIVE_INFINITY;
  let seed = 1;
  for (let j = 0, first = 0; j < values.length; j++) {
    // Equal values would give the same vector again: each is moved a little below the one before.
    value = Math.min(values[j]!, value - apart);
    while (values[first]! - values[j]! > CLOSE * norm) first++;
    const solve = factor(diagonal, below, value, apart);
    const z = vectors.subarray(j * n, (j + 1) * n);
    for (let i = 0; i < n; i++) {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
      z[i] = seed / 2 ** 32 - 0.5;
    }
    for (let round = 0; round < ITERATIONS; round++) {
      orthogonalise(vectors, n, first, j);
      solve(z);
    }
    orthogonalise(vectors, n, first, j);
    orthogonalise(vectors, n, first, j);
  }
  return vectors;
}

/** Row j less its parts along rows [first, j), at length 1. */
function orthogonalise(vectors: Float64Array, n: number, first: number, j: number): void {
  const z = j * n;
  for (let row = first * n; row < z; row += n) {
    let dot = 0;
    for (let i = 0; i < n; i++) dot += vectors[row + i]! * vectors[z + i]!;
    for (let i = 0; i < n; i++) vectors[z + i]! -= dot * vectors[row + i]!;
  }
  let greatest = 0;
  for (let i = 0; i < n; i++) greatest = Math.max(greatest, Math.abs(vectors[z + i]!));
  let squares = 0;
  for (let i = 0; i < n; i++) squares += (vectors[z + i]! / greatest) ** 2;
  const length = greatest * Math.sqrt(squares);
  for (let i = 0; i < n; i++) vectors[z + i]! /= length;
}

/** LU factors with pivoting of (T - value); the returned function solves in place. Pivots of 0 become `least`. */
function factor(diagonal: Float64Array, below: Float64Array, value: number, least: number) {
  const n = diagonal.length;
  const d = diagonal.map(x => x - value);
  const up = new Float64Array(n);
  up.set(below);
  const far = new Float64Array(n);
  const multiplier = new Float64Array(n);
  const swapped = new Uint8Array(n);
  for (let i = 0; i + 1 < n; i++) {
    const low = below[i]!;
    if (Math.abs(d[i]!) >= Math.abs(low)) {
      if (d[i] === 0) d[i] = least;
      multiplier[i] = low / d[i]!;
      d[i + 1]! -= multiplier[i]! * up[i]!;
    } else {
      swapped[i] = 1;
      multiplier[i] = d[i]! / low;
      d[i] = low;
      const next = d[i + 1]!;
      d[i + 1] = up[i]! - multiplier[i]! * next;
      up[i] = next;
      far[i] = up[i + 1]!;
      up[i + 1] = -multiplier[i]! * far[i]!;
    }
  }
  if (n > 0 && d[n - 1] === 0) d[n - 1] = least;
  return (z: Float64Array): void => {
    for (let i = 0; i + 1 < n; i++) {
      if (swapped[i]) {
        const upper = z[i]!;
        z[i] = z[i + 1]!;
        z[i + 1] = upper - multiplier[i]! * z[i]!;
      } else {
        z[i + 1]! -= multiplier[i]! * z[i]!;
      }
    }
    for (let i = n - 1; i >= 0; i--) {
      const right = i + 1 < n ? up[i]! * z[i + 1]! : 0;
      const second = i + 2 < n ? far[i]! * z[i + 2]! : 0;
      z[i] = (z[i]! - right - second) / d[i]!;
    }
  };
}
