import { KvasirError } from '../../errors.ts';
import type { Memory } from '../types.ts';
import { CHUNK_BYTES, Chunks } from './chunks.ts';
import { MAX_SLAB_BLOCK, Slabs } from './slabs.ts';

const WASM_PAGE = 65536;
const UNIT = 64;
/** Nothing is handed out below this address, so 0 can mean "none". */
const RESERVED = WASM_PAGE;
/** Address space of a wasm32 memory, less the last page: an address and a size always fit in 32 bits. */
export const MAX_ARENA_BYTES = 65535 * WASM_PAGE;
const MIN_GROWTH = 16 * CHUNK_BYTES;

export interface ArenaOptions {
  /** Most bytes of memory, 64 KiB .. 4 GiB - 64 KiB. */
  readonly limit: number;
  /** Several threads may see it. Default: where the platform has SharedArrayBuffer. */
  readonly shared?: boolean;
}

/**
 * A WASM memory with an allocator: blocks up to 512 KiB come from slabs of their exact size, larger ones are runs of
 * chunks; both take constant time but for the search among free runs. Half a million blocks cost no JavaScript objects.
 * `held` and `peak` count the blocks' own bytes, rounded up to 64; the memory itself never shrinks.
 */
export class Arena implements Memory {
  readonly memory: WebAssembly.Memory;
  readonly shared: boolean;
  readonly limit: number;
  u8!: Uint8Array;
  u16!: Uint16Array;
  i32!: Int32Array;
  u32!: Uint32Array;
  f32!: Float32Array;
  /** Blocks handed out so far: does not change while nothing is allocated. */
  allocations = 0;
  #held = 0;
  #peak = 0;
  readonly #chunks = new Chunks();
  readonly #slabs = new Slabs();
  /** One bit for each 64 bytes, set where a live block starts: a free of anything else is refused. */
  #live = new Uint32Array(0);

  constructor(options: ArenaOptions) {
    const { limit } = options;
    if (!(limit >= WASM_PAGE) || limit > MAX_ARENA_BYTES) {
      throw new KvasirError('invalid_request', `An arena of ${limit} bytes cannot be addressed`, {
        field: 'limit',
        value: limit,
        allowed: `${WASM_PAGE} to ${MAX_ARENA_BYTES}`,
      });
    }
    this.limit = limit;
    this.shared = options.shared ?? typeof SharedArrayBuffer !== 'undefined';
    this.memory = new WebAssembly.Memory({ initial: 1, maximum: 65536, shared: this.shared });
    this.#renew();
  }

  get buffer(): ArrayBufferLike {
    return this.memory.buffer;
  }

  get held(): number {
    return this.#held;
  }

  get peak(): number {
    return this.#peak;
  }

  /** Bytes of address space behind the blocks. */
  get footprint(): number {
    return this.u8.length;
  }

  alloc(bytes: number): number {
    const size = blockSize(bytes);
    let address: number;
    if (size > MAX_SLAB_BLOCK)
      address = RESERVED + this.#takeChunks(Math.ceil(size / CHUNK_BYTES), bytes) * CHUNK_BYTES;
    else {
      address = this.#slabs.take(size, RESERVED, this.u32);
      if (address === 0) {
        this.#slabs.add(size, this.#takeChunks(this.#slabs.chunksOf(size), bytes));
        address = this.#slabs.take(size, RESERVED, this.u32);
      }
    }
    const unit = address / UNIT;
    this.#live[unit >>> 5]! |= 1 << (unit & 31);
    this.allocations++;
    this.#held += size;
    if (this.#held > this.#peak) this.#peak = this.#held;
    return address;
  }

  free(address: number, bytes: number): void {
    const size = blockSize(bytes);
    const unit = address / UNIT;
    const live = Number.isInteger(unit) && ((this.#live[unit >>> 5] ?? 0) & (1 << (unit & 31))) !== 0;
    if (!live || !this.#fits(address, size)) {
      throw new KvasirError('backend_failed', `No block of ${bytes} bytes is held at ${address}`, {
        field: 'address',
        value: address,
      });
    }
    this.#live[unit >>> 5]! &= ~(1 << (unit & 31));
    this.#held -= size;
    if (size > MAX_SLAB_BLOCK) {
      this.#chunks.give((address - RESERVED) / CHUNK_BYTES, Math.ceil(size / CHUNK_BYTES));
      return;
    }
    const slab = this.#slabs.give(address, size, RESERVED, this.u32);
    if (slab >= 0) this.#chunks.give(slab, this.#slabs.chunksOf(size));
  }

  #fits(address: number, size: number): boolean {
    if (size <= MAX_SLAB_BLOCK) return this.#slabs.fits(address, size, RESERVED);
    const chunk = (address - RESERVED) / CHUNK_BYTES;
    return !this.#slabs.owns(chunk) && this.#chunks.holds(chunk, Math.ceil(size / CHUNK_BYTES));
  }

  #takeChunks(count: number, bytes: number): number {
    let at = this.#chunks.take(count);
    if (at >= 0) return at;
    this.#grow(count - this.#chunks.tail, bytes);
    at = this.#chunks.take(count);
    return at;
  }

  /** Grows by at least `chunks`, more where the limit leaves room: growing is slow, and replaces the views. */
  #grow(chunks: number, bytes: number): void {
    const had = this.#chunks.count * CHUNK_BYTES;
    const room = Math.floor((this.limit - RESERVED - had) / CHUNK_BYTES);
    const wanted = Math.max(chunks, Math.ceil(Math.max(MIN_GROWTH, had / 8) / CHUNK_BYTES));
    if (chunks > room || !(this.#tryGrow(Math.min(wanted, room)) || this.#tryGrow(chunks))) {
      throw new KvasirError(
        'memory_limit',
        `No room for ${bytes} bytes: ${this.#held} of at most ${this.limit} bytes are held`,
        { field: 'memoryLimit', value: this.limit },
      );
    }
  }

  #tryGrow(chunks: number): boolean {
    try {
      this.memory.grow((chunks * CHUNK_BYTES) / WASM_PAGE);
    } catch {
      return false;
    }
    this.#chunks.grow(chunks);
    this.#slabs.ensure(this.#chunks.count);
    const live = new Uint32Array((RESERVED + this.#chunks.count * CHUNK_BYTES) / UNIT / 32);
    live.set(this.#live);
    this.#live = live;
    this.#renew();
    return true;
  }

  #renew(): void {
    const { buffer } = this.memory;
    this.u8 = new Uint8Array(buffer);
    this.u16 = new Uint16Array(buffer);
    this.i32 = new Int32Array(buffer);
    this.u32 = new Uint32Array(buffer);
    this.f32 = new Float32Array(buffer);
  }
}

function blockSize(bytes: number): number {
  if (!Number.isSafeInteger(bytes) || bytes <= 0) {
    throw new KvasirError('backend_failed', `A block of ${bytes} bytes was asked for`, {
      field: 'bytes',
      value: bytes,
    });
  }
  return Math.ceil(bytes / UNIT) * UNIT;
}
