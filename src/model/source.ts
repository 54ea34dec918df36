import { KvasirError } from '../errors.ts';
import type { ByteSource } from './types.ts';

/** A folder of files by name: a directory, a set of dropped files, an archive. */
export interface FileFolder {
  readonly name: string;
  /** The file, or null where the folder has none of that name. The caller closes it. */
  open(file: string): Promise<ByteSource | null>;
}

/** Raises `bad_model_file` unless [offset, offset + length) lies inside the source. */
export function checkRange(source: ByteSource, offset: number, length: number): void {
  const whole = Number.isSafeInteger(offset) && Number.isSafeInteger(length);
  if (whole && offset >= 0 && length >= 0 && offset + length <= source.size) return;
  throw new KvasirError(
    'bad_model_file',
    `${source.name}: truncated: ${length} bytes wanted at offset ${offset}, the file has ${source.size}.`,
    { field: source.name, value: offset + length, allowed: `at most ${source.size} bytes` },
  );
}

/** Bytes in memory. Reads are views of the given buffer, not copies. */
export function bufferSource(bytes: Uint8Array | ArrayBuffer, name = 'buffer'): ByteSource {
  const view = bytes instanceof Uint8Array ? bytes : new Uint8Array(bytes);
  const source: ByteSource = {
    size: view.length,
    name,
    async read(offset, length) {
      checkRange(source, offset, length);
      return view.subarray(offset, offset + length);
    },
    async close() {},
  };
  return source;
}

/** A Blob or a File of a browser; only the asked range is read. */
export function blobSource(blob: Blob, name = blob instanceof File ? blob.name : 'blob'): ByteSource {
  const source: ByteSource = {
    size: blob.size,
    name,
    async read(offset, length) {
      checkRange(source, offset, length);
      return new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer());
    },
    async close() {},
  };
  return source;
}

/** A folder held in memory; names map to bytes or Blobs. */
export function memoryFolder(files: ReadonlyMap<string, Uint8Array | Blob>, name = 'folder'): FileFolder {
  return {
    name,
    async open(file) {
      const content = files.get(file);
      if (content === undefined) return null;
      return content instanceof Uint8Array ? bufferSource(content, file) : blobSource(content, file);
    },
  };
}

/** A whole small file. `limit` in bytes guards against a huge one under a small file's name. */
export async function readWhole(source: ByteSource, limit: number): Promise<Uint8Array> {
  if (source.size > limit) {
    throw new KvasirError('bad_model_file', `${source.name} has ${source.size} bytes; at most ${limit} are read.`, {
      field: source.name,
      value: source.size,
      allowed: `at most ${limit} bytes`,
    });
  }
  return source.read(0, source.size);
}
