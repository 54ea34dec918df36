import type { QueryRows } from './sense/sensor.ts';
import type { Work } from './work.ts';
import type { Workspace } from './workspace.ts';

/** Queries of some rows of a prompt at one layer, copied out tile by tile. */
export class QueryRecord implements QueryRows {
  readonly address: number;
  readonly rows: number;
  readonly positions: Int32Array;
  readonly numbers: Uint32Array;
  readonly of: number;
  readonly #workspace: Workspace;
  readonly #width: number;
  #taken = 0;

  /**
   * @param numbers which rows of the prompt, ascending
   * @param of how many it has
   */
  constructor(workspace: Workspace, numbers: Uint32Array, of: number) {
    this.#workspace = workspace;
    this.#width = workspace.config.heads * workspace.config.headDim;
    this.numbers = numbers;
    this.of = of;
    this.rows = numbers.length;
    this.positions = new Int32Array(this.rows);
    this.address = workspace.memory.alloc(this.rows * this.#width * 4);
  }

  /**
   * Tiles come in order.
   * @param q address of the tile's queries, whose first row is row `from` of the prompt; they have just been appended
   */
  take(q: number, from: number, { rows, sequence, positions }: Work, layer: number): void {
    const { f32 } = this.#workspace.memory;
    const width = this.#width;
    const next = sequence.nextPosition(layer) - rows;
    for (; this.#taken < this.rows && this.numbers[this.#taken]! < from + rows; this.#taken++) {
      const row = this.numbers[this.#taken]! - from;
      const source = q / 4 + row * width;
      f32.copyWithin(this.address / 4 + this.#taken * width, source, source + width);
      this.positions[this.#taken] = positions ? positions[row]! : next + row;
    }
  }

  dispose(): void {
    this.#workspace.memory.free(this.address, this.rows * this.#width * 4);
  }
}
