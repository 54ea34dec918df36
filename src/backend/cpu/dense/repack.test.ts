import {
  appendFileSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { memoryModel, randomTensors, seededRandom, tinyConfig } from '../../../model/testing.ts';
import type { ModelFile } from '../../../model/types.ts';
import { denseProvider } from './index.ts';
import { DenseReference } from './reference.ts';
import { type Repacked, repack, WEIGHTS_FILE } from './repack.node.ts';
import { bumpMemory, compareWithReference } from './testing.ts';

const seed = Math.floor(Math.random() * 2 ** 31);
let cacheDir: string;
beforeEach(() => {
  cacheDir = mkdtempSync(join(tmpdir(), 'kvasir-repack-'));
});
afterEach(() => rmSync(cacheDir, { recursive: true, force: true }));

function tinyFile(): ModelFile {
  const config = tinyConfig('llama');
  return memoryModel(
    config,
    randomTensors(config, seededRandom(seed), () => 'Q4_1'),
  );
}

const written = ({ folder }: Repacked) => statSync(join(folder, WEIGHTS_FILE)).mtimeMs;
const entries = () => readdirSync(join(cacheDir, 'weights'));
const make = (file: ModelFile) => repack(file, 'fast', cacheDir, () => {});

describe('repacked weights', () => {
  test('are written once, and tell their progress', async () => {
    const file = tinyFile();
    const fractions: number[] = [];
    const first = await repack(file, 'fast', cacheDir, fraction => fractions.push(fraction));
    expect(fractions.at(-1)).toBe(1);
    expect([...fractions].sort((a, b) => a - b)).toEqual(fractions);
    const before = written(first);
    const again: number[] = [];
    expect((await repack(file, 'fast', cacheDir, fraction => again.push(fraction))).folder).toBe(first.folder);
    expect(again).toEqual([]);
    expect(written(first)).toBe(before);
    expect(entries()).toHaveLength(1);
  });

  test('lie apart by mode and by model', async () => {
    const file = tinyFile();
    const folders = [await make(file), await repack(file, 'exact', cacheDir, () => {}), await make(tinyFile())];
    expect(new Set(folders.map(({ folder }) => folder)).size).toBe(3);
  });

  test('are made again where a file is torn, changed or missing', async () => {
    const file = tinyFile();
    const whole = await make(file);
    const weights = join(whole.folder, WEIGHTS_FILE);
    const good = readFileSync(weights);
    const damages: readonly (() => void)[] = [
      () => truncateSync(weights, good.length - 1),
      () => appendFileSync(weights, 'x'),
      () => writeFileSync(weights, new Uint8Array(good.length)),
      () => rmSync(weights),
      () => rmSync(join(whole.folder, 'head.onnx')),
      () => writeFileSync(join(whole.folder, 'segment-1.onnx'), 'x'),
      () => rmSync(join(whole.folder, 'manifest.json')),
      () => writeFileSync(join(whole.folder, 'manifest.json'), '{"version":1'),
      () => writeFileSync(join(whole.folder, 'manifest.json'), '{}'),
    ];
    for (const [i, damage] of damages.entries()) {
      damage();
      await make(file);
      expect(readFileSync(weights).equals(good), `damage ${i}`).toBe(true);
      expect(entries()).toHaveLength(1);
    }
  });

  test('are made by two loads at once', async () => {
    const file = tinyFile();
    await Promise.all([make(file), make(file), make(file)]);
    expect(entries()).toHaveLength(1);
  });

  test('leave nothing behind where a weight is not finite', async () => {
    const config = tinyConfig('llama');
    for (const name of ['layers.1.down', 'layers.0.mlp_norm', 'embed', 'lm_head']) {
      const tensors = randomTensors(config, seededRandom(seed));
      tensors[name].values[5] = Number.NaN;
      await expect(make(memoryModel(config, tensors))).rejects.toMatchObject({ code: 'bad_model_file', field: name });
    }
    expect(entries()).toEqual([]);
  });

  test('say which folder cannot be written', async () => {
    const blocked = join(cacheDir, 'file');
    writeFileSync(blocked, '');
    await expect(repack(tinyFile(), 'fast', blocked, () => {})).rejects.toMatchObject({
      code: 'backend_failed',
      field: 'cacheDir',
      value: join(blocked, 'weights'),
    });
  });
});

test('tensors of one input but several types become several products', async () => {
  const random = seededRandom(seed);
  const config = tinyConfig('qwen2', { hidden: 256, headDim: 64, intermediate: 256 });
  const types = { v: 'Q6_K', q: 'Q4_K', k: 'Q4_K', up: 'Q5_0', gate: 'Q4_0', down: 'Q6_K' } as const;
  const typeOf = (name: string) => types[name.split('.').at(-1) as keyof typeof types] ?? 'Q8_0';
  const file = memoryModel(config, randomTensors(config, random, typeOf));
  const { plan } = await make(file);
  expect(plan.segments[1].qkv.map(({ parts }) => parts.length)).toEqual([2, 1]);
  expect(plan.segments[1].gateUp.map(({ parts }) => parts.length)).toEqual([1, 1]);
  const memory = bumpMemory(4 << 20);
  const options = { mode: 'fast', threads: 1, deterministic: false, cacheDir } as const;
  const model = await (await denseProvider('native')).load(file, memory, options);
  const errors = await compareWithReference(model, await DenseReference.open(file), memory, 5, random);
  expect(Math.max(...Object.values(errors)), `seed ${seed}: ${JSON.stringify(errors)}`).toBeLessThan(2.5e-2);
  await model.dispose();
});
