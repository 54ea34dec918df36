import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { BLOCKS } from '../../../model/tensor-type.ts';
import { memoryModel, randomTensors, seededRandom, tinyConfig } from '../../../model/testing.ts';
import { type Architecture, TENSOR_TYPES } from '../../../model/types.ts';
import type { DenseOptions } from '../../types.ts';
import { denseProvider } from './index.ts';
import { DenseReference } from './reference.ts';
import { bumpMemory, compareWithReference } from './testing.ts';

const ARCHITECTURES: readonly Architecture[] = ['llama', 'qwen2', 'qwen3', 'gemma3'];
/** Relative error of float32 arithmetic over a segment. */
const EXACT = 2e-6;
/** Of a chain of up to four products whose activations are rounded to 8 bits per block of 32 (about 5e-3 each). */
const FAST = 2.5e-2;

const seed = Math.floor(Math.random() * 2 ** 31);
const cacheDir = mkdtempSync(join(tmpdir(), 'kvasir-dense-'));
afterAll(() => rmSync(cacheDir, { recursive: true, force: true }));
const options = (mode: DenseOptions['mode']): DenseOptions => ({ mode, threads: 2, deterministic: false, cacheDir });

describe.each(['native', 'wasm'] as const)('%s', choice => {
  test.each(ARCHITECTURES)('agrees with the float64 reference: %s', async architecture => {
    const random = seededRandom(seed);
    const config = tinyConfig(architecture);
    const file = memoryModel(config, randomTensors(config, random));
    const reference = await DenseReference.open(file);
    const memory = bumpMemory(8 << 20);
    const model = await (await denseProvider(choice)).load(file, memory, options('exact'));
    for (const rows of [1, 2, 63, 64, 65, 256, 300]) {
      const errors = await compareWithReference(model, reference, memory, rows, random);
      expect(Math.max(...Object.values(errors)), `seed ${seed}: ${JSON.stringify(errors)}`).toBeLessThan(EXACT);
    }
    await model.dispose();
  });
});

test.each(TENSOR_TYPES)('the fast mode keeps the weights: %s', async type => {
  const random = seededRandom(seed);
  const wide = BLOCKS[type].elements === 256;
  const config = tinyConfig('llama', wide ? { hidden: 256, headDim: 64, intermediate: 512 } : {});
  const file = memoryModel(
    config,
    randomTensors(config, random, () => type),
  );
  const reference = await DenseReference.open(file);
  const memory = bumpMemory(8 << 20);
  const model = await (await denseProvider('native')).load(file, memory, options('fast'));
  for (const rows of [1, 65, 300]) {
    const errors = await compareWithReference(model, reference, memory, rows, random);
    expect(Math.max(...Object.values(errors)), `seed ${seed}: ${JSON.stringify(errors)}`).toBeLessThan(FAST);
  }
  await model.dispose();
});

test('the fast mode takes inputs that fill no whole block', async () => {
  const random = seededRandom(seed);
  const config = tinyConfig('qwen2', { hidden: 40, heads: 1, kvHeads: 1, headDim: 20, intermediate: 72, vocab: 33 });
  const file = memoryModel(config, randomTensors(config, random));
  const reference = await DenseReference.open(file);
  const memory = bumpMemory(8 << 20);
  const model = await (await denseProvider('native')).load(file, memory, options('fast'));
  for (const rows of [1, 3, 66]) {
    const errors = await compareWithReference(model, reference, memory, rows, random);
    expect(Math.max(...Object.values(errors)), `seed ${seed}: ${JSON.stringify(errors)}`).toBeLessThan(FAST);
  }
  await model.dispose();
});
