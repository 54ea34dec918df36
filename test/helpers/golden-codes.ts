import { expect } from 'vitest';
import { PAGE_TOKENS } from '../../kernels/abi.ts';
import { plainRandom } from '../../src/methods/testing.ts';
import type { Plane, PlaneCell } from './plane-cell.ts';

/** What authors' code makes of 64 rows (test/golden/methods): codes [64][width], one digit of base 32 an element. */
export interface GoldenCodes {
  readonly codes: string;
  /** [64 / group][width] along tokens, [64][width / group] along channels. */
  readonly scale: readonly number[];
  readonly offset: readonly number[];
}

export const codeOf = (digit: string) => Number.parseInt(digit, 32);

/** `rows` of draw.py: f32 [count][width]. */
export function drawnRows(seed: number, width: number, count = PAGE_TOKENS): Float32Array {
  const random = plainRandom(seed);
  const middle = Array.from({ length: width }, () => 2 * random() - 1);
  const size = Array.from({ length: width }, () => 0.5 + 2 * random());
  return Float32Array.from(
    { length: count * width },
    (_, i) => middle[i % width]! + size[i % width]! * (2 * random() - 1) ** 3,
  );
}

/**
 * Codes and parameters of part `p` as authors have them; they may differ by what rounding parameters to f16 does near a border.
 * @param x [64][width], in the order of the part's channels
 */
export function compareCodes(
  cell: PlaneCell,
  plane: Plane,
  p: number,
  golden: GoldenCodes,
  x: ArrayLike<number>,
): void {
  const { part, channels, group, ...plan } = cell.plans[plane].parts[p]!;
  const width = channels.length;
  const alongTokens = part.along === 'token';
  const codes = cell.codes(plane, p);
  const scales = cell.halves(plane, plan.scale, golden.scale.length);
  const offsets = cell.halves(plane, plan.offset, golden.offset.length);
  expect(golden.codes.length).toBe(codes.length);
  let differing = 0;
  for (let at = 0; at < codes.length; at++) {
    const [t, c] = [Math.floor(at / width), at % width];
    const theirs = alongTokens ? Math.floor(t / group) * width + c : t * (width / group) + Math.floor(c / group);
    const ours = alongTokens ? theirs : Math.floor(c / group) * PAGE_TOKENS + t;
    const [s, m] = [golden.scale[theirs]!, golden.offset[theirs]!];
    const near = (a: number, b: number) => expect(Math.abs(a - b)).toBeLessThan(2 ** -10 * Math.abs(b) + 2 ** -14 * s);
    near(scales[ours]!, s);
    near(offsets[ours]!, m);
    if (codes[at] === codeOf(golden.codes[at]!)) continue;
    differing++;
    const z = (x[at]! - m) / s;
    const fromBorder = Math.abs(z - Math.floor(z) - 0.5);
    expect(fromBorder).toBeLessThan(2 ** -10 * (z + (Math.abs(m) + Math.abs(x[at]!)) / s) + 1e-5);
  }
  expect(differing).toBeLessThan(0.01 * codes.length);
}

/** For actions that turn no keys. */
export const unturned = (): never => {
  throw new Error('Keys are to stay as they are.');
};
