import { expect, test } from 'vitest';
import { memoryModel, randomTensors, seededRandom, tinyConfig } from '../../../model/testing.ts';
import type { DenseOptions } from '../../types.ts';
import { denseProvider } from './index.ts';
import { DenseReference } from './reference.ts';
import { bumpMemory, relativeError, rowBlock } from './testing.ts';

const seed = Math.floor(Math.random() * 2 ** 31);
// Without a cache folder: the weights live in a temporary one.
const options: DenseOptions = { mode: 'exact', threads: 1, deterministic: false };

test.each(['native', 'wasm'] as const)(
  '%s gives scaled embedding rows and refuses ids that are no tokens',
  async choice => {
    const config = tinyConfig('gemma3');
    const file = memoryModel(
      config,
      randomTensors(config, seededRandom(seed), () => 'Q8_0'),
    );
    const reference = await DenseReference.open(file);
    const model = await (await denseProvider(choice)).load(file, bumpMemory(1 << 20), options);
    const ids = Int32Array.of(3, 0, config.vocab - 1, 3);
    const out = new Float32Array(ids.length * config.hidden);
    await model.embed(ids, out);
    for (const [i, id] of ids.entries()) {
      const row = out.subarray(i * config.hidden, (i + 1) * config.hidden);
      expect(relativeError(row, reference.embed(id)), `seed ${seed}`).toBeLessThan(1e-7);
    }
    for (const id of [-1, config.vocab]) {
      await expect(model.embed(Int32Array.of(id), out)).rejects.toMatchObject({ code: 'invalid_request', value: id });
    }
    await model.dispose();
  },
);

test.each(['native', 'wasm'] as const)(
  '%s: layer 0 leaves hidden as it is; a disposed model runs nothing',
  async choice => {
    const config = tinyConfig('llama');
    const file = memoryModel(config, randomTensors(config, seededRandom(seed)));
    const memory = bumpMemory(1 << 20);
    const model = await (await denseProvider(choice)).load(file, memory, options);
    const block = rowBlock(memory, config, 3);
    block.hidden.fill(0.5);
    await model.segment(0, block);
    expect(block.hidden.every(value => value === 0.5)).toBe(true);
    await model.dispose();
    await model.dispose();
    await expect(model.segment(0, block)).rejects.toMatchObject({ code: 'disposed' });
    if (choice === 'native') {
      await expect(model.embed(Int32Array.of(1), block.hidden)).rejects.toMatchObject({ code: 'disposed' });
    }
  },
);

test('a block of no rows is done at once', async () => {
  const config = tinyConfig('llama');
  const file = memoryModel(config, randomTensors(config, seededRandom(seed)));
  const memory = bumpMemory(1 << 20);
  const model = await (await denseProvider('native')).load(file, memory, options);
  await model.segment(1, rowBlock(memory, config, 0));
  await model.embed(new Int32Array(0), new Float32Array(0));
  await model.dispose();
});
