import type { LogitBlock, Memory, RowBlock } from '../backend/types.ts';
import type { ModelConfig } from '../model/types.ts';

/** A block of memory that grows when more is asked for; its content is not kept across a growth. */
export class Scratch {
  readonly #memory: Memory;
  address = 0;
  bytes = 0;

  constructor(memory: Memory) {
    this.#memory = memory;
  }

  ensure(bytes: number): number {
    if (bytes > this.bytes) {
      const grown = Math.max(bytes, this.bytes * 2, 1024);
      this.dispose();
      this.address = this.#memory.alloc(grown);
      this.bytes = grown;
    }
    return this.address;
  }

  dispose(): void {
    if (this.bytes > 0) this.#memory.free(this.address, this.bytes);
    this.address = 0;
    this.bytes = 0;
  }
}

/**
 * Hidden rows and attention results of rows on their way through the layers: [rows, hidden] and [rows, heads * headDim].
 * A prompt that goes layer by layer owns one for all its rows; everything else shares the workspace's.
 */
export class RowStore {
  readonly capacity: number;
  readonly hidden: number;
  readonly attention: number;
  readonly #memory: Memory;
  readonly #widths: readonly [hidden: number, attention: number];

  constructor(memory: Memory, config: ModelConfig, capacity: number) {
    this.#memory = memory;
    this.#widths = [config.hidden, config.heads * config.headDim];
    this.capacity = capacity;
    this.hidden = memory.alloc(capacity * this.#widths[0] * 4);
    try {
      this.attention = memory.alloc(capacity * this.#widths[1] * 4);
    } catch (error) {
      memory.free(this.hidden, capacity * this.#widths[0] * 4);
      throw error;
    }
  }

  dispose(): void {
    this.#memory.free(this.hidden, this.capacity * this.#widths[0] * 4);
    this.#memory.free(this.attention, this.capacity * this.#widths[1] * 4);
  }
}

/** Buffers of one model's forward pass, and the row blocks made over them (kept, so that a decode step makes none). */
export class Workspace {
  readonly memory: Memory;
  readonly config: ModelConfig;
  readonly tile: number;
  /** Rows of the shared store; the last layer's chosen rows go into `chosen`. */
  readonly rows: RowStore;
  readonly chosen: RowStore;
  readonly logits: number;
  readonly maxLogitRows: number;
  /** q, k, v of one tile. */
  readonly q: number;
  readonly k: number;
  readonly v: number;
  /** i32 [tile]: positions of the rows. */
  readonly positions: number;
  readonly items: Scratch;
  readonly merges: Scratch;
  readonly partials: Scratch;
  readonly turns: Scratch;
  readonly #blocks = new Map<RowStore, Map<number, RowBlock>>();
  readonly #logitBlocks = new Map<number, LogitBlock>();
  readonly #logitRows: Float32Array[] = [];
  /** Arrays and row blocks made over the memory so far: does not change in steady decode. */
  views = 0;

  constructor(memory: Memory, config: ModelConfig, tile: number, maxLogitRows: number) {
    this.memory = memory;
    this.config = config;
    this.tile = tile;
    this.maxLogitRows = maxLogitRows;
    this.rows = new RowStore(memory, config, tile);
    this.chosen = new RowStore(memory, config, maxLogitRows);
    this.q = memory.alloc(tile * config.heads * config.headDim * 4);
    this.k = memory.alloc(tile * config.kvHeads * config.headDim * 4);
    this.v = memory.alloc(tile * config.kvHeads * config.headDim * 4);
    this.positions = memory.alloc(tile * 4);
    this.logits = memory.alloc(maxLogitRows * config.vocab * 4);
    this.items = new Scratch(memory);
    this.merges = new Scratch(memory);
    this.partials = new Scratch(memory);
    this.turns = new Scratch(memory);
  }

  /** Rows [from, from + rows) of a store with the tile's q, k, v. */
  block(store: RowStore, from: number, rows: number): RowBlock {
    let blocks = this.#blocks.get(store);
    if (!blocks) {
      blocks = new Map();
      this.#blocks.set(store, blocks);
    }
    const key = from * (this.tile + 1) + rows;
    let block = blocks.get(key);
    // A memory that grew has a new buffer; arrays over the old one are stale.
    if (!block || block.hidden.buffer !== this.memory.buffer) {
      const { hidden, heads, kvHeads, headDim } = this.config;
      block = {
        rows,
        hidden: this.#floats(store.hidden + from * hidden * 4, rows * hidden),
        attention: this.#floats(store.attention + from * heads * headDim * 4, rows * heads * headDim),
        q: this.#floats(this.q, rows * heads * headDim),
        k: this.#floats(this.k, rows * kvHeads * headDim),
        v: this.#floats(this.v, rows * kvHeads * headDim),
      };
      blocks.set(key, block);
    }
    return block;
  }

  logitBlock(rows: number): LogitBlock {
    let block = this.#logitBlocks.get(rows);
    if (!block || block.hidden.buffer !== this.memory.buffer) {
      const { hidden, vocab } = this.config;
      block = {
        rows,
        hidden: this.#floats(this.chosen.hidden, rows * hidden),
        logits: this.#floats(this.logits, rows * vocab),
      };
      this.#logitBlocks.set(rows, block);
    }
    return block;
  }

  /** Logits [vocab] of one chosen row. */
  logitRow(row: number): Float32Array {
    let values = this.#logitRows[row];
    if (!values || values.buffer !== this.memory.buffer) {
      values = this.#floats(this.logits + row * this.config.vocab * 4, this.config.vocab);
      this.#logitRows[row] = values;
    }
    return values;
  }

  /** Copies a row's hidden state and attention result into row `to` of `chosen`. */
  choose(store: RowStore, from: number, to: number): void {
    const { hidden, heads, headDim } = this.config;
    copyRow(this.memory.f32, store.hidden, from, this.chosen.hidden, to, hidden);
    copyRow(this.memory.f32, store.attention, from, this.chosen.attention, to, heads * headDim);
  }

  /** Keeps the given rows of a store (ascending), moved to its start. */
  gather(store: RowStore, rows: Uint32Array): void {
    const { hidden, heads, headDim } = this.config;
    for (const [to, from] of rows.entries()) {
      copyRow(this.memory.f32, store.hidden, from, store.hidden, to, hidden);
      copyRow(this.memory.f32, store.attention, from, store.attention, to, heads * headDim);
    }
  }

  /** A store of one prompt is gone: drop the blocks made over it. */
  forget(store: RowStore): void {
    this.#blocks.delete(store);
  }

  dispose(): void {
    const { heads, kvHeads, headDim, vocab } = this.config;
    this.rows.dispose();
    this.chosen.dispose();
    this.memory.free(this.q, this.tile * heads * headDim * 4);
    this.memory.free(this.k, this.tile * kvHeads * headDim * 4);
    this.memory.free(this.v, this.tile * kvHeads * headDim * 4);
    this.memory.free(this.positions, this.tile * 4);
    this.memory.free(this.logits, this.maxLogitRows * vocab * 4);
    for (const scratch of [this.items, this.merges, this.partials, this.turns]) scratch.dispose();
    this.#blocks.clear();
    this.#logitBlocks.clear();
  }

  #floats(address: number, length: number): Float32Array {
    this.views++;
    return new Float32Array(this.memory.buffer, address, length);
  }
}

function copyRow(f32: Float32Array, from: number, fromRow: number, to: number, toRow: number, width: number): void {
  const start = from / 4 + fromRow * width;
  f32.copyWithin(to / 4 + toRow * width, start, start + width);
}
