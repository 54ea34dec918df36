import { CHUNK_BYTES } from './chunks.ts';

/** Blocks above this size get runs of chunks of their own. */
export const MAX_SLAB_BLOCK = 524288;
const MAX_SLAB_CHUNKS = 16;
const UNIT = 64;

/** Chunks of a slab of blocks of `size` bytes: the fewest that waste at most a sixteenth. */
export function slabChunks(size: number): number {
  let best = 0;
  let leastWaste = 1;
  for (let chunks = 1; chunks <= MAX_SLAB_CHUNKS; chunks++) {
    const bytes = chunks * CHUNK_BYTES;
    const waste = (bytes % size) / bytes;
    if (bytes < size || waste >= leastWaste) continue;
    best = chunks;
    leastWaste = waste;
    if (waste <= 1 / 16) break;
  }
  return best;
}

/**
 * Slabs of equal blocks, one exact size (a multiple of 64 bytes) a class. A slab is named by its first chunk; all of its
 * state lies in typed arrays indexed by chunk, its free blocks are chained through their own first words.
 */
export class Slabs {
  /** First slab of a class that has a free block, -1 where none; indexed by size / 64. */
  readonly #open = new Int32Array(MAX_SLAB_BLOCK / UNIT + 1).fill(-1);
  readonly #chunks = new Uint8Array(MAX_SLAB_BLOCK / UNIT + 1);
  #next = new Int32Array(0);
  #previous = new Int32Array(0);
  #used = new Int32Array(0);
  /** Blocks ever handed out; those from here on were never touched. */
  #fresh = new Int32Array(0);
  /** Byte address of the first free block, 0 where none was given back. */
  #free = new Uint32Array(0);
  /** First chunk of the slab that a chunk belongs to, -1 where it belongs to none. */
  #slabOf = new Int32Array(0);
  /** Block size of the slab. */
  #size = new Int32Array(0);

  ensure(chunks: number): void {
    const length = this.#next.length;
    if (chunks <= length) return;
    const capacity = Math.max(64, chunks, length * 2);
    const wider = (from: Int32Array): Int32Array<ArrayBuffer> => {
      const to = new Int32Array(capacity).fill(-1, length);
      to.set(from);
      return to;
    };
    this.#next = wider(this.#next);
    this.#previous = wider(this.#previous);
    this.#used = wider(this.#used);
    this.#fresh = wider(this.#fresh);
    this.#slabOf = wider(this.#slabOf);
    this.#size = wider(this.#size);
    const free = new Uint32Array(capacity);
    free.set(this.#free);
    this.#free = free;
  }

  /** Chunks that a slab of this class takes. */
  chunksOf(size: number): number {
    const known = this.#chunks[size / UNIT]!;
    if (known > 0) return known;
    const chunks = slabChunks(size);
    this.#chunks[size / UNIT] = chunks;
    return chunks;
  }

  /** A free block, or 0 where a new slab is needed. */
  take(size: number, origin: number, words: Uint32Array): number {
    const slab = this.#open[size / UNIT]!;
    if (slab < 0) return 0;
    let address = this.#free[slab]!;
    if (address > 0) this.#free[slab] = words[address / 4]!;
    else address = origin + slab * CHUNK_BYTES + this.#fresh[slab]!++ * size;
    if (++this.#used[slab]! === this.#capacity(slab)) this.#unlink(slab);
    return address;
  }

  /** Makes the chunks from `slab` on a slab of this class. */
  add(size: number, slab: number): void {
    this.#size[slab] = size;
    this.#used[slab] = 0;
    this.#fresh[slab] = 0;
    this.#free[slab] = 0;
    this.#slabOf.fill(slab, slab, slab + this.chunksOf(size));
    this.#link(slab);
  }

  /** Whether a chunk belongs to a slab. */
  owns(chunk: number): boolean {
    return this.#slabOf[chunk]! >= 0;
  }

  /** Whether a block of this size may start at an address, by the slab that holds it. */
  fits(address: number, size: number, origin: number): boolean {
    const slab = this.#slabOf[Math.floor((address - origin) / CHUNK_BYTES)]!;
    if (slab < 0 || this.#size[slab] !== size) return false;
    return (address - origin - slab * CHUNK_BYTES) % size === 0;
  }

  /** Takes a block back; returns the slab where it is now empty and gone (its chunks are the caller's), else -1. */
  give(address: number, size: number, origin: number, words: Uint32Array): number {
    const slab = this.#slabOf[Math.floor((address - origin) / CHUNK_BYTES)]!;
    if (this.#used[slab] === this.#capacity(slab)) this.#link(slab);
    words[address / 4] = this.#free[slab]!;
    this.#free[slab] = address;
    if (--this.#used[slab]! > 0) return -1;
    this.#unlink(slab);
    this.#slabOf.fill(-1, slab, slab + this.chunksOf(size));
    return slab;
  }

  #capacity(slab: number): number {
    const size = this.#size[slab]!;
    return Math.floor((this.chunksOf(size) * CHUNK_BYTES) / size);
  }

  #link(slab: number): void {
    const kind = this.#size[slab]! / UNIT;
    const head = this.#open[kind]!;
    this.#next[slab] = head;
    this.#previous[slab] = -1;
    if (head >= 0) this.#previous[head] = slab;
    this.#open[kind] = slab;
  }

  #unlink(slab: number): void {
    const next = this.#next[slab]!;
    const previous = this.#previous[slab]!;
    if (next >= 0) this.#previous[next] = previous;
    if (previous >= 0) this.#next[previous] = next;
    else this.#open[this.#size[slab]! / UNIT] = next;
  }
}
