/** What is measured on decoded rows of one view, block after block, in order of entries. */
export interface Meter {
  /** @param rows f32 [count][width], entries [first, first + count) */
  take(rows: Float32Array, first: number, count: number): void;
  readonly value: Float32Array;
}

/** L2 norm of each entry. */
export class Norms implements Meter {
  readonly value: Float32Array;
  readonly #width: number;

  constructor(entries: number, width: number) {
    this.value = new Float32Array(entries);
    this.#width = width;
  }

  take(rows: Float32Array, first: number, count: number): void {
    for (let i = 0; i < count; i++) this.value[first + i] = Math.sqrt(dot(rows, i, rows, i, this.#width));
  }
}

/** Cosine of entries i and i + 1. */
export class NeighbourCosines implements Meter {
  readonly value: Float32Array;
  readonly #last: Float32Array;

  constructor(entries: number, width: number) {
    this.value = new Float32Array(Math.max(0, entries - 1));
    this.#last = new Float32Array(width);
  }

  take(rows: Float32Array, first: number, count: number): void {
    const width = this.#last.length;
    if (first > 0) this.value[first - 1] = cosine(this.#last, 0, rows, 0, width);
    for (let i = 0; i + 1 < count; i++) this.value[first + i] = cosine(rows, i, rows, i + 1, width);
    this.#last.set(rows.subarray((count - 1) * width, count * width));
  }
}

/** Least and greatest value of each channel, minima first; of nothing: +Infinity and -Infinity. */
export class Ranges implements Meter {
  readonly value: Float32Array;
  readonly #width: number;

  constructor(width: number) {
    this.#width = width;
    this.value = new Float32Array(2 * width);
    this.value.fill(Number.POSITIVE_INFINITY, 0, width).fill(Number.NEGATIVE_INFINITY, width);
  }

  take(rows: Float32Array, _first: number, count: number): void {
    const width = this.#width;
    const { value } = this;
    for (let at = 0; at < count * width; ) {
      for (let c = 0; c < width; c++, at++) {
        const x = rows[at]!;
        if (x < value[c]!) value[c] = x;
        if (x > value[width + c]!) value[width + c] = x;
      }
    }
  }
}

/** Cosine of each entry with the same entry of another view. */
export class LayerCosines implements Meter {
  readonly value: Float32Array;
  readonly #width: number;
  readonly #other: (first: number, count: number) => Float32Array;

  /** @param other rows of the other view, valid until the next call */
  constructor(entries: number, width: number, other: (first: number, count: number) => Float32Array) {
    this.value = new Float32Array(entries);
    this.#width = width;
    this.#other = other;
  }

  take(rows: Float32Array, first: number, count: number): void {
    const other = this.#other(first, count);
    for (let i = 0; i < count; i++) this.value[first + i] = cosine(rows, i, other, i, this.#width);
  }
}

/** Squared Euclidean distances of pairs of entries; a pair is done when the later of its blocks comes. */
export class Distances implements Meter {
  readonly value: Float32Array;
  readonly #pairs: Uint32Array;
  readonly #width: number;
  readonly #rows: Float32Array;

  /** @param pairs a0, b0, a1, b1, ... */
  constructor(pairs: Uint32Array, entries: number, width: number) {
    this.value = new Float32Array(pairs.length / 2);
    this.#pairs = pairs;
    this.#width = width;
    this.#rows = new Float32Array(entries * width);
  }

  take(rows: Float32Array, first: number, count: number): void {
    const width = this.#width;
    this.#rows.set(rows, first * width);
    for (let i = 0; i < this.value.length; i++) {
      const a = this.#pairs[2 * i]!;
      const b = this.#pairs[2 * i + 1]!;
      const later = Math.max(a, b);
      if (later < first || later >= first + count) continue;
      let sum = 0;
      for (let c = 0; c < width; c++) sum += (this.#rows[a * width + c]! - this.#rows[b * width + c]!) ** 2;
      this.value[i] = sum;
    }
  }
}

/** 0 where a row is zero. */
function cosine(a: Float32Array, i: number, b: Float32Array, j: number, width: number): number {
  const norms = Math.sqrt(dot(a, i, a, i, width) * dot(b, j, b, j, width));
  return norms > 0 ? dot(a, i, b, j, width) / norms : 0;
}

function dot(a: Float32Array, i: number, b: Float32Array, j: number, width: number): number {
  let sum = 0;
  for (let c = 0, x = i * width, y = j * width; c < width; c++) sum += a[x + c]! * b[y + c]!;
  return sum;
}
