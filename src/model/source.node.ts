import { type FileHandle, open, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { KvasirError } from '../errors.ts';
import { checkRange, type FileFolder } from './source.ts';
import type { ByteSource } from './types.ts';

/** A file on disk, read by position. Raises `model_not_found` where there is none. */
export async function fileSource(path: string): Promise<ByteSource> {
  const file = await openFile(path);
  let size: number;
  try {
    const info = await file.stat();
    if (!info.isFile()) throw notFound(path, 'is not a regular file');
    size = info.size;
  } catch (error) {
    await file.close();
    throw error;
  }
  let closed = false;
  const source: ByteSource = {
    size,
    name: basename(path),
    async read(offset, length) {
      if (closed) throw new KvasirError('disposed', `${path} is closed.`);
      checkRange(source, offset, length);
      const bytes = new Uint8Array(length);
      for (let done = 0; done < length; ) {
        // One read call moves less than 2 GiB.
        const { bytesRead } = await file.read(bytes, done, Math.min(length - done, 1 << 30), offset + done);
        if (bytesRead === 0) {
          throw new KvasirError('bad_model_file', `${path}: ended at ${offset + done}, it was cut while being read.`);
        }
        done += bytesRead;
      }
      return bytes;
    },
    async close() {
      if (closed) return;
      closed = true;
      await file.close();
    },
  };
  return source;
}

/** A directory as a folder of files. */
export function directoryFolder(path: string): FileFolder {
  return {
    name: path,
    async open(file) {
      // File names come from an index inside the model; they must not lead outside its folder.
      if (file !== basename(file) || file === '..' || file.includes('\\')) {
        throw new KvasirError('bad_model_file', `"${file}" is not a plain file name inside the model's folder.`, {
          field: 'file',
          value: file,
        });
      }
      const info = await stat(join(path, file)).catch(() => null);
      return info === null ? null : fileSource(join(path, file));
    },
  };
}

/** What lies at a path. Raises `model_not_found` where nothing does. */
export async function pathKind(path: string): Promise<'file' | 'folder'> {
  try {
    return (await stat(path)).isDirectory() ? 'folder' : 'file';
  } catch (cause) {
    throw notFound(path, 'does not exist or cannot be read', cause);
  }
}

async function openFile(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'r');
  } catch (cause) {
    throw notFound(path, 'cannot be opened', cause);
  }
}

function notFound(path: string, reason: string, cause?: unknown): KvasirError {
  return new KvasirError('model_not_found', `${path} ${reason}.`, { field: 'path', value: path, cause });
}
