import { expect, test } from 'vitest';
import { plainRandom } from '../testing.ts';
import { symmetricEigen } from './eigen.ts';

const random = plainRandom(5);
const normal = () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());

/** X^T X of `rows` random rows whose columns shrink by `decay`. */
function gram(n: number, rows: number, decay = 1): Float64Array {
  const out = new Float64Array(n * n);
  for (let r = 0; r < rows; r++) {
    const x = Float64Array.from({ length: n }, (_, c) => normal() * decay ** c);
    for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) out[i * n + j]! += x[i]! * x[j]!;
  }
  return out;
}

function check(a: Float64Array, n: number, count = n): void {
  const { values, vectors } = symmetricEigen(a, n, count);
  const norm = Math.max(...Array.from(values, Math.abs), 1e-300);
  let [residual, crossed] = [0, 0];
  for (let j = 0; j < count; j++) {
    const z = vectors.subarray(j * n, (j + 1) * n);
    if (j > 0) expect(values[j]!).toBeLessThanOrEqual(values[j - 1]!);
    for (let i = 0; i < n; i++) {
      let sum = 0;
      for (let c = 0; c < n; c++) sum += (i >= c ? a[i * n + c]! : a[c * n + i]!) * z[c]!;
      residual = Math.max(residual, Math.abs(sum - values[j]! * z[i]!));
    }
    for (let k = 0; k <= j; k++) {
      const dot = z.reduce((sum, x, c) => sum + x * vectors[k * n + c]!, 0);
      crossed = Math.max(crossed, Math.abs(dot - (k === j ? 1 : 0)));
    }
  }
  expect(residual).toBeLessThan(1e-12 * n * norm);
  expect(crossed).toBeLessThan(1e-12 * n);
}

test.each([1, 2, 3, 8, 33, 100])('eigenpairs of random symmetric matrices, n = %i', n => {
  const a = Float64Array.from({ length: n * n }, normal);
  check(a, n);
  const trace = Array.from({ length: n }, (_, i) => a[i * n + i]!).reduce((x, y) => x + y, 0);
  expect(symmetricEigen(a, n).values.reduce((x, y) => x + y, 0)).toBeCloseTo(trace, 9);
});

test('equal, zero and fast falling eigenvalues', () => {
  check(new Float64Array(25), 5);
  check(
    Float64Array.from({ length: 49 }, (_, i) => (i % 8 === 0 ? 3 : 0)),
    7,
  );
  check(
    Float64Array.from({ length: 36 }, (_, i) => (i % 7 === 0 ? i : 0)),
    6,
  );
  check(gram(60, 9), 60);
  check(gram(60, 200, 0.7), 60);
  check(
    gram(24, 40).map(x => x * 1e-40),
    24,
  );
  check(
    gram(24, 40).map(x => x * 1e40),
    24,
  );
  const twins = gram(20, 40);
  const doubled = new Float64Array(40 * 40);
  for (let i = 0; i < 20; i++)
    for (let j = 0; j < 20; j++) for (const at of [0, 20]) doubled[(at + i) * 40 + at + j] = twins[i * 20 + j]!;
  check(doubled, 40);
});

test('zero rows beside traces: what columns that were dropped leave in sums', () => {
  for (const trace of [1e-45, 1e-150, 1e-160, 1e-170]) {
    const n = 40;
    const a = new Float64Array(n * n);
    const full = gram(20, 40);
    for (let i = 0; i < 20; i++) for (let j = 0; j < 20; j++) a[i * n + j] = full[i * 20 + j]!;
    for (let i = 20; i < n; i++) for (let j = 0; j < i; j++) a[i * n + j] = trace * normal();
    check(a, n);
  }
});

test('the greatest few of many, and the empty matrix', () => {
  check(gram(150, 300, 0.98), 150, 20);
  expect(symmetricEigen(new Float64Array(0), 0).values.length).toBe(0);
});

test('the same input gives the same output', () => {
  const a = gram(30, 10);
  expect(symmetricEigen(a, 30)).toEqual(symmetricEigen(a.slice(), 30));
});

test('what is no finite square matrix is refused', () => {
  for (const [matrix, n, count] of [
    [new Float64Array(5), 2, 1],
    [new Float64Array(4), 2, 3],
    [Float64Array.of(1, 0, 0, Number.NaN), 2, 2],
  ] as const) {
    expect(() => symmetricEigen(matrix, n, count)).toThrow(expect.objectContaining({ code: 'invalid_request' }));
  }
});
