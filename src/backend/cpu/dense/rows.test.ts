import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { memoryModel, randomTensors, seededRandom, tinyConfig } from '../../../model/testing.ts';
import type { TensorType } from '../../../model/types.ts';
import type { DenseModel, RowBlock } from '../../types.ts';
import { denseProvider } from './index.ts';
import { bumpMemory, logitBlock, rowBlock } from './testing.ts';

const seed = Math.floor(Math.random() * 2 ** 31);
const cacheDir = mkdtempSync(join(tmpdir(), 'kvasir-dense-'));
afterAll(() => rmSync(cacheDir, { recursive: true, force: true }));

const CASES: readonly (readonly ['exact' | 'fast', TensorType])[] = [
  ['exact', 'F32'],
  ['fast', 'F32'],
  ['fast', 'Q4_0'],
  ['fast', 'Q4_1'],
  ['fast', 'Q4_K'],
  ['fast', 'Q5_K'],
  ['fast', 'Q6_K'],
];

// Wide enough that a product of one row is shared out between threads.
const config = tinyConfig('llama', { layers: 1, hidden: 256, headDim: 64, intermediate: 1280, vocab: 515 });

test.each(CASES)('a row is bit for bit the same whatever shares its call: %s %s', async (mode, type) => {
  const random = seededRandom(seed);
  const file = memoryModel(
    config,
    randomTensors(config, random, () => type),
  );
  const memory = bumpMemory(64 << 20);
  const provider = await denseProvider('native');
  const load = (threads: number) => provider.load(file, memory, { mode, threads, deterministic: true, cacheDir });
  const model = await load(2);
  const rows = 300;
  const all = rowBlock(memory, config, rows);
  for (let i = 0; i < all.hidden.length; i++) all.hidden[i] = random() * 2;
  for (let i = 0; i < all.attention.length; i++) all.attention[i] = random();
  const hidden = all.hidden.slice();
  const run = async (on: DenseModel, from: number, count: number): Promise<Float32Array[]> => {
    const block = count === rows ? all : rowBlock(memory, config, count);
    fill(block, hidden, all.attention, from);
    await on.segment(0, block);
    await on.segment(1, block);
    const head = logitBlock(memory, config, count);
    head.hidden.set(block.hidden);
    await on.logits(head);
    return [block.q.slice(), block.k.slice(), block.v.slice(), block.hidden.slice(), head.logits.slice()];
  };
  const expected = await run(model, 0, rows);
  const check = async (on: DenseModel, from: number, count: number) => {
    for (const [i, values] of (await run(on, from, count)).entries()) {
      const width = expected[i].length / rows;
      const slice = expected[i].subarray(from * width, (from + count) * width);
      expect(firstDifference(values, slice), `seed ${seed}, output ${i}, rows ${from}+${count}`).toBe(-1);
    }
  };
  for (const [from, count] of [
    [0, 1],
    [299, 1],
    [17, 2],
    [30, 7],
    [1, 63],
    [64, 64],
    [235, 65],
    [44, 256],
  ] as const) {
    await check(model, from, count);
  }
  const single = await load(1);
  await check(single, 0, 1);
  await check(single, 100, 200);
  await single.dispose();
  await model.dispose();
});

function fill(block: RowBlock, hidden: Float32Array, attention: Float32Array, from: number): void {
  const width = block.hidden.length / block.rows;
  const wide = block.attention.length / block.rows;
  block.hidden.set(hidden.subarray(from * width, (from + block.rows) * width));
  if (block.attention !== attention) block.attention.set(attention.subarray(from * wide, (from + block.rows) * wide));
}

function firstDifference(a: Float32Array, b: Float32Array): number {
  const left = new Uint32Array(a.buffer, a.byteOffset, a.length);
  const right = new Uint32Array(b.buffer, b.byteOffset, b.length);
  return left.findIndex((word, i) => word !== right[i]);
}
