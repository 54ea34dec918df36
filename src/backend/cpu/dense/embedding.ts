import { KvasirError } from '../../../errors.ts';
import { dequantizeRows } from '../../../model/dequantize.ts';
import { rowBytes } from '../../../model/tensor-type.ts';
import type { ModelConfig, TensorInfo } from '../../../model/types.ts';

/**
 * Token embeddings, left as they are stored and decoded row by row: no second copy of the table is held.
 * `readRow` gives the raw blocks of a row, valid until it is called again.
 */
export class Embedding {
  readonly #table: TensorInfo;
  readonly #scale: number;
  readonly #readRow: (row: number) => Uint8Array;

  constructor(config: ModelConfig, table: TensorInfo, readRow: (row: number) => Uint8Array) {
    this.#table = table;
    this.#scale = config.embeddingScale;
    this.#readRow = readRow;
  }

  /** Rows of ids into out [ids, hidden], times the embedding scale. Raises `invalid_request` for an id that is no token. */
  rows(ids: Int32Array, out: Float32Array): void {
    const { rows, columns, type } = this.#table;
    for (let i = 0; i < ids.length; i++) {
      const id = ids[i];
      if (id < 0 || id >= rows) {
        throw new KvasirError('invalid_request', `Token ${id} is not in the vocabulary.`, {
          field: 'tokens',
          value: id,
          allowed: `0 to ${rows - 1}`,
        });
      }
      const row = out.subarray(i * columns, (i + 1) * columns);
      dequantizeRows(type, this.#readRow(id), columns, row);
      if (this.#scale !== 1) for (let c = 0; c < columns; c++) row[c] *= this.#scale;
    }
  }
}

/** Bytes of one raw row of the table. */
export function embeddingRowBytes(table: TensorInfo): number {
  return rowBytes(table.type, table.columns, table.name);
}
