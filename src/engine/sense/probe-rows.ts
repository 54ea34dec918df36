import type { CacheSequence } from '../../cache/sequence.ts';
import type { Forward } from '../forward.ts';
import { QueryRecord } from '../query-record.ts';
import type { Work } from '../work.ts';
import { RowStore } from '../workspace.ts';

/**
 * Probe rows that go beside a prompt, layer by layer: at each layer they run as if they came next and are taken back at once, so
 * that all that is left of them is their queries there. Entries, positions and the bits of whatever the sequence computes next
 * are those of a prompt without a probe; at most one layer holds them, and only inside `layer`.
 */
export class ProbeRows {
  readonly #forward: Forward;
  readonly #sequence: CacheSequence;
  readonly #tokens: ArrayLike<number>;
  readonly #store: RowStore;

  private constructor(forward: Forward, sequence: CacheSequence, tokens: ArrayLike<number>) {
    this.#forward = forward;
    this.#sequence = sequence;
    this.#tokens = tokens;
    this.#store = new RowStore(forward.workspace.memory, forward.workspace.config, tokens.length);
  }

  /** @param tokens at least one */
  static async begin(forward: Forward, sequence: CacheSequence, tokens: ArrayLike<number>): Promise<ProbeRows> {
    const rows = new ProbeRows(forward, sequence, tokens);
    try {
      for (const work of rows.#tiles(0)) await forward.embed([work], rows.#store, work.from);
    } catch (error) {
      rows.dispose();
      throw error;
    }
    return rows;
  }

  /**
   * Runs the rows through a layer, in order: every layer once. The queries are the caller's to dispose. Raises `kv_cache_full`
   * where a layer has no room for the rows; the sequence is then as before.
   */
  async layer(layer: number): Promise<QueryRecord> {
    const { workspace } = this.#forward;
    const rows = this.#tokens.length;
    const numbers = Uint32Array.from({ length: rows }, (_, row) => row);
    const queries = new QueryRecord(workspace, numbers, rows);
    const { commit, undo } = slotOf(this.#sequence, layer);
    try {
      this.#sequence.prepareAppend(rows, undefined, layer, layer + 1);
      try {
        for (const work of this.#tiles(this.#sequence.nextPosition(layer))) {
          await this.#forward.layers([work], this.#store, work.from, layer, layer + 1);
          queries.take(workspace.q, work.from, work, layer);
        }
      } finally {
        // Where something failed, rows have not been written; they are taken back all the same.
        commit();
        undo();
      }
    } catch (error) {
      queries.dispose();
      throw error;
    }
    return queries;
  }

  dispose(): void {
    this.#forward.workspace.forget(this.#store);
    this.#store.dispose();
  }

  *#tiles(position: number): Iterable<Work> {
    const { tile } = this.#forward.workspace;
    const rows = this.#tokens.length;
    for (let from = 0; from < rows; from += tile) {
      yield {
        sequence: this.#sequence,
        tokens: this.#tokens,
        from,
        rows: Math.min(tile, rows - from),
        position: position + from,
        logits: 'none',
      };
    }
  }
}

function slotOf(sequence: CacheSequence, slot: number) {
  return {
    commit: () => sequence.commitAppend(slot),
    undo: () => sequence.undoAppend(slot, slot + 1),
  };
}
