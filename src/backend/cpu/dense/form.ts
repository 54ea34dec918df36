import type { TensorType } from '../../../model/types.ts';
import type { NumericMode } from '../../types.ts';

/**
 * How the weight matrix W [outputs, inputs] of a product x W' is stored.
 *
 * `floats`: W itself in float32.
 * `codes`: W[n, i] = (code - 2^(bits - 1)) * scale[n, b] + offset[n, b], b the block of input i. That is ONNX Runtime's MatMulNBits
 * with its implied zero point, plus (sum of x per block) times the offsets. Its float zero points would say the same but are
 * 60 times slower, and its integer ones cannot hold a minimum exactly.
 */
export type Form =
  | { readonly kind: 'floats' }
  | { readonly kind: 'codes'; readonly bits: 4 | 8; readonly block: 16 | 32; readonly offsets: boolean };

const FLOATS: Form = { kind: 'floats' };
const CODES_8: Form = { kind: 'codes', bits: 8, block: 32, offsets: false };
const CODES_8_OFFSETS: Form = { kind: 'codes', bits: 8, block: 32, offsets: true };
const CODES_4: Form = { kind: 'codes', bits: 4, block: 32, offsets: false };
const CODES_4_OFFSETS: Form = { kind: 'codes', bits: 4, block: 32, offsets: true };

/** Every block type keeps its codes and, but for one rounding of scales to float32, its values; floats become 8-bit codes. */
const FAST: Readonly<Record<TensorType, Form>> = {
  F32: CODES_8,
  F16: CODES_8,
  BF16: CODES_8,
  Q8_0: CODES_8,
  Q5_0: CODES_8,
  Q5_1: CODES_8_OFFSETS,
  Q5_K: CODES_8_OFFSETS,
  Q4_0: CODES_4,
  Q4_1: CODES_4_OFFSETS,
  Q4_K: CODES_4_OFFSETS,
  Q6_K: { kind: 'codes', bits: 8, block: 16, offsets: false },
};

export function formOf(type: TensorType, mode: NumericMode): Form {
  return mode === 'exact' ? FLOATS : FAST[type];
}

export function sameForm(a: Form, b: Form): boolean {
  if (a.kind !== 'codes' || b.kind !== 'codes') return a.kind === b.kind;
  return a.bits === b.bits && a.block === b.block && a.offsets === b.offsets;
}

/** Adjacent bytes of one product; each holds whole rows (outputs) one after another. */
export type AreaName = 'floats' | 'codes' | 'scales' | 'offsets';

/** Bytes of one row (output) in each area of a matrix with `inputs` columns. */
export function areaRowBytes(form: Form, inputs: number): Partial<Record<AreaName, number>> {
  if (form.kind === 'floats') return { floats: inputs * 4 };
  const blocks = Math.ceil(inputs / form.block);
  return {
    codes: (blocks * form.block * form.bits) / 8,
    scales: blocks * 4,
    ...(form.offsets && { offsets: blocks * 4 }),
  };
}
