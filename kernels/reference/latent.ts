import type { LatentFormat } from '../../src/cache/format.ts';
import { decodeHalf, encodeHalf } from './half.ts';

const half = (x: number) => decodeHalf(encodeHalf(x));

/** Shared rows f64 [rows][rank] as they are stored: f16, or codes against an f16 minimum and step a row. */
export function storeLatent(rows: ArrayLike<number>, format: LatentFormat): Float64Array {
  const { rank, bits } = format;
  const out = new Float64Array(rows.length);
  for (let from = 0; from < rows.length; from += rank) {
    const row = Array.from({ length: rank }, (_, i) => rows[from + i]!);
    const low = Math.min(...row);
    const levels = 2 ** bits - 1;
    const scale = half((Math.max(...row) - low) / levels);
    const offset = half(low);
    for (const [i, x] of row.entries()) {
      const code = scale === 0 ? 0 : Math.max(0, Math.min(levels, Math.round((x - offset) / scale)));
      out[from + i] = bits === 16 ? half(x) : code * scale + offset;
    }
  }
  return out;
}

/** norm[t] * (C[t] . B), f64 [rows][headDim]; the basis f16 [rank][headDim]. */
export function decodeLatent(
  stored: Float64Array,
  format: LatentFormat,
  headDim: number,
  basis?: ArrayLike<number>,
  norms?: ArrayLike<number>,
): Float64Array {
  const { rank } = format;
  const matrix = basis && Float64Array.from(basis, half);
  const out = new Float64Array((stored.length / rank) * headDim);
  for (let i = 0; i < out.length; i++) {
    const t = Math.floor(i / headDim);
    const c = i % headDim;
    let sum = matrix ? 0 : stored[t * rank + c]!;
    if (matrix) for (let r = 0; r < rank; r++) sum += stored[t * rank + r]! * matrix[r * headDim + c]!;
    out[i] = sum * (norms?.[t] ?? 1);
  }
  return out;
}
