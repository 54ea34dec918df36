import type { InferenceSession, Tensor } from 'onnxruntime-web';
import { KvasirError } from '../../../errors.ts';
import type { ModelConfig } from '../../../model/types.ts';
import type { LogitBlock, RowBlock } from '../../types.ts';

type TensorClass = { Tensor: new (type: 'float32', data: Float32Array, dims: readonly number[]) => Tensor };
type Tensors = Record<string, Tensor>;

/** Runs a session, its results landing in the bytes of the tensors given as fetches. */
type Execute = (session: InferenceSession, feeds: Tensors, fetches: Tensors) => Promise<unknown>;

/** Feeds and results of one run over adjacent rows of a block. */
interface Run {
  readonly first: readonly [feeds: Tensors, fetches: Tensors];
  readonly middle: readonly [feeds: Tensors, fetches: Tensors];
  readonly last: readonly [feeds: Tensors, fetches: Tensors];
}

/**
 * Rows of a run. Up to here ONNX Runtime computes every row bit for bit as it would alone, and more rows are no faster:
 * so rows never depend on what shares their call, whether that was asked for or not.
 */
export const RUN_ROWS = 256;

/** Runs blocks through sessions that read and write the blocks' own bytes. Tensors are made once for each block. */
export class SegmentRunner {
  readonly #runtime: TensorClass;
  readonly #config: ModelConfig;
  readonly #segments: readonly InferenceSession[];
  readonly #head: InferenceSession;
  readonly #execute: Execute;
  readonly #runs = new WeakMap<RowBlock, Run[]>();
  readonly #logitRuns = new WeakMap<LogitBlock, (readonly [Tensors, Tensors])[]>();
  #disposed = false;

  constructor(
    runtime: TensorClass,
    config: ModelConfig,
    segments: readonly InferenceSession[],
    head: InferenceSession,
    execute: Execute,
  ) {
    this.#runtime = runtime;
    this.#config = config;
    this.#segments = segments;
    this.#head = head;
    this.#execute = execute;
  }

  async segment(layer: number, block: RowBlock): Promise<void> {
    const session = this.#segments[layer];
    if (session === undefined) throw new RangeError(`no segment ${layer}`);
    let runs = this.#runs.get(block);
    if (runs === undefined) {
      runs = this.#makeRuns(block);
      this.#runs.set(block, runs);
    }
    for (const run of runs) {
      const [feeds, fetches] = layer === 0 ? run.first : layer === this.#config.layers ? run.last : run.middle;
      await this.#run(session, feeds, fetches);
    }
  }

  async logits(block: LogitBlock): Promise<void> {
    let runs = this.#logitRuns.get(block);
    if (runs === undefined) {
      runs = this.#makeLogitRuns(block);
      this.#logitRuns.set(block, runs);
    }
    for (const [feeds, fetches] of runs) await this.#run(this.#head, feeds, fetches);
  }

  async dispose(): Promise<void> {
    this.#disposed = true;
    for (const session of [...this.#segments, this.#head]) await session.release();
  }

  async #run(session: InferenceSession, feeds: Tensors, fetches: Tensors): Promise<void> {
    if (this.#disposed) throw new KvasirError('disposed', 'The model was unloaded.');
    try {
      await this.#execute(session, feeds, fetches);
    } catch (error) {
      throw KvasirError.from(error);
    }
  }

  #makeRuns(block: RowBlock): Run[] {
    const { hidden, heads, kvHeads, headDim, qkNorm } = this.#config;
    const runs: Run[] = [];
    for (let from = 0; from < block.rows; from += RUN_ROWS) {
      const rows = Math.min(RUN_ROWS, block.rows - from);
      const tensor = (data: Float32Array, width: number) => this.#tensor(data, from, rows, width);
      // Per head, where norms made them so: the same bytes.
      const perHead = (data: Float32Array, count: number) =>
        qkNorm ? this.#tensor(data, from * count, rows * count, headDim) : tensor(data, count * headDim);
      const rowsIn = tensor(block.hidden, hidden);
      const feeds = { hidden: rowsIn, attention: tensor(block.attention, heads * headDim) };
      const qkv = { q: perHead(block.q, heads), k: perHead(block.k, kvHeads), v: tensor(block.v, kvHeads * headDim) };
      runs.push({
        first: [{ hidden: rowsIn }, qkv],
        middle: [feeds, { hidden_out: rowsIn, ...qkv }],
        last: [feeds, { hidden_out: rowsIn }],
      });
    }
    return runs;
  }

  #makeLogitRuns(block: LogitBlock): (readonly [Tensors, Tensors])[] {
    const { hidden, vocab } = this.#config;
    const runs: (readonly [Tensors, Tensors])[] = [];
    for (let from = 0; from < block.rows; from += RUN_ROWS) {
      const rows = Math.min(RUN_ROWS, block.rows - from);
      runs.push([
        { hidden: this.#tensor(block.hidden, from, rows, hidden) },
        { logits: this.#tensor(block.logits, from, rows, vocab) },
      ]);
    }
    return runs;
  }

  #tensor(data: Float32Array, from: number, rows: number, width: number): Tensor {
    return new this.#runtime.Tensor('float32', data.subarray(from * width, (from + rows) * width), [rows, width]);
  }
}
