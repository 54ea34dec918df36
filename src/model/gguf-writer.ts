import { KvasirError } from '../errors.ts';
import { VALUE_TYPES } from './gguf-header.ts';
import { BLOCKS, rowBytes } from './tensor-type.ts';
import type { TensorType } from './types.ts';

type ScalarType = Exclude<keyof typeof VALUE_TYPES, 'array'>;
export type TypedValue =
  | { readonly type: ScalarType; readonly value: number | boolean | string }
  | { readonly type: 'array'; readonly of: ScalarType; readonly value: readonly (number | boolean | string)[] };

export interface GgufTensor {
  readonly name: string;
  readonly type: TensorType;
  readonly rows: number;
  readonly columns: number;
}

export interface GgufLayout {
  /** Magic to padding: everything before tensor data. */
  readonly header: Uint8Array;
  /** Where each tensor's data begins, from the start of the file; between them lie zeros. */
  readonly offsets: readonly number[];
  /** Bytes of the whole file. */
  readonly size: number;
}

/** Short forms for metadata values. */
export const meta = {
  u32: (value: number): TypedValue => ({ type: 'u32', value }),
  f32: (value: number): TypedValue => ({ type: 'f32', value }),
  bool: (value: boolean): TypedValue => ({ type: 'bool', value }),
  string: (value: string): TypedValue => ({ type: 'string', value }),
  strings: (value: readonly string[]): TypedValue => ({ type: 'array', of: 'string', value }),
  numbers: (of: 'i32' | 'u32' | 'f32', value: readonly number[]): TypedValue => ({ type: 'array', of, value }),
};

/** Lays a GGUF file (version 3) out without its tensor data, so that data can be written piece by piece. */
export function layoutGguf(
  metadata: Readonly<Record<string, TypedValue>>,
  tensors: readonly GgufTensor[],
  alignment = 32,
): GgufLayout {
  const out = new Writer();
  out.bytes(new TextEncoder().encode('GGUF'));
  out.scalar('u32', 3);
  out.scalar('u64', tensors.length);
  const all = alignment === 32 ? metadata : { ...metadata, 'general.alignment': meta.u32(alignment) };
  out.scalar('u64', Object.keys(all).length);
  for (const [key, entry] of Object.entries(all)) {
    out.scalar('string', key);
    out.scalar('u32', VALUE_TYPES[entry.type]);
    if (entry.type === 'array') {
      out.scalar('u32', VALUE_TYPES[entry.of]);
      out.scalar('u64', entry.value.length);
      for (const value of entry.value) out.scalar(entry.of, value);
    } else {
      out.scalar(entry.type, entry.value);
    }
  }
  let relative = 0;
  const starts: number[] = [];
  for (const { name, type, rows, columns } of tensors) {
    out.scalar('string', name);
    out.scalar('u32', rows === 1 ? 1 : 2);
    out.scalar('u64', columns);
    if (rows !== 1) out.scalar('u64', rows);
    out.scalar('u32', BLOCKS[type].ggml);
    out.scalar('u64', relative);
    starts.push(relative);
    relative = align(relative + rows * rowBytes(type, columns, name), alignment);
  }
  const written = out.finish();
  const header = new Uint8Array(align(written.length, alignment));
  header.set(written);
  return { header, offsets: starts.map(start => header.length + start), size: header.length + relative };
}

/** A whole small GGUF file in memory. */
export function writeGguf(
  metadata: Readonly<Record<string, TypedValue>>,
  tensors: readonly (GgufTensor & { data: Uint8Array })[],
  alignment = 32,
): Uint8Array {
  const { header, offsets, size } = layoutGguf(metadata, tensors, alignment);
  const file = new Uint8Array(size);
  file.set(header);
  tensors.forEach(({ name, type, rows, columns, data }, i) => {
    const expected = rows * rowBytes(type, columns, name);
    if (data.length !== expected) {
      throw new KvasirError('invalid_request', `Tensor "${name}" comes with ${data.length} bytes of ${expected}.`, {
        field: name,
        value: data.length,
        allowed: `${expected} bytes`,
      });
    }
    file.set(data, offsets[i]);
  });
  return file;
}

function align(offset: number, alignment: number): number {
  return Math.ceil(offset / alignment) * alignment;
}

/** A growing little-endian buffer. */
class Writer {
  private buffer = new Uint8Array(4096);
  private view = new DataView(this.buffer.buffer);
  private length = 0;

  bytes(bytes: Uint8Array): void {
    this.reserve(bytes.length);
    this.buffer.set(bytes, this.length);
    this.length += bytes.length;
  }

  scalar(type: ScalarType, value: number | boolean | string): void {
    if (type === 'string') {
      const text = new TextEncoder().encode(String(value));
      this.scalar('u64', text.length);
      this.bytes(text);
      return;
    }
    this.reserve(8);
    const number = Number(value);
    const at = this.length;
    switch (type) {
      case 'u8':
      case 'i8':
      case 'bool':
        this.view.setUint8(at, number);
        this.length += 1;
        break;
      case 'u16':
      case 'i16':
        this.view.setUint16(at, number, true);
        this.length += 2;
        break;
      case 'u32':
      case 'i32':
        this.view.setUint32(at, number, true);
        this.length += 4;
        break;
      case 'f32':
        this.view.setFloat32(at, number, true);
        this.length += 4;
        break;
      case 'f64':
        this.view.setFloat64(at, number, true);
        this.length += 8;
        break;
      default:
        this.view.setBigUint64(at, BigInt(number), true);
        this.length += 8;
    }
  }

  finish(): Uint8Array {
    return this.buffer.subarray(0, this.length);
  }

  private reserve(count: number): void {
    if (this.length + count <= this.buffer.length) return;
    const grown = new Uint8Array(Math.max(this.length + count, this.buffer.length * 2));
    grown.set(this.buffer.subarray(0, this.length));
    this.buffer = grown;
    this.view = new DataView(grown.buffer);
  }
}
