import { closeSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { KvasirError } from '../errors.ts';
import { KvCacheFullError } from './budget.ts';
import type { ParkPlace } from './park-place.ts';

interface Extent {
  readonly offset: number;
  readonly bytes: number;
}

/**
 * A temporary file that is there while it holds a blob: made at the first write, removed with the last free. Space that is
 * freed is used again for blobs of the same size.
 */
export class FilePlace implements ParkPlace {
  readonly #parent: string;
  readonly #limit: number;
  #folder = '';
  #file = -1;
  #end = 0;
  #next = 1;
  readonly #extents = new Map<number, Extent>();
  readonly #free = new Map<number, number[]>();

  /**
   * @param folder where the file is made; default: the system's folder for temporary files
   * @param limit bytes that the file may have
   */
  constructor(folder = tmpdir(), limit = Number.POSITIVE_INFINITY) {
    this.#parent = folder;
    this.#limit = limit;
  }

  /** Bytes of the file. */
  get bytes(): number {
    return this.#end;
  }

  write(bytes: Uint8Array): number {
    const free = this.#free.get(bytes.length);
    const offset = free?.at(-1) ?? this.#end;
    if (offset + bytes.length > this.#limit)
      throw new KvCacheFullError('parked bytes', bytes.length, bytes.length, this.#limit - offset, this.#limit);
    return attempt('write', () => {
      if (this.#file < 0) this.#open();
      try {
        for (let done = 0; done < bytes.length; ) {
          done += writeSync(this.#file, bytes, done, bytes.length - done, offset + done);
        }
      } catch (error) {
        if (this.#extents.size === 0) this.#close();
        throw error;
      }
      if (free?.length) free.pop();
      else this.#end += bytes.length;
      this.#extents.set(this.#next, { offset, bytes: bytes.length });
      return this.#next++;
    });
  }

  read(handle: number, into: Uint8Array, from = 0): void {
    attempt('read', () => {
      const { offset } = this.#extents.get(handle)!;
      for (let done = 0; done < into.length; ) {
        const got = readSync(this.#file, into, done, into.length - done, offset + from + done);
        if (got === 0) throw new Error('the file has been cut');
        done += got;
      }
    });
  }

  free(handle: number): void {
    const extent = this.#extents.get(handle);
    if (!extent) return;
    this.#extents.delete(handle);
    if (this.#extents.size === 0) {
      this.#close();
      return;
    }
    const list = this.#free.get(extent.bytes);
    if (list) list.push(extent.offset);
    else this.#free.set(extent.bytes, [extent.offset]);
  }

  #open(): void {
    this.#folder = mkdtempSync(join(this.#parent, 'kvasir-park-'));
    this.#file = openSync(join(this.#folder, 'rows'), 'wx+', 0o600);
  }

  #close(): void {
    closeSync(this.#file);
    rmSync(this.#folder, { recursive: true, force: true });
    this.#file = -1;
    this.#end = 0;
    this.#free.clear();
  }
}

/** What the system says where there is no room: none on the disk, in the quota, or for a file of this size. */
const NO_ROOM = ['ENOSPC', 'EDQUOT', 'EFBIG'];

/** Runs a use of the file; what the system raises becomes `kv_cache_full` where there is no room, else `backend_failed`. */
export function attempt<T>(verb: string, run: () => T): T {
  try {
    return run();
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const full = NO_ROOM.includes(code ?? '');
    throw new KvasirError(full ? 'kv_cache_full' : 'backend_failed', `Cannot ${verb} parked rows: ${message}.`, {
      field: 'park',
      value: verb,
      ...(full && { allowed: 'what the disk has room for' }),
      cause: error,
    });
  }
}
