import type { ModelConfig, ModelFile } from '../model/types.ts';

/**
 * Where arithmetic runs. A decoder is cut at attention: `Dense` runs the token-wise part (any rows, any mix of
 * sequences), `Kernels` run attention and everything that touches cache pages.
 */

/** Bytes that kernels and dense providers share: one (shared, where threads are available) WASM memory. */
export interface Memory {
  readonly buffer: ArrayBufferLike;
  readonly u8: Uint8Array;
  readonly u16: Uint16Array;
  readonly i32: Int32Array;
  readonly u32: Uint32Array;
  readonly f32: Float32Array;
  /** 64-byte aligned block, not cleared; raises `memory_limit` when the memory cannot grow. The views above may be replaced by a call (read them anew). */
  alloc(bytes: number): number;
  free(address: number, bytes: number): void;
  /** Bytes handed out now, and the most ever. */
  readonly held: number;
  readonly peak: number;
}

/** `exact`: dequantized f32 weights. `fast`: n-bit weights, activations in two 8-bit parts. */
export type NumericMode = 'exact' | 'fast';

export interface DenseOptions {
  mode: NumericMode;
  threads: number;
  /** Bit-equal results whatever rows share a call: no run of more than 256 rows, no level that depends on the shape. */
  deterministic: boolean;
  /** Folder for repacked weights; absent in a browser. */
  cacheDir?: string;
  onProgress?: (fraction: number, what: string) => void;
}

/** Rows that go through a segment together. All arrays lie in `Memory`, row-major; the object is reused between calls. */
export interface RowBlock {
  readonly rows: number;
  /** [rows, hidden], read and overwritten. */
  readonly hidden: Float32Array;
  /** [rows, heads * headDim], result of attention at the layer before. */
  readonly attention: Float32Array;
  /** [rows, heads * headDim], [rows, kvHeads * headDim] twice: before RoPE, q/k norms applied. */
  readonly q: Float32Array;
  readonly k: Float32Array;
  readonly v: Float32Array;
}

export interface LogitBlock {
  readonly rows: number;
  /** [rows, hidden], output of the last layer, before the final norm; not changed. */
  readonly hidden: Float32Array;
  /** [rows, vocab] */
  readonly logits: Float32Array;
}

/** The token-wise part of one loaded model. */
export interface DenseModel {
  readonly config: ModelConfig;
  readonly provider: string;
  /** Bytes of weights held in memory. */
  readonly bytes: number;
  /** Embedding rows of ids (scaled as the architecture asks) into out[rows, hidden]. */
  embed(ids: Int32Array, out: Float32Array): Promise<void>;
  /**
   * The part between two attentions. layer 0: q, k, v of layer 0 from hidden (not changed). 0 < layer < layers: finishes
   * layer - 1 from (hidden, attention), writes hidden, q, k, v of `layer`. layer = layers: finishes the last layer, writes hidden.
   */
  segment(layer: number, block: RowBlock): Promise<void>;
  logits(block: LogitBlock): Promise<void>;
  dispose(): Promise<void>;
}

export interface DenseProvider {
  readonly name: string;
  load(file: ModelFile, memory: Memory, options: DenseOptions): Promise<DenseModel>;
}

/** Runs lists of kernel records (kernels/abi.ts) and returns when all are done. */
export interface Kernels {
  readonly memory: Memory;
  readonly threads: number;
  /** `kind` is one of KIND_*; `items` the address of `count` adjacent records. */
  run(kind: number, items: number, count: number): void;
  dispose(): Promise<void>;
}
