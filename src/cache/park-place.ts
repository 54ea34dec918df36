/** Where parked rows lie: outside the arena. Blobs are immutable. */
export interface ParkPlace {
  /** Keeps a copy of the bytes; the handle stays valid until `free`. May raise `kv_cache_full` (no room) or `backend_failed`. */
  write(bytes: Uint8Array): number;
  /** Fills `into` with the bytes of a blob from `from` (default 0) on. May raise `backend_failed`. */
  read(handle: number, into: Uint8Array, from?: number): void;
  free(handle: number): void;
}

/** Ordinary memory. Its limit is that of all parked rows (park-totals.ts). */
export class MemoryPlace implements ParkPlace {
  readonly #blobs = new Map<number, Uint8Array>();
  #next = 1;

  write(bytes: Uint8Array): number {
    this.#blobs.set(this.#next, bytes.slice());
    return this.#next++;
  }

  read(handle: number, into: Uint8Array, from = 0): void {
    into.set(this.#blobs.get(handle)!.subarray(from, from + into.length));
  }

  free(handle: number): void {
    this.#blobs.delete(handle);
  }

  /** Blobs held. */
  get count(): number {
    return this.#blobs.size;
  }
}
