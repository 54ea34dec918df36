import type { Work } from './forward.ts';
import type { QueryRows } from './sense/sensor.ts';
import type { Workspace } from './workspace.ts';

/** Queries of a prompt's rows [first, first + rows) at one layer, copied out tile by tile. */
export class QueryRecord implements QueryRows {
  readonly address: number;
  readonly rows: number;
  readonly positions: Int32Array;
  readonly #workspace: Workspace;
  readonly #first: number;
  readonly #width: number;

  constructor(workspace: Workspace, first: number, rows: number) {
    this.#workspace = workspace;
    this.#first = first;
    this.#width = workspace.config.heads * workspace.config.headDim;
    this.rows = rows;
    this.positions = new Int32Array(rows);
    this.address = workspace.memory.alloc(rows * this.#width * 4);
  }

  /** @param q address of the tile's queries, whose first row is row `from` of the prompt; they have just been appended */
  take(q: number, from: number, { rows, sequence, positions }: Work, layer: number): void {
    const begin = Math.max(from, this.#first);
    const end = Math.min(from + rows, this.#first + this.rows);
    if (begin >= end) return;
    const { f32 } = this.#workspace.memory;
    const source = q / 4 + (begin - from) * this.#width;
    f32.copyWithin(
      this.address / 4 + (begin - this.#first) * this.#width,
      source,
      source + (end - begin) * this.#width,
    );
    const next = sequence.nextPosition(layer) - rows;
    for (let row = begin; row < end; row++)
      this.positions[row - this.#first] = positions ? positions[row - from]! : next + row - from;
  }

  dispose(): void {
    this.#workspace.memory.free(this.address, this.rows * this.#width * 4);
  }
}
