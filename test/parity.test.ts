import { existsSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Kernels } from '../src/backend/types.ts';
import type { CacheSequence } from '../src/cache/sequence.ts';
import type { LoadedModel } from '../src/engine/loaded-model.ts';
import { argmax, logSumExp } from '../src/engine/sampler.ts';
import { runForced } from '../src/engine/score.ts';
import type { LoadOptions } from '../src/engine/types.ts';
import type { Work } from '../src/engine/work.ts';
import { type GoldenPrompt, readGolden, testPath } from './golden.ts';
import { openKernels, openLoaded } from './models.ts';

/** Greatest difference of a logit from transformers' in float32. */
const TOLERANCE = 2e-3;

const GGUF = [
  'f16',
  'bf16',
  'q4_0',
  'q4_1',
  'q5_0',
  'q5_1',
  'q8_0',
  'q4_k',
  'q5_k',
  'q6_k',
  'qwen2',
  'qwen3',
  'gemma3',
  'llama3-rope',
  'llama-linear',
];
const FOLDERS = ['llama', 'llama3-rope', 'llama-linear', 'llama-yarn', 'mistral', 'qwen2', 'qwen3', 'gemma3'];
const MODELS = [
  ...FOLDERS.map(name => ({ name, path: testPath(`models/${name}`) })),
  ...GGUF.map(name => ({ name: `gguf-${name}`, path: testPath(`models/gguf/${name}.gguf`) })),
];

let kernels: Kernels;
beforeAll(async () => {
  kernels = await openKernels();
});
afterAll(() => kernels.dispose());
const open = (path: string, options: Partial<LoadOptions> = {}) => openLoaded(kernels, path, options);

/** Checks one row of logits against the golden prompt; returns the greatest difference seen. */
function difference(prompt: GoldenPrompt, position: number, logits: Float32Array): number {
  let worst = Math.abs(logSumExp(logits) - prompt.logsumexp[position]!);
  worst = Math.max(worst, Math.abs(logits[prompt.argmax[position]!]! - prompt.maximum[position]!));
  const at = prompt.positions.indexOf(position);
  if (at >= 0 && prompt.logits)
    for (const [id, value] of prompt.logits[at]!.entries()) worst = Math.max(worst, Math.abs(logits[id]! - value));
  if (at >= 0 && prompt.top)
    for (const [i, id] of prompt.top[at]!.ids.entries())
      worst = Math.max(worst, Math.abs(logits[id]! - prompt.top[at]!.logits[i]!));
  return Number.isNaN(worst) ? Number.POSITIVE_INFINITY : worst;
}

function sequenceOf(model: LoadedModel): CacheSequence {
  return model.cache.create({ owner: 'test', pages: { formatK: 'f32', formatV: 'f32' } });
}

async function worstDifference(model: LoadedModel, prompt: GoldenPrompt, order: 'token' | 'layer'): Promise<number> {
  const sequence = sequenceOf(model);
  let worst = 0;
  let seen = 0;
  await runForced(model.forward, sequence, prompt.ids, order, 0, (work, row, logits) => {
    worst = Math.max(worst, difference(prompt, work.position + row, logits));
    seen++;
  });
  sequence.free();
  expect(seen).toBe(prompt.ids.length);
  return worst;
}

describe.each(MODELS)('$name in exact mode equals transformers in float32', ({ name, path }) => {
  const golden = readGolden(name);

  test.each([1, 63, 512, 1500])('in tiles of %i, token-major and layer-major', async tile => {
    const model = await open(path, { tile });
    for (const [length, prompt] of golden.prompts)
      for (const order of ['token', 'layer'] as const)
        expect(await worstDifference(model, prompt, order), `${length} tokens, ${order}`).toBeLessThan(TOLERANCE);
    await model.dispose();
  });

  test('batched: prompts of all lengths in the same calls', async () => {
    const model = await open(path, { tile: 512 });
    const prompts = [...golden.prompts.values()];
    const runs = prompts.map(prompt => ({ prompt, sequence: sequenceOf(model), done: 0 }));
    let worst = 0;
    for (;;) {
      const works: Work[] = [];
      let space = 150;
      for (const run of runs) {
        const rows = Math.min(space, run.prompt.ids.length - run.done, 61);
        if (rows === 0) continue;
        works.push({
          sequence: run.sequence,
          tokens: run.prompt.ids,
          from: run.done,
          rows,
          position: run.done,
          logits: 'all',
        });
        space -= rows;
      }
      if (works.length === 0) break;
      for (const work of works) work.sequence.prepareAppend(work.rows);
      await model.forward.step(works, (work, row, logits) => {
        const { prompt } = runs.find(run => run.sequence === work.sequence)!;
        worst = Math.max(worst, difference(prompt, work.position + row, logits));
      });
      for (const work of works) runs.find(run => run.sequence === work.sequence)!.done += work.rows;
    }
    for (const { sequence } of runs) sequence.free();
    await model.dispose();
    expect(worst).toBeLessThan(TOLERANCE);
  });

  test('64 greedy tokens', async () => {
    const model = await open(path, { tile: 64 });
    for (const prompt of golden.prompts.values()) {
      if (!prompt.greedy) continue;
      const sequence = sequenceOf(model);
      const tokens = [...prompt.ids];
      await runForced(model.forward, sequence, tokens, 'token', tokens.length - 1, (work, row, logits) => {
        if (work.position + row === prompt.ids.length - 1) tokens.push(argmax(logits));
      });
      while (tokens.length < prompt.ids.length + 64) {
        sequence.prepareAppend(1);
        const from = tokens.length - 1;
        await model.forward.step(
          [{ sequence, tokens, from, rows: 1, position: from, logits: 'last' }],
          (_w, _r, logits) => {
            tokens.push(argmax(logits));
          },
        );
      }
      sequence.free();
      const ours = tokens.slice(prompt.ids.length);
      // Two tokens whose logits lie closer than the tolerance may change places.
      const differ = ours.findIndex((token, i) => token !== prompt.greedy!.ids[i]);
      if (differ >= 0) expect(prompt.greedy.gaps[differ]!).toBeLessThan(TOLERANCE);
    }
    await model.dispose();
  });
});

const MINI = process.env.KVASIR_MINI_FOLDER ?? testPath('../../shared/models/kvasir-mini');
describe.skipIf(!existsSync(MINI))(
  'kvasir-mini, unquantized (runs where its folder is: set KVASIR_MINI_FOLDER)',
  () => {
    test.each(['token', 'layer'] as const)('%s-major', async order => {
      const model = await open(MINI, { tile: 512 });
      for (const [length, prompt] of readGolden('kvasir-mini').prompts)
        expect(await worstDifference(model, prompt, order), `${length} tokens`).toBeLessThan(TOLERANCE);
      await model.dispose();
    });
  },
);
