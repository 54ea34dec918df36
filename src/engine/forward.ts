import { APPEND_BYTES, KIND_APPEND, PAGE_TOKENS } from '../../kernels/abi.ts';
import type { DenseModel, Kernels } from '../backend/types.ts';
import type { ModelConfig } from '../model/types.ts';
import { Attention } from './attention.ts';
import type { RunContext } from './program/run.ts';
import { RotaryTable } from './rotary.ts';
import { Sensor } from './sense/sensor.ts';
import { countRows, type LogitSink, type Work, type WorkFailure } from './work.ts';
import { type RowStore, Workspace } from './workspace.ts';

const MAX_LOGIT_ROWS = 32;

/**
 * The forward pass of one model. Its unit of work is (rows, range of layers): rows of any works go through any range of
 * layers in one call, their state between calls being `hidden` and `attention` in a row store.
 */
export class Forward {
  readonly workspace: Workspace;
  readonly #dense: DenseModel;
  readonly #kernels: Kernels;
  readonly #config: ModelConfig;
  readonly ropes: readonly RotaryTable[];
  readonly sensor: Sensor;
  readonly #attention: Attention;
  readonly #ids: Int32Array;
  /** The first `rows` ids, kept by `rows`. */
  readonly #idsOf = new Map<number, Int32Array>();
  /** Works at a layer whose hooks have failed there, until they are taken out. */
  readonly #failures = new Map<Work, unknown>();

  constructor(dense: DenseModel, kernels: Kernels, options: { tile: number; deterministic: boolean }) {
    this.#dense = dense;
    this.#kernels = kernels;
    this.#config = dense.config;
    this.workspace = new Workspace(kernels.memory, dense.config, options.tile, Math.min(MAX_LOGIT_ROWS, options.tile));
    this.ropes = dense.config.ropes.map(rope => new RotaryTable(rope, kernels.memory));
    this.sensor = new Sensor(kernels, dense.config, this.ropes, options.deterministic);
    this.#attention = new Attention(kernels, this.workspace, this.ropes, options.deterministic);
    this.#ids = new Int32Array(options.tile);
  }

  /** What a recipe at work borrows. */
  get recipes(): RunContext {
    return { sensor: this.sensor, ropes: this.ropes, config: this.#config };
  }

  /** Embeds the works' tokens into rows [from, ...) of the store. */
  async embed(works: readonly Pick<Work, 'tokens' | 'from' | 'rows'>[], store: RowStore, from: number): Promise<void> {
    let row = 0;
    for (const work of works) for (let i = 0; i < work.rows; i++) this.#ids[row++] = work.tokens[work.from + i]!;
    let ids = this.#idsOf.get(row);
    if (!ids) {
      ids = this.#ids.subarray(0, row);
      this.#idsOf.set(row, ids);
    }
    await this.#dense.embed(ids, this.workspace.block(store, from, row).hidden);
  }

  /**
   * Runs rows [from, ...) of the store through the attentions of layers [first, last). Space for the rows must have been
   * prepared in each sequence for those slots; it is committed here, layer by layer. Works whose hooks fail are handed to
   * `failed` and their rows leave the store; without it their error is raised.
   * @returns the works that are left, their rows side by side in their order
   */
  async layers(
    works: readonly Work[],
    store: RowStore,
    from: number,
    first: number,
    last: number,
    failed: WorkFailure = raise,
  ): Promise<readonly Work[]> {
    for (const table of this.ropes) table.ensure(lastPosition(works) + 1);
    this.#attention.begin();
    this.#failures.clear();
    let left = works;
    for (let layer = first; layer < last; layer++) {
      for (const work of left) if (work.hooks) this.#try(work, () => prepareRows(work, layer));
      left = this.#withoutFailed(left, store, from, failed);
      if (left.length === 0) break;
      await this.#project(left, store, from, layer);
      this.#ask(left, layer, 'beforeAttention');
      // Rows of works that have just failed are computed once more, over all entries, and thrown away.
      const reading = this.#failures.size === 0 ? left : left.map(work => this.#withoutHooks(work));
      this.#attention.run(reading, layer, store, from);
      this.#ask(left, layer, 'afterAttention');
      left = this.#withoutFailed(left, store, from, failed);
    }
    return left;
  }

  /** The first half of `layers` for one layer: its rows are appended, their queries lie in the workspace. */
  async project(works: readonly Work[], store: RowStore, from: number, layer: number): Promise<void> {
    for (const table of this.ropes) table.ensure(lastPosition(works) + 1);
    this.#attention.begin();
    await this.#project(works, store, from, layer);
  }

  /** The second half, for works whose `positions` are given and whose queries lie in the workspace again. */
  attend(works: readonly Work[], store: RowStore, from: number, layer: number): void {
    this.#attention.begin();
    this.#attention.place(works, layer);
    this.#attention.run(works, layer, store, from);
  }

  async #project(works: readonly Work[], store: RowStore, from: number, layer: number): Promise<void> {
    const block = this.workspace.block(store, from, countRows(works));
    await this.#dense.segment(layer, block);
    this.#attention.place(works, layer);
    this.#append(works, layer);
  }

  #ask(works: readonly Work[], layer: number, when: 'beforeAttention' | 'afterAttention'): void {
    let row = 0;
    for (const work of works) {
      const { hooks, sequence, rows } = work;
      if (hooks && !this.#failures.has(work)) {
        const query = { address: this.workspace.q, row: row + rows - 1, position: sequence.nextPosition(layer) - 1 };
        this.#try(work, () => hooks[when](layer, query));
      }
      row += rows;
    }
  }

  #try(work: Work, run: () => void): void {
    try {
      run();
    } catch (error) {
      this.#failures.set(work, error);
    }
  }

  #withoutHooks(work: Work): Work {
    if (!this.#failures.has(work)) return work;
    const { hooks: _, ...rest } = work;
    return rest;
  }

  /** Hands out the works that have failed; the others' rows move together in the store. */
  #withoutFailed(works: readonly Work[], store: RowStore, from: number, failed: WorkFailure): readonly Work[] {
    if (this.#failures.size === 0) return works;
    const failures = [...this.#failures];
    this.#failures.clear();
    for (const [work, error] of failures) failed(work, error);
    const lost = new Set(failures.map(([work]) => work));
    const kept = Array.from({ length: from }, (_, row) => row);
    let row = from;
    for (const work of works) {
      if (!lost.has(work)) for (let i = 0; i < work.rows; i++) kept.push(row + i);
      row += work.rows;
    }
    this.workspace.gather(store, Uint32Array.from(kept));
    this.#attention.begin();
    return works.filter(work => !lost.has(work));
  }

  /** Finishes the last layer for the rows that want logits, and hands the logits out. */
  async finish(works: readonly Work[], store: RowStore, from: number, sink: LogitSink): Promise<void> {
    const chosen: { work: Work; row: number }[] = [];
    let start = from;
    for (const work of works) {
      const firstRow = work.logits === 'none' ? work.rows : work.logits === 'last' ? work.rows - 1 : 0;
      for (let row = firstRow; row < work.rows; row++) {
        this.workspace.choose(store, start + row, chosen.length);
        chosen.push({ work, row });
        if (chosen.length === this.workspace.maxLogitRows) await this.#emit(chosen, sink);
      }
      start += work.rows;
    }
    if (chosen.length > 0) await this.#emit(chosen, sink);
  }

  /** All layers for works that fit one tile: the token-major step. `failed` as in `layers`; no logits come of such works. */
  async step(works: readonly Work[], sink: LogitSink, failed?: WorkFailure): Promise<void> {
    const store = this.workspace.rows;
    await this.embed(works, store, 0);
    const left = await this.layers(works, store, 0, 0, this.#config.layers, failed);
    await this.finish(left, store, 0, sink);
  }

  dispose(): void {
    this.workspace.dispose();
    this.#attention.dispose();
    this.sensor.dispose();
    for (const table of this.ropes) table.dispose();
  }

  async #emit(chosen: { work: Work; row: number }[], sink: LogitSink): Promise<void> {
    const block = this.workspace.block(this.workspace.chosen, 0, chosen.length);
    await this.#dense.segment(this.#config.layers, block);
    await this.#dense.logits(this.workspace.logitBlock(chosen.length));
    for (const [i, { work, row }] of chosen.entries()) sink(work, row, this.workspace.logitRow(i));
    chosen.length = 0;
  }

  #append(works: readonly Work[], slot: number): void {
    const { kvHeads, headDim } = this.#config;
    const { items, k, v } = this.workspace;
    let most = 0;
    for (const work of works) most += kvHeads * (Math.ceil(work.rows / PAGE_TOKENS) + 1);
    const address = items.ensure(most * APPEND_BYTES);
    const stride = kvHeads * headDim;
    let count = 0;
    let row = 0;
    for (const [n, work] of works.entries()) {
      count += work.sequence.writeAppendItems(
        slot,
        address + count * APPEND_BYTES,
        k + row * stride * 4,
        v + row * stride * 4,
        stride,
        this.#attention.turnOf(n, slot),
        work.rows,
      );
      row += work.rows;
    }
    this.#kernels.run(KIND_APPEND, address, count);
    for (const work of works) work.sequence.commitAppend(slot, work.rows);
  }
}

function prepareRows({ sequence, rows, positions }: Work, layer: number): void {
  sequence.prepareAppend(rows, positions, layer, layer + 1);
}

function raise(_work: Work, error: unknown): never {
  throw error;
}

/** The greatest position for which a query may be turned, shifts included. */
function lastPosition(works: readonly Work[]): number {
  let last = 0;
  for (const { sequence, positions, rows } of works) {
    let least = 0;
    for (const shift of sequence.shifts()) least = Math.min(least, shift);
    const greatest = positions ? positions[rows - 1]! + 1 : sequence.position + rows;
    last = Math.max(last, greatest - least);
  }
  return last;
}
