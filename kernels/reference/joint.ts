import type { JointFormat } from '../../src/cache/format.ts';
import { decodeScalar, type EncodedPlane, encodeScalar, hadamard } from './scalar.ts';

/** Keys of several KV heads in plain float64: side by side, transformed as one, stored as scalar parts (src/cache/format.ts). */

/** `heads`: rows [count][headDim] of each. */
export function encodeJoint(
  heads: readonly ArrayLike<number>[],
  count: number,
  headDim: number,
  { parts }: JointFormat,
): EncodedPlane {
  const width = heads.length * headDim;
  const rows = new Float64Array(count * width);
  for (const [h, x] of heads.entries())
    for (let i = 0; i < count * headDim; i++)
      rows[Math.floor(i / headDim) * width + h * headDim + (i % headDim)] = x[i]!;
  return encodeScalar(hadamard(rows, width), count, width, { kind: 'scalar', parts });
}

/** Rows [64][headDim] of each head. */
export function decodeJoint(plane: EncodedPlane, headDim: number, { heads, parts }: JointFormat): Float64Array[] {
  const width = heads * headDim;
  const rows = hadamard(decodeScalar(plane, width, { kind: 'scalar', parts }), width);
  return Array.from({ length: heads }, (_, h) =>
    Float64Array.from(
      { length: 64 * headDim },
      (_, i) => rows[Math.floor(i / headDim) * width + h * headDim + (i % headDim)]!,
    ),
  );
}
