import { KvasirError } from '../errors.ts';
import { TENSOR_TYPES, type TensorType } from './types.ts';

/** A block: `elements` neighbours of one row stored in `bytes`. */
export interface BlockShape {
  readonly elements: number;
  readonly bytes: number;
  /** The number of the type inside a GGUF file (ggml_type). */
  readonly ggml: number;
}

export const BLOCKS: { readonly [T in TensorType]: BlockShape } = {
  F32: { elements: 1, bytes: 4, ggml: 0 },
  F16: { elements: 1, bytes: 2, ggml: 1 },
  BF16: { elements: 1, bytes: 2, ggml: 30 },
  Q4_0: { elements: 32, bytes: 18, ggml: 2 },
  Q4_1: { elements: 32, bytes: 20, ggml: 3 },
  Q5_0: { elements: 32, bytes: 22, ggml: 6 },
  Q5_1: { elements: 32, bytes: 24, ggml: 7 },
  Q8_0: { elements: 32, bytes: 34, ggml: 8 },
  Q4_K: { elements: 256, bytes: 144, ggml: 12 },
  Q5_K: { elements: 256, bytes: 176, ggml: 13 },
  Q6_K: { elements: 256, bytes: 210, ggml: 14 },
};

// Names of the ggml types that Kvasir does not read, so that an error can say which one it met.
const OTHER_NAMES: Record<number, string> = {
  9: 'Q8_1',
  10: 'Q2_K',
  11: 'Q3_K',
  15: 'Q8_K',
  16: 'IQ2_XXS',
  17: 'IQ2_XS',
  18: 'IQ3_XXS',
  19: 'IQ1_S',
  20: 'IQ4_NL',
  21: 'IQ3_S',
  22: 'IQ2_S',
  23: 'IQ4_XS',
  24: 'I8',
  25: 'I16',
  26: 'I32',
  27: 'I64',
  28: 'F64',
  29: 'IQ1_M',
  34: 'TQ1_0',
  35: 'TQ2_0',
  39: 'MXFP4',
};

/** The type behind a ggml number. Raises `unknown_tensor_type` naming the tensor and the type. */
export function tensorTypeOf(ggml: number, tensor: string): TensorType {
  const type = TENSOR_TYPES.find(name => BLOCKS[name].ggml === ggml);
  if (type !== undefined) return type;
  throw unknownTensorType(tensor, OTHER_NAMES[ggml] ?? `number ${ggml}`);
}

export function unknownTensorType(tensor: string, type: string): KvasirError {
  return new KvasirError('unknown_tensor_type', `Tensor "${tensor}" has type ${type}, which Kvasir does not read.`, {
    field: tensor,
    value: type,
    allowed: TENSOR_TYPES,
  });
}

/** Bytes of one row of `columns` elements. Raises `bad_model_file` where columns do not fill whole blocks. */
export function rowBytes(type: TensorType, columns: number, tensor = 'tensor'): number {
  const { elements, bytes } = BLOCKS[type];
  if (columns % elements === 0) return (columns / elements) * bytes;
  throw new KvasirError(
    'bad_model_file',
    `Tensor "${tensor}": rows of ${columns} do not divide into ${type} blocks of ${elements}.`,
    { field: tensor, value: columns, allowed: `a multiple of ${elements}` },
  );
}
