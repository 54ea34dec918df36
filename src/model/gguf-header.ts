import { KvasirError } from '../errors.ts';
import { HeaderReader } from './gguf-reader.ts';
import { rowBytes, tensorTypeOf } from './tensor-type.ts';
import type { ByteSource, TensorType } from './types.ts';

/** Numbers of a metadata value's type inside the file. */
export const VALUE_TYPES = {
  u8: 0,
  i8: 1,
  u16: 2,
  i16: 3,
  u32: 4,
  i32: 5,
  f32: 6,
  bool: 7,
  string: 8,
  array: 9,
  u64: 10,
  i64: 11,
  f64: 12,
} as const;

export type MetadataValue = number | boolean | string | MetadataValue[];

/** A tensor as the file has it. `offset` is absolute, in bytes. */
export interface StoredTensor {
  readonly name: string;
  readonly type: TensorType;
  readonly rows: number;
  readonly columns: number;
  readonly offset: number;
  readonly byteLength: number;
}

export interface GgufHeader {
  readonly version: number;
  readonly metadata: ReadonlyMap<string, MetadataValue>;
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  /** Where tensor data begins. */
  readonly dataOffset: number;
}

const FIXED_BYTES: Record<number, number> = { 0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 8: 8, 9: 12, 10: 8, 11: 8, 12: 8 }; // biome-ignore format: a table of small numbers
const MAX_KEYS = 65_536;
const MAX_TENSORS = 1_000_000;
const MAX_ARRAY = 16_777_216;
const MAX_DEPTH = 4;

/**
 * Reads a GGUF header (versions 2 and 3, little-endian) through range reads, touching no tensor data.
 * Every count is checked against the bytes that are left before anything is allocated.
 * Raises `bad_model_file` naming the section, or `unknown_tensor_type`.
 * Format: ggml's docs/gguf.md.
 */
export async function readGgufHeader(source: ByteSource): Promise<GgufHeader> {
  const reader = new HeaderReader(source);
  const magic = await reader.bytes(4, 'magic');
  if (String.fromCharCode(...magic) !== 'GGUF') {
    throw reader.bad('magic', 'the file does not begin with "GGUF"', Array.from(magic));
  }
  const version = await reader.u32('version');
  if (version !== 2 && version !== 3) {
    throw reader.bad('version', `version ${version} is not read (2 and 3 are)`, version);
  }
  const tensorCount = await reader.count('tensor count', MAX_TENSORS, 24);
  const keyCount = await reader.count('metadata count', MAX_KEYS, 13);

  const metadata = new Map<string, MetadataValue>();
  for (let i = 0; i < keyCount; i++) {
    const key = await reader.string(`metadata key ${i}`);
    if (metadata.has(key)) throw reader.bad(`metadata key "${key}"`, 'it occurs twice');
    const type = await reader.u32(`metadata key "${key}"`);
    metadata.set(key, await readValue(reader, type, `metadata key "${key}"`, 0));
  }

  const alignment = metadata.get('general.alignment') ?? 32;
  if (typeof alignment !== 'number' || alignment < 1 || alignment > 1 << 20 || (alignment & (alignment - 1)) !== 0) {
    throw reader.bad('metadata key "general.alignment"', `${alignment} is no power of two up to 2^20`, alignment);
  }
  const infos = [];
  for (let i = 0; i < tensorCount; i++) infos.push(await readTensorInfo(reader, i));
  const dataOffset = Math.ceil(reader.position / alignment) * alignment;
  return { version, metadata, tensors: placeTensors(reader, infos, dataOffset, alignment), dataOffset };
}

async function readValue(reader: HeaderReader, type: number, what: string, depth: number): Promise<MetadataValue> {
  switch (type) {
    case VALUE_TYPES.string:
      return reader.string(what);
    case VALUE_TYPES.array: {
      if (depth >= MAX_DEPTH) throw reader.bad(what, `arrays lie more than ${MAX_DEPTH} deep`);
      const elementType = await reader.u32(what);
      const elementBytes = FIXED_BYTES[elementType];
      if (elementBytes === undefined) throw reader.bad(what, `its elements have unknown type ${elementType}`);
      const count = await reader.count(what, MAX_ARRAY, elementBytes);
      const values: MetadataValue[] = [];
      for (let i = 0; i < count; i++) {
        if (elementType === VALUE_TYPES.string) {
          values.push(reader.bufferedString() ?? (await reader.string(what)));
        } else if (elementType === VALUE_TYPES.array) {
          values.push(await readValue(reader, elementType, what, depth + 1));
        } else {
          if (!reader.buffered(elementBytes)) await reader.fill(elementBytes, what);
          values.push(readNumber(reader, elementType, what));
        }
      }
      return values;
    }
    default: {
      const bytes = FIXED_BYTES[type];
      if (bytes === undefined) throw reader.bad(what, `it has unknown value type ${type}`, type);
      await reader.fill(bytes, what);
      return readNumber(reader, type, what);
    }
  }
}

function readNumber(reader: HeaderReader, type: number, what: string): number | boolean {
  const { view, at } = reader.take(FIXED_BYTES[type]);
  switch (type) {
    case VALUE_TYPES.u8:
      return view.getUint8(at);
    case VALUE_TYPES.i8:
      return view.getInt8(at);
    case VALUE_TYPES.u16:
      return view.getUint16(at, true);
    case VALUE_TYPES.i16:
      return view.getInt16(at, true);
    case VALUE_TYPES.u32:
      return view.getUint32(at, true);
    case VALUE_TYPES.i32:
      return view.getInt32(at, true);
    case VALUE_TYPES.f32:
      return view.getFloat32(at, true);
    case VALUE_TYPES.f64:
      return view.getFloat64(at, true);
    case VALUE_TYPES.bool: {
      const value = view.getUint8(at);
      if (value > 1) throw reader.bad(what, `${value} is no boolean`, value);
      return value === 1;
    }
    default:
      return Number(type === VALUE_TYPES.u64 ? view.getBigUint64(at, true) : view.getBigInt64(at, true));
  }
}

interface TensorEntry {
  name: string;
  type: TensorType;
  rows: number;
  columns: number;
  relative: number;
}

async function readTensorInfo(reader: HeaderReader, index: number): Promise<TensorEntry> {
  const name = await reader.string(`tensor info ${index}`);
  const what = `tensor info "${name}"`;
  const dimensions = await reader.u32(what);
  if (dimensions < 1 || dimensions > 4) throw reader.bad(what, `it has ${dimensions} dimensions`, dimensions);
  const shape: number[] = [];
  for (let d = 0; d < dimensions; d++) {
    const size = await reader.u64(what);
    if (size < 1 || size > 2 ** 32) throw reader.bad(what, `dimension ${d} is ${size}`, size);
    shape.push(size);
  }
  const type = tensorTypeOf(await reader.u32(what), name);
  const relative = await reader.u64(what);
  const rows = shape.slice(1).reduce((product, size) => product * size, 1);
  return { name, type, rows, columns: shape[0], relative };
}

function placeTensors(
  reader: HeaderReader,
  infos: readonly TensorEntry[],
  dataOffset: number,
  alignment: number,
): Map<string, StoredTensor> {
  const tensors = new Map<string, StoredTensor>();
  for (const { name, type, rows, columns, relative } of infos) {
    const what = `tensor info "${name}"`;
    if (tensors.has(name)) throw reader.bad(what, 'it occurs twice');
    const byteLength = rows * rowBytes(type, columns, name);
    if (relative % alignment !== 0) throw reader.bad(what, `offset ${relative} is not a multiple of ${alignment}`);
    const end = dataOffset + relative + byteLength;
    if (!Number.isSafeInteger(end) || end > reader.size) {
      throw reader.bad(`tensor data of "${name}"`, `it ends at byte ${end} of ${reader.size}: the file is truncated`);
    }
    tensors.set(name, { name, type, rows, columns, offset: dataOffset + relative, byteLength });
  }
  let previous: StoredTensor | undefined;
  for (const tensor of [...tensors.values()].sort((a, b) => a.offset - b.offset)) {
    if (previous && tensor.offset < previous.offset + previous.byteLength) {
      throw reader.bad(`tensor info "${tensor.name}"`, `its bytes overlap those of "${previous.name}"`);
    }
    previous = tensor;
  }
  return tensors;
}

/** A metadata entry that must be there. */
export function required<T extends MetadataValue>(
  metadata: ReadonlyMap<string, MetadataValue>,
  key: string,
  is: (value: MetadataValue) => value is T,
  kind: string,
): T {
  const value = metadata.get(key);
  if (value !== undefined && is(value)) return value;
  throw new KvasirError(
    'bad_model_file',
    value === undefined ? `Metadata key "${key}" is missing.` : `Metadata key "${key}" is not ${kind}.`,
    { field: key, value: Array.isArray(value) ? 'an array' : value, allowed: kind },
  );
}
