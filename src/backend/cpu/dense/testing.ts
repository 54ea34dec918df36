import type { ModelConfig } from '../../../model/types.ts';
import type { DenseModel, LogitBlock, Memory, RowBlock } from '../../types.ts';
import type { DenseReference } from './reference.ts';

/** A memory that only grows towards its end: enough where nothing is freed. */
export function bumpMemory(bytes: number): Memory {
  const buffer = new SharedArrayBuffer(bytes);
  let end = 64;
  const memory = {
    buffer,
    u8: new Uint8Array(buffer),
    u16: new Uint16Array(buffer),
    i32: new Int32Array(buffer),
    u32: new Uint32Array(buffer),
    f32: new Float32Array(buffer),
    alloc(size: number) {
      const address = end;
      end = Math.ceil((end + size) / 64) * 64;
      if (end > bytes) throw new RangeError('test memory is full');
      return address;
    },
    free() {},
    get held() {
      return end;
    },
    get peak() {
      return end;
    },
  };
  return memory;
}

export function rowBlock(memory: Memory, config: ModelConfig, rows: number): RowBlock {
  const { hidden, heads, kvHeads, headDim } = config;
  const floats = (width: number) => new Float32Array(memory.buffer, memory.alloc(rows * width * 4), rows * width);
  return {
    rows,
    hidden: floats(hidden),
    attention: floats(heads * headDim),
    q: floats(heads * headDim),
    k: floats(kvHeads * headDim),
    v: floats(kvHeads * headDim),
  };
}

export function logitBlock(memory: Memory, config: ModelConfig, rows: number): LogitBlock {
  const floats = (width: number) => new Float32Array(memory.buffer, memory.alloc(rows * width * 4), rows * width);
  return { rows, hidden: floats(config.hidden), logits: floats(config.vocab) };
}

/** Runs every segment and the head on the same random input as the reference; the greatest relative error of each output. */
export async function compareWithReference(
  model: DenseModel,
  reference: DenseReference,
  memory: Memory,
  rows: number,
  random: () => number,
): Promise<Record<string, number>> {
  const { config } = model;
  const errors: Record<string, number> = {};
  const block = rowBlock(memory, config, rows);
  const sampled = [...new Set([0, 1, rows >> 1, rows - 2, rows - 1])].filter(row => row >= 0 && row < rows);
  const rowOf = (data: Float32Array, row: number) => {
    const width = data.length / rows;
    return Float64Array.from(data.subarray(row * width, (row + 1) * width));
  };
  const compare = (name: string, expected: ArrayLike<number> | undefined, data: Float32Array, row: number) => {
    if (expected === undefined) return;
    errors[name] = Math.max(errors[name] ?? 0, relativeError(rowOf(data, row), expected));
  };
  for (let layer = 0; layer <= config.layers; layer++) {
    for (let i = 0; i < block.hidden.length; i++) block.hidden[i] = random() * 2;
    for (let i = 0; i < block.attention.length; i++) block.attention[i] = random();
    const inputs = sampled.map(row => [rowOf(block.hidden, row), rowOf(block.attention, row)] as const);
    await model.segment(layer, block);
    for (const [i, row] of sampled.entries()) {
      const expected = reference.segment(layer, ...inputs[i]);
      compare(`segment ${layer} hidden`, expected.hidden, block.hidden, row);
      compare(`segment ${layer} q`, expected.q, block.q, row);
      compare(`segment ${layer} k`, expected.k, block.k, row);
      compare(`segment ${layer} v`, expected.v, block.v, row);
    }
  }
  const head = logitBlock(memory, config, rows);
  head.hidden.set(block.hidden);
  await model.logits(head);
  for (const row of sampled) compare('logits', reference.logits(rowOf(head.hidden, row)), head.logits, row);
  return errors;
}

/** Root mean square of the difference over that of what is expected; infinite for a NaN. */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  let difference = 0;
  let size = 0;
  for (let i = 0; i < expected.length; i++) {
    difference += (actual[i] - expected[i]) ** 2;
    size += expected[i] ** 2;
  }
  const error = Math.sqrt(difference / size);
  return Number.isNaN(error) || actual.length !== expected.length ? Number.POSITIVE_INFINITY : error;
}
