import { KvasirError } from '../errors.ts';
import { isObject, parseObject } from './json.ts';
import { BLOCKS, unknownTensorType } from './tensor-type.ts';
import type { ByteSource, TensorType } from './types.ts';

const MAX_HEADER = 100_000_000;
const TYPES: Record<string, TensorType> = { F32: 'F32', F16: 'F16', BF16: 'BF16' };

/** A tensor of a safetensors file. `offset` is absolute, in bytes. */
export interface SafeTensor {
  readonly type: TensorType;
  readonly rows: number;
  readonly columns: number;
  readonly offset: number;
  readonly byteLength: number;
  readonly source: ByteSource;
}

/**
 * Reads the header of a safetensors file (8 bytes of length, JSON, data); no tensor data.
 * Raises `bad_model_file` naming the section or tensor, `unknown_tensor_type` for a type outside F32, F16 and BF16.
 *
 * @param skip names of tensors to leave out unchecked
 */
export async function readSafetensors(
  source: ByteSource,
  skip: (name: string) => boolean,
): Promise<{ header: Uint8Array; tensors: Map<string, SafeTensor> }> {
  const bad = (section: string, reason: string) =>
    new KvasirError('bad_model_file', `${source.name}: bad safetensors file, ${section}: ${reason}.`, {
      field: section,
    });
  if (source.size < 8) throw bad('header length', `the file has ${source.size} bytes`);
  const lead = await source.read(0, 8);
  const length = Number(new DataView(lead.buffer, lead.byteOffset, 8).getBigUint64(0, true));
  if (length > MAX_HEADER || length > source.size - 8) {
    throw bad('header length', `${length} bytes do not fit in the ${source.size - 8} that follow`);
  }
  const header = await source.read(8, length);
  const begin = 8 + length;
  const tensors = new Map<string, SafeTensor>();
  for (const [name, value] of Object.entries(parseObject(header, `${source.name} header`))) {
    if (name === '__metadata__' || skip(name)) continue;
    const section = `tensor info "${name}"`;
    if (!isObject(value)) throw bad(section, 'it is no object');
    const { dtype, shape, data_offsets: offsets } = value;
    const type = TYPES[String(dtype)];
    if (type === undefined) throw unknownTensorType(name, String(dtype));
    if (!isSizes(shape) || shape.length === 0) throw bad(section, 'its shape is no list of sizes');
    if (!isSizes(offsets) || offsets.length !== 2) throw bad(section, 'its data_offsets are no pair of numbers');
    const [from, to] = offsets;
    const columns = shape[shape.length - 1];
    const rows = shape.slice(0, -1).reduce((product, size) => product * size, 1);
    const byteLength = rows * columns * BLOCKS[type].bytes;
    if (byteLength === 0) throw bad(section, 'it is empty');
    if (to - from !== byteLength) throw bad(section, `${to - from} bytes for a shape that needs ${byteLength}`);
    if (begin + to > source.size) {
      throw bad(`tensor data of "${name}"`, `it ends at byte ${begin + to} of ${source.size}: the file is truncated`);
    }
    tensors.set(name, { type, rows, columns, offset: begin + from, byteLength, source });
  }
  let previous: SafeTensor | undefined;
  for (const [name, tensor] of [...tensors].sort((a, b) => a[1].offset - b[1].offset)) {
    if (previous && tensor.offset < previous.offset + previous.byteLength) {
      throw bad(`tensor info "${name}"`, 'its bytes overlap those of another');
    }
    previous = tensor;
  }
  return { header, tensors };
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every(size => Number.isSafeInteger(size) && size >= 0);
}
