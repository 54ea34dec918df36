/** Where parked rows lie: outside the arena. Blobs are immutable. */
export interface ParkPlace {
  /** Keeps a copy of the bytes; the handle stays valid until `free`. May raise `backend_failed`. */
  write(bytes: Uint8Array): number;
  /** Fills `into` with all bytes of a blob. May raise `backend_failed`. */
  read(handle: number, into: Uint8Array): void;
  free(handle: number): void;
}

/** Ordinary memory. */
export class MemoryPlace implements ParkPlace {
  readonly #blobs = new Map<number, Uint8Array>();
  #next = 1;

  write(bytes: Uint8Array): number {
    this.#blobs.set(this.#next, bytes.slice());
    return this.#next++;
  }

  read(handle: number, into: Uint8Array): void {
    into.set(this.#blobs.get(handle)!);
  }

  free(handle: number): void {
    this.#blobs.delete(handle);
  }

  /** Blobs held. */
  get count(): number {
    return this.#blobs.size;
  }
}
