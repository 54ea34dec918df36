/**
 * Entries that survive when they arrive one after the other at a part that holds `capacity` of them: block by block while
 * blocks fill, then one by one. Of blocks (entries) c and c + 1 the one with the lower mean score goes (equal: the
 * earlier), and c goes on cyclically.
 * @returns `entries`, ascending, min(capacity, entries) of them, and c as it stands then, of entries
 */
export function sweep(
  scores: Float32Array,
  capacity: number,
  block: number,
): { readonly entries: Uint32Array; readonly cursor: number } {
  const total = scores.length;
  if (total <= capacity) return { entries: Uint32Array.from({ length: total }, (_, i) => i), cursor: 0 };
  // Small parts are swept in smaller blocks: two at least must fit.
  const size = Math.max(1, Math.min(block, capacity >> 1));
  const whole = Math.floor(total / size);
  const means = Float64Array.from({ length: whole }, (_, b) => {
    let sum = 0;
    for (let i = b * size; i < (b + 1) * size; i++) sum += scores[i]!;
    return sum / size;
  });
  const slots = Math.ceil(capacity / size);
  const blocks = new Cyclic(slots);
  for (let b = 0; b < whole; b++) blocks.push(b, means);
  const entries = new Cyclic(capacity, (blocks.cursor * size) % capacity);
  for (const b of blocks.held) for (let i = b * size; i < (b + 1) * size; i++) entries.push(i, scores);
  for (let i = whole * size; i < total; i++) entries.push(i, scores);
  return { entries: Uint32Array.from(entries.held), cursor: entries.cursor };
}

/** Holds `capacity` items; one more, and the lower of two neighbours goes. */
class Cyclic {
  readonly held: number[] = [];
  readonly #capacity: number;
  cursor: number;

  constructor(capacity: number, cursor = 0) {
    this.#capacity = capacity;
    this.cursor = cursor;
  }

  push(item: number, scores: ArrayLike<number>): void {
    const { held, cursor } = this;
    held.push(item);
    if (held.length <= this.#capacity) return;
    held.splice(scores[held[cursor]!]! <= scores[held[cursor + 1]!]! ? cursor : cursor + 1, 1);
    this.cursor = (cursor + 1) % this.#capacity;
  }
}
