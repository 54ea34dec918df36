/** Bytes of a chunk: what slabs and large blocks are made of. */
export const CHUNK_BYTES = 262144;

/**
 * Runs of adjacent chunks, free or taken, with boundary tags: the first and the last chunk of a run hold its length,
 * positive where taken, negative where free. Freeing joins neighbours in constant time; finding walks the runs by address
 * and starts at the lowest free one, so memory in use stays low and dense.
 */
export class Chunks {
  #tags = new Int32Array(64);
  #end = 0;
  /** No free run starts below this chunk. */
  #lowest = 0;

  /** Chunks that exist. */
  get count(): number {
    return this.#end;
  }

  /** First chunk of `length` adjacent ones, now taken; -1 where there is no such run. */
  take(length: number): number {
    let first = true;
    for (let at = this.#lowest; at < this.#end; ) {
      const tag = this.#tags[at]!;
      if (tag < 0) {
        if (first) this.#lowest = at;
        first = false;
        if (-tag >= length) {
          this.#mark(at, length, 1);
          if (-tag > length) this.#mark(at + length, -tag - length, -1);
          if (at === this.#lowest) this.#lowest = at + length;
          return at;
        }
        at -= tag;
      } else at += tag;
    }
    if (first) this.#lowest = this.#end;
    return -1;
  }

  /** Whether a taken run of this length starts here. */
  holds(at: number, length: number): boolean {
    return this.#tags[at] === length && this.#tags[at + length - 1] === length;
  }

  /** Gives a taken run back. */
  give(at: number, length: number): void {
    let from = at;
    let size = length;
    const before = from > 0 ? this.#tags[from - 1]! : 0;
    if (before < 0) {
      from += before;
      size -= before;
    }
    const after = at + length < this.#end ? this.#tags[at + length]! : 0;
    if (after < 0) size -= after;
    this.#mark(from, size, -1);
    if (from < this.#lowest) this.#lowest = from;
  }

  /** Length of the free run at the end: what a growth adds to. */
  get tail(): number {
    const tag = this.#end > 0 ? this.#tags[this.#end - 1]! : 0;
    return tag < 0 ? -tag : 0;
  }

  /** Adds free chunks at the end. */
  grow(length: number): void {
    const from = this.#end;
    this.#end += length;
    if (this.#end > this.#tags.length) {
      const tags = new Int32Array(Math.max(this.#end, this.#tags.length * 2));
      tags.set(this.#tags);
      this.#tags = tags;
    }
    this.#mark(from, length, 1);
    this.give(from, length);
  }

  #mark(at: number, length: number, sign: 1 | -1): void {
    this.#tags[at] = sign * length;
    this.#tags[at + length - 1] = sign * length;
  }
}
