import type { CacheSequence } from '../../cache/sequence.ts';
import type { Forward } from '../forward.ts';
import type { QueryRecord } from '../query-record.ts';
import { ProbeRows } from '../sense/probe-rows.ts';
import type { QueryRows } from '../sense/sensor.ts';

/** What the methods of a recipe run beside each chunk of a prompt. */
export class Probes {
  readonly #forward: Forward;
  readonly #sequence: CacheSequence;
  /** By part of the recipe: token ids. */
  readonly #texts: ReadonlyMap<number, ArrayLike<number>>;
  readonly #rows = new Map<number, ProbeRows>();

  constructor(forward: Forward, sequence: CacheSequence, texts: ReadonlyMap<number, ArrayLike<number>>) {
    this.#forward = forward;
    this.#sequence = sequence;
    this.#texts = texts;
  }

  /** A chunk begins: the rows start again. */
  async begin(): Promise<void> {
    this.dispose();
    for (const [part, tokens] of this.#texts)
      this.#rows.set(part, await ProbeRows.begin(this.#forward, this.#sequence, tokens));
  }

  /** Runs all of them through a layer whose rows of the chunk are in the cache; `use` sees their queries, by part. */
  async layer<T>(layer: number, use: (queries: ReadonlyMap<number, QueryRows>) => T): Promise<T> {
    const queries = new Map<number, QueryRecord>();
    try {
      for (const [part, rows] of this.#rows) queries.set(part, await rows.layer(layer));
      return use(queries);
    } finally {
      for (const record of queries.values()) record.dispose();
    }
  }

  dispose(): void {
    for (const rows of this.#rows.values()) rows.dispose();
    this.#rows.clear();
  }
}
