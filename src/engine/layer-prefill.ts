import type { CacheSequence } from '../cache/sequence.ts';
import type { Forward, LogitSink, Work } from './forward.ts';
import { RowStore } from './workspace.ts';

/**
 * A prompt that goes layer by layer: all its rows through layer l in tiles, then through layer l + 1. Each `next` is one
 * unit (a tile, one layer), so that other requests' steps fit in between. Holds the hidden rows of the whole prompt.
 */
export class LayerPrefill {
  readonly #forward: Forward;
  readonly #sequence: CacheSequence;
  readonly #tokens: ArrayLike<number>;
  readonly #start: number;
  readonly #rows: number;
  readonly #tile: number;
  readonly #layers: number;
  #store: RowStore | null = null;
  #layer = 0;
  #done = 0;

  /** Runs tokens [start, tokens.length), whose positions are their indices. */
  constructor(forward: Forward, sequence: CacheSequence, tokens: ArrayLike<number>, start: number) {
    this.#forward = forward;
    this.#sequence = sequence;
    this.#tokens = tokens;
    this.#start = start;
    this.#rows = tokens.length - start;
    this.#tile = forward.workspace.tile;
    this.#layers = forward.workspace.config.layers;
  }

  /** Runs one unit; true when the last layer's attention is done for all rows. */
  async next(): Promise<boolean> {
    this.#store ??= await this.#embed();
    const work = this.#work(this.#done, Math.min(this.#tile, this.#rows - this.#done), 'none');
    this.#sequence.prepareAppend(work.rows, undefined, this.#layer, this.#layer + 1);
    await this.#forward.layers([work], this.#store, this.#done, this.#layer, this.#layer + 1);
    this.#done += work.rows;
    if (this.#done === this.#rows) {
      this.#done = 0;
      this.#layer++;
    }
    return this.#layer === this.#layers;
  }

  /** Logits of the last row, or of all. */
  async finish(logits: 'last' | 'all', sink: LogitSink): Promise<void> {
    const from = logits === 'last' ? this.#rows - 1 : 0;
    await this.#forward.finish([this.#work(from, this.#rows - from, logits)], this.#store!, from, sink);
    this.dispose();
  }

  dispose(): void {
    if (!this.#store) return;
    this.#forward.workspace.forget(this.#store);
    this.#store.dispose();
    this.#store = null;
  }

  async #embed(): Promise<RowStore> {
    const { memory, config } = this.#forward.workspace;
    const store = new RowStore(memory, config, this.#rows);
    for (let from = 0; from < this.#rows; from += this.#tile)
      await this.#forward.embed([this.#work(from, Math.min(this.#tile, this.#rows - from), 'none')], store, from);
    return store;
  }

  #work(from: number, rows: number, logits: Work['logits']): Work {
    const at = this.#start + from;
    return { sequence: this.#sequence, tokens: this.#tokens, from: at, rows, position: at, logits };
  }
}
