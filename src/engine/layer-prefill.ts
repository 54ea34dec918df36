import type { CacheSequence } from '../cache/sequence.ts';
import { KvasirError } from '../errors.ts';
import type { Forward } from './forward.ts';
import type { Probes } from './program/probes.ts';
import type { Run } from './program/run.ts';
import { QueryRecord } from './query-record.ts';
import type { QueryRows } from './sense/sensor.ts';
import type { LogitSink, Work } from './work.ts';
import { RowStore } from './workspace.ts';

/**
 * A prompt that goes layer by layer: all its rows through layer l in tiles, then, where a recipe is at work, its decisions
 * about layer l, then layer l + 1. Each `next` is one unit (a tile, one layer), so that other requests' steps fit in between.
 * Holds the hidden rows of the whole prompt, or of a chunk of it where the recipe asks for chunks.
 */
export class LayerPrefill {
  readonly #forward: Forward;
  readonly #sequence: CacheSequence;
  readonly #tokens: ArrayLike<number>;
  readonly #run: Run | null;
  readonly #tile: number;
  readonly #layers: number;
  #queries: QueryRecord | null = null;
  /** Queries of all rows, where what they read is chosen before any of them reads; then tiles are projected first, then attended. */
  #probe: QueryRecord | null = null;
  #phase: 'both' | 'project' | 'attend' = 'both';
  /** Texts of the recipe's methods that run beside the prompt; undefined: they have not been asked. */
  #probes: Probes | null | undefined;
  #store: RowStore | null = null;
  /** Tokens [start, end) are the chunk at work. */
  #start: number;
  #end: number;
  /** Rows of the chunk that are still on their way, and their positions where some were dropped. */
  #rows = 0;
  #positions: Int32Array | null = null;
  #layer = 0;
  #done = 0;

  /** Runs tokens [start, tokens.length) of the sequence, of which all before are in the cache. */
  constructor(
    forward: Forward,
    sequence: CacheSequence,
    tokens: ArrayLike<number>,
    start: number,
    run: Run | null = null,
  ) {
    this.#forward = forward;
    this.#sequence = sequence;
    this.#tokens = tokens;
    this.#run = run;
    this.#start = start;
    this.#end = start;
    this.#tile = forward.workspace.tile;
    this.#layers = forward.workspace.config.layers;
  }

  /** Runs one unit; true when the last layer's attention is done for all rows. */
  async next(): Promise<boolean> {
    this.#store ??= await this.#beginChunk();
    if (this.#done === 0 && this.#phase !== 'attend') this.#record();
    const work = this.#work(this.#done, this.#nextRows(), 'none');
    if (this.#phase === 'attend') this.#attend(work, this.#store);
    else {
      this.#sequence.prepareAppend(work.rows, work.positions, this.#layer, this.#layer + 1);
      if (this.#phase === 'both')
        await this.#forward.layers([work], this.#store, this.#done, this.#layer, this.#layer + 1);
      else await this.#forward.project([work], this.#store, this.#done, this.#layer);
      for (const record of [this.#queries, this.#probe])
        record?.take(this.#forward.workspace.q, this.#done, work, this.#layer);
    }
    this.#done += work.rows;
    if (this.#done < this.#rows) return false;
    if (this.#phase === 'project') {
      this.#done = 0;
      this.#phase = 'attend';
      return false;
    }
    this.#endProbe();
    const store = this.#store;
    if (this.#probes) await this.#probes.layer(this.#layer, queries => this.#settle(store, queries));
    else this.#settle(store);
    this.#done = 0;
    this.#layer++;
    if (this.#layer < this.#layers) return false;
    if (this.#end === this.#tokens.length) {
      this.#run?.endPrompt();
      return true;
    }
    this.#dropStore();
    this.#probes?.dispose();
    return false;
  }

  /** Of all units, the share that has been run; before the first token's logits at most 1. */
  get fraction(): number {
    const inLayer = this.#rows === 0 ? 0 : this.#done / this.#rows;
    const inChunk = Math.min(1, (this.#layer + inLayer) / this.#layers);
    return (this.#start + (this.#end - this.#start) * inChunk) / this.#tokens.length;
  }

  /** Logits of the last row, or of all. */
  async finish(logits: 'last' | 'all', sink: LogitSink): Promise<void> {
    if (logits === 'all' && (this.#positions || Number.isFinite(this.#run?.program.chunk ?? Number.POSITIVE_INFINITY)))
      throw new KvasirError('unsupported', 'only the last row of this prompt has logits: others were dropped', {
        field: 'kv',
        value: this.#run?.program.text,
        allowed: 'a recipe that runs all rows of a prompt through all layers at once',
      });
    const from = logits === 'last' ? this.#rows - 1 : 0;
    const at = logits === 'last' ? this.#tokens.length - 1 : this.#start;
    const work = { ...this.#work(from, this.#rows - from, logits), from: at, position: at };
    await this.#forward.finish([work], this.#store!, from, sink);
    this.dispose();
  }

  dispose(): void {
    this.#queries?.dispose();
    this.#queries = null;
    this.#endProbe();
    this.#probes?.dispose();
    this.#dropStore();
  }

  #dropStore(): void {
    if (!this.#store) return;
    this.#forward.workspace.forget(this.#store);
    this.#store.dispose();
    this.#store = null;
  }

  async #beginChunk(): Promise<RowStore> {
    const { memory, config } = this.#forward.workspace;
    this.#start = this.#end;
    this.#end = Math.min(this.#tokens.length, this.#start + (this.#run?.program.chunk ?? Number.POSITIVE_INFINITY));
    this.#rows = this.#end - this.#start;
    this.#positions = null;
    this.#layer = 0;
    if (this.#probes === undefined)
      this.#probes = (await this.#run?.probes(this.#forward, this.#tokens, this.#start)) ?? null;
    await this.#probes?.begin();
    this.#run?.beginChunk(this.#rows);
    const store = new RowStore(memory, config, this.#rows);
    for (let from = 0; from < this.#rows; from += this.#tile)
      await this.#forward.embed([this.#work(from, Math.min(this.#tile, this.#rows - from), 'none')], store, from);
    return store;
  }

  /** Keeps the queries of those rows of the chunk that a method will ask about. */
  #record(): void {
    const asked = this.#run?.queryRows(this.#layer, this.#rows);
    this.#queries?.dispose();
    this.#queries = asked && asked.length > 0 ? new QueryRecord(this.#forward.workspace, asked, this.#rows) : null;
    if (!this.#run?.retrieval?.asksPrompt(this.#layer)) return;
    const all = Uint32Array.from({ length: this.#rows }, (_, row) => row);
    this.#probe = new QueryRecord(this.#forward.workspace, all, this.#rows);
    this.#phase = 'project';
  }

  /** Rows of the next unit: a tile, or what is left of a window of rows that read the same. */
  #nextRows(): number {
    const rows = Math.min(this.#tile, this.#rows - this.#done);
    if (this.#phase !== 'attend') return rows;
    const window = this.#run!.retrieval!.promptWindow(this.#layer);
    return Math.min(rows, window - (this.#done % window));
  }

  /** All rows of the chunk are projected: where a window of them begins, what it reads of the layer is chosen. */
  #choose(width: number): void {
    const { retrieval } = this.#run!;
    const window = retrieval!.promptWindow(this.#layer);
    const first = this.#done;
    if (first % window !== 0) return;
    const { address, positions } = this.#probe!;
    const rows = Math.min(window, this.#rows - first);
    const queries = { address: address + first * width * 4, rows, position: (row: number) => positions[first + row]! };
    retrieval!.prompt(this.#layer, queries, this.#rows);
  }

  #attend(work: Work, store: RowStore): void {
    const { q, memory, config } = this.#forward.workspace;
    const width = config.heads * config.headDim;
    this.#choose(width);
    const { address, positions } = this.#probe!;
    const from = address / 4 + this.#done * width;
    memory.f32.copyWithin(q / 4, from, from + work.rows * width);
    const here = positions.subarray(this.#done, this.#done + work.rows);
    this.#forward.attend([{ ...work, positions: here, reads: this.#run! }], store, this.#done, this.#layer);
  }

  #endProbe(): void {
    this.#probe?.dispose();
    this.#probe = null;
    this.#phase = 'both';
    this.#run?.retrieval?.readAll();
  }

  #settle(store: RowStore, probes?: ReadonlyMap<number, QueryRows>): void {
    if (!this.#run) return;
    const first = this.#sequence.nextPosition(this.#layer) - this.#rows;
    const positions = this.#positions;
    const kept = this.#run.settle(this.#layer, {
      queries: this.#queries,
      hidden: { address: store.hidden, rows: this.#rows, position: row => positions?.[row] ?? first + row },
      rows: this.#rows,
      last: this.#end === this.#tokens.length,
      ...(probes && { probes }),
    });
    if (!kept || kept.length === this.#rows) return;
    this.#positions = this.#positionsOf(kept);
    this.#forward.workspace.gather(store, kept);
    this.#rows = kept.length;
  }

  /** Positions of some of the rows: every slot has taken the same ones so far, this layer's all of them. */
  #positionsOf(rows: Uint32Array): Int32Array {
    const last = this.#sequence.nextPosition(this.#layer);
    return Int32Array.from(rows, row => this.#positions?.[row] ?? last - this.#rows + row);
  }

  #work(from: number, rows: number, logits: Work['logits']): Work {
    const at = this.#start + from;
    const positions = this.#positions?.subarray(from, from + rows);
    return {
      sequence: this.#sequence,
      tokens: this.#tokens,
      from: at,
      rows,
      position: at,
      logits,
      ...(positions && { positions }),
    };
  }
}
