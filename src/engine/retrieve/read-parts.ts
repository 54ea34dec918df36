import type { CacheSequence } from '../../cache/sequence.ts';
import type { RetrieveRule } from '../../methods/types.ts';

/** What is read of each view of the layer at work, where that is not all. */
export class ReadParts {
  readonly #sequence: CacheSequence;
  /** By KV head. `pieces` of fetched entries, else ranges. */
  readonly #parts: { pieces: boolean; values: Uint32Array; count: number }[];
  /** The layer that #parts is about; -1: none. */
  #layer = -1;

  constructor(sequence: CacheSequence, kvHeads: number) {
    this.#sequence = sequence;
    this.#parts = Array.from({ length: kvHeads }, () => ({ pieces: false, values: new Uint32Array(), count: 0 }));
  }

  /** Everything resident is read. */
  clear(): void {
    this.#layer = -1;
  }

  /** Is only a part of the layer's views to be read now? */
  has(layer: number): boolean {
    return this.#layer === layer;
  }

  /**
   * What is chosen becomes what is read.
   * @param rows how many rows at the end of the views are asking: they are read
   */
  show(layer: number, rule: RetrieveRule, chosen: readonly Uint32Array[], rows: number): void {
    if (rule.units === 'parked') {
      // Without others beside them, the chosen units are all that is resident.
      if (!rule.resident) return;
      for (const [head, part] of this.#parts.entries()) {
        part.pieces = true;
        part.values = chosen[head]!;
        part.count = part.values.length;
      }
    } else {
      const { size } = rule.units;
      for (const [head, part] of this.#parts.entries()) {
        part.pieces = false;
        const entries = this.#sequence.entries(layer, head);
        const runs = Math.floor((entries - rows) / size);
        part.values = rangesOf(chosen[head]!, size, runs, entries);
        part.count = part.values.length / 2;
      }
    }
    this.#layer = layer;
  }

  /** Writes the REF records of what is read of a view; see CacheSequence.writePieces. */
  writeRefs(layer: number, head: number, address: number): number {
    const { pieces, values, count } = this.#parts[head]!;
    return pieces
      ? this.#sequence.writePieces(layer, head, values, count, address)
      : this.#sequence.writeRanges(layer, head, values, count, address);
  }

  /** Adds the entries of a layer that are read, and that could be. */
  count(layer: number, counts: { read: number; readable: number }): void {
    for (let head = 0; head < this.#parts.length; head++) {
      const entries = this.#sequence.entries(layer, head);
      const { pieces, values, count } = this.#parts[head]!;
      let read = entries;
      if (this.#layer === layer && !pieces) {
        read = 0;
        for (let n = 0; n < count; n++) read += values[2 * n + 1]! - values[2 * n]!;
      }
      counts.read += read;
      counts.readable += entries;
    }
  }
}

/** Pairs (from, to) of the chosen ones of `runs` runs and of what comes after them. */
function rangesOf(chosen: Uint32Array, size: number, runs: number, entries: number): Uint32Array {
  const pairs: number[] = [];
  const add = (from: number, to: number) => {
    if (pairs.at(-1) === from) pairs[pairs.length - 1] = to;
    else pairs.push(from, to);
  };
  for (const run of chosen) if (run < runs) add(run * size, (run + 1) * size);
  if (runs * size < entries) add(runs * size, entries);
  return Uint32Array.from(pairs);
}
