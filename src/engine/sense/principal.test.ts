import { afterAll, beforeAll, expect, test } from 'vitest';
import { openBackend } from '../../cache/testing-backends.ts';
import { numbers } from '../../cache/testing-model.ts';
import { symmetricEigen } from '../../methods/shared/eigen.ts';
import { principalBasis } from './principal.ts';

const random = numbers(41);
let backend: Awaited<ReturnType<typeof openBackend>>;
beforeAll(async () => {
  backend = await openBackend('wasm');
});
afterAll(() => backend.kernels.dispose());

/** A symmetric matrix of these eigenvalues: turned by random mirrors. */
function matrixOf(values: readonly number[]): Float64Array {
  const n = values.length;
  const a = new Float64Array(n * n);
  for (const [i, value] of values.entries()) a[i * n + i] = value;
  for (let round = 0; round < 3; round++) {
    const v = Float64Array.from({ length: n }, random);
    const square = v.reduce((sum, x) => sum + x * x, 0);
    for (const [step, line] of [
      [1, n],
      [n, 1],
    ] as const) {
      for (let i = 0; i < n; i++) {
        let dot = 0;
        for (let c = 0; c < n; c++) dot += v[c]! * a[i * line + c * step]!;
        for (let c = 0; c < n; c++) a[i * line + c * step]! -= (2 * dot * v[c]!) / square;
      }
    }
  }
  return a;
}

/** Of columns [n][rank]: what of the trace of A they hold, the greatest product of two that should be at right angles or 1. */
function look(a: Float64Array, n: number, basis: Float32Array, rank: number) {
  let [energy, crossed] = [0, 0];
  const column = (j: number) => Float64Array.from({ length: n }, (_, i) => basis[i * rank + j]!);
  const columns = Array.from({ length: rank }, (_, j) => column(j));
  for (const [j, x] of columns.entries()) {
    for (let i = 0; i < n; i++) {
      let sum = 0;
      for (let c = 0; c < n; c++) sum += a[i * n + c]! * x[c]!;
      energy += sum * x[i]!;
    }
    for (let k = 0; k <= j; k++) {
      const dot = x.reduce((sum, value, i) => sum + value * columns[k]![i]!, 0);
      crossed = Math.max(crossed, Math.abs(dot - Number(k === j)));
    }
  }
  return { energy, crossed, columns };
}

/** Sine of the greatest angle between the columns and the span of orthonormal rows. */
function sineOf(columns: readonly Float64Array[], rows: Float64Array, n: number): number {
  const squares = columns.map(x => {
    const rest = x.slice();
    for (let from = 0; from < rows.length; from += n) {
      const y = rows.subarray(from, from + n);
      const dot = x.reduce((sum, value, i) => sum + value * y[i]!, 0);
      for (let i = 0; i < n; i++) rest[i]! -= dot * y[i]!;
    }
    return rest.reduce((sum, value) => sum + value * value, 0);
  });
  // At most the Frobenius norm of what sticks out.
  return Math.sqrt(squares.reduce((sum, x) => sum + x, 0));
}

test.each([
  [192, 8, 64],
  [256, 24, 16],
  [512, 72, 64],
  [640, 248, 128],
])('n = %i: the span of the %i greatest eigenvectors where a gap follows them', (n, rank, part) => {
  const values = Array.from({ length: n }, (_, i) => (i < rank ? 1000 * 0.97 ** i + 1 : 0.2 * 0.995 ** i));
  const a = matrixOf(values);
  const { crossed, columns } = look(a, n, principalBasis(backend.kernels, a, n, rank, part), rank);
  expect(crossed).toBeLessThan(1e-5);
  expect(sineOf(columns, symmetricEigen(a, n, rank).vectors, n)).toBeLessThan(1e-2);
});

test.each([1, 0.99, 0.95])('without a gap, eigenvalues falling by %d: hardly more is dropped than must be', decay => {
  const [n, rank] = [512, 64];
  const values = Array.from({ length: n }, (_, i) => 1e-3 + 100 * decay ** i + (i === 0 ? 3000 : 0));
  const a = matrixOf(values);
  const dropped = values.slice(rank).reduce((x, y) => x + y, 0);
  const { crossed, energy } = look(a, n, principalBasis(backend.kernels, a, n, rank, 64), rank);
  expect(crossed).toBeLessThan(1e-5);
  expect((values.reduce((x, y) => x + y, 0) - energy) / dropped).toBeLessThan(1.01);
});

test('one direction far above the others, as in keys: none of the wanted ones is lost', () => {
  const [n, rank] = [640, 224];
  const values = Array.from({ length: n }, (_, i) => (i === 0 ? 800 : 30 / (1 + i) + 0.3 * 0.98 ** i + 0.002));
  const a = matrixOf(values);
  const dropped = values.slice(rank).reduce((x, y) => x + y, 0);
  const { crossed, energy } = look(a, n, principalBasis(backend.kernels, a, n, rank, 64), rank);
  expect(crossed).toBeLessThan(1e-5);
  expect((values.reduce((x, y) => x + y, 0) - energy) / dropped).toBeLessThan(1.01);
});

test('few dimensions, all of them, fewer than asked for, none: still orthonormal', () => {
  const all = matrixOf([5, 4, 3, 2, 1, 1, 0, 0]);
  expect(look(all, 8, principalBasis(backend.kernels, all, 8, 8, 8), 8)).toMatchObject({
    energy: expect.closeTo(16, 4),
  });
  const flat = matrixOf(Array.from({ length: 192 }, (_, i) => (i < 5 ? 5 - i : 0)));
  const { energy } = look(flat, 192, principalBasis(backend.kernels, flat, 192, 16, 64), 16);
  expect(energy).toBeCloseTo(15, 4);
  expect(principalBasis(backend.kernels, new Float64Array(192 * 192), 192, 16, 64).every(Number.isFinite)).toBe(true);
});

test('the same input gives the same output', () => {
  const a = matrixOf(Array.from({ length: 192 }, (_, i) => 0.9 ** i));
  const once = principalBasis(backend.kernels, a, 192, 16, 64);
  expect(principalBasis(backend.kernels, a, 192, 16, 64)).toEqual(once);
});
