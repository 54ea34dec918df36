import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Kernels } from '../src/backend/types.ts';
import type { LoadedModel } from '../src/engine/loaded-model.ts';
import { Program } from '../src/engine/program/program.ts';
import { Run } from '../src/engine/program/run.ts';
import { runForced } from '../src/engine/score.ts';
import { optionsOf } from '../src/methods/options.ts';
import { plainPrompt, plainRandom } from '../src/methods/testing.ts';
import { held, lengths, runPlain, SHAPES, SIZES } from '../src/methods/testing-policy.ts';
import { PlainDecoder } from '../src/methods/testing-step.ts';
import type { Method } from '../src/methods/types.ts';
import { testPath } from './golden.ts';
import { BUNDLED, openKernels, openLoaded } from './models.ts';
import { force, Written } from './recipes.ts';

/** The method of docs/write-a-method.md, as a reader would have it. */
let folder: string;
let method: Method;
beforeAll(async () => {
  const page = await readFile(testPath('../docs/write-a-method.md'), 'utf8');
  const code = /```ts\n(.*?)```/s.exec(page)![1]!;
  // Beside the sources' folder: only the way to them is another.
  await mkdir(testPath('../build'), { recursive: true });
  folder = await mkdtemp(testPath('../build/write-a-method-'));
  const file = join(folder, 'last-and-loud.ts');
  await writeFile(file, code.replaceAll("from '../", "from '../../src/methods/"));
  method = (await import(/* @vite-ignore */ pathToFileURL(file).href)).lastAndLoud;
});
afterAll(() => rm(folder, { recursive: true, force: true }));

test('the page fits a screen, and its code the types', async () => {
  const file = join(folder, 'last-and-loud.ts');
  expect((await readFile(file, 'utf8')).split('\n').length).toBeLessThan(60);
  const config = { extends: '../../tsconfig.json', include: ['last-and-loud.ts'] };
  await writeFile(join(folder, 'tsconfig.json'), JSON.stringify(config));
  const tsc = testPath('../node_modules/typescript/bin/tsc');
  await promisify(execFile)(process.execPath, [tsc, '-p', folder, '--noEmit']);
});

test('it could be registered', () => {
  expect(method.name).toMatch(/^[a-z][a-z0-9]*(-[a-z0-9]+)*$/);
  expect(method.summary).toMatch(/^[A-Z].+\. .+\.$/s);
  expect(optionsOf(method).map(({ name }) => name)).toEqual(['keep', 'budget', 'sinks', 'recent']);
  for (const { description } of optionsOf(method)) expect(description).not.toBe('');
  expect(method.options.parse({})).toEqual({ keep: 0.25, sinks: 4, recent: 32 });
});

test.each(SHAPES.flatMap(shape => SIZES.map(rows => [rows, shape] as const)))(
  '%i tokens of %o by the book',
  (rows, shape) => {
    const { cache } = runPlain(method, { budget: 20, sinks: 2, recent: 6 }, rows, shape);
    const tensors = plainPrompt(cache.model, rows, plainRandom(rows + 1));
    const d = cache.model.headDim;
    held(cache).forEach((heads, layer) => {
      heads.forEach((positions, head) => {
        const norm = (t: number) => {
          const from = (t * cache.model.kvHeads + head) * d;
          return Math.hypot(...tensors[layer]!.v.subarray(from, from + d));
        };
        expect(positions).toEqual(expected(rows, norm, 20, 2, 6));
      });
    });
  },
);

test('while decoding, tokens of the answer go when they leave the window', () => {
  const { cache, policy } = runPlain(method, { budget: 20, sinks: 2, recent: 6 }, 50);
  const loud = held(cache).map(heads => heads.map(positions => positions.slice(0, 14)));
  const decoder = new PlainDecoder(cache, policy);
  for (let step = 0; step < 30; step++) decoder.step(plainPrompt(cache.model, 1, plainRandom(step)));
  const last = Array.from({ length: 6 }, (_, i) => 74 + i);
  held(cache).forEach((heads, layer) => {
    heads.forEach((positions, head) => {
      // The prompt's own last tokens were scored as well: the loudest of them may have stayed in the place of others.
      expect(positions).toHaveLength(20);
      expect(positions.slice(0, 2)).toEqual([0, 1]);
      expect(positions.slice(-6)).toEqual(last);
      expect(positions.slice(2, -6).every(position => position < 50)).toBe(true);
      expect(positions.slice(2, -6).filter(position => loud[layer]![head]!.includes(position)).length).toBeGreaterThan(
        5,
      );
    });
  });
});

test('keep=1 is the full cache', () => {
  const { policy, cache } = runPlain(method, { keep: 1 }, 70);
  expect(policy).toEqual({});
  expect(new Set(lengths(cache).flat())).toEqual(new Set([70]));
});

test('on the bundled model, through the engine', async () => {
  const kernels: Kernels = await openKernels(2);
  let model: LoadedModel | undefined;
  try {
    model = await openLoaded(kernels, BUNDLED, { mode: 'fast', deterministic: true });
    const { layers, kvHeads, headDim } = model.shape;
    const text = 'The quick brown fox jumps over the lazy dog, and 4071936 sheep sleep. '.repeat(15);
    const tokens = model.tokenizer.encode(text).slice(0, 300);
    expect(tokens).toHaveLength(300);

    const full = model.cache.create({ owner: 'test', pages: { formatK: 'f32', formatV: 'f32' } });
    await runForced(model.forward, full, tokens, 'layer', Number.POSITIVE_INFINITY, () => {});
    const policy = method.create(method.options.parse({ keep: 0.25 }), model.shape);
    const program = new Program(method.name, [{ name: method.name, policy }], model.shape, false);
    const sequence = model.cache.create({ owner: 'test', pages: program.pages('f32') });
    using written = new Written(model, '', 1, {
      run: new Run(program, sequence, model.forward.recipes, 1),
      tokens: [],
    });
    const logits = await written.prompt(tokens);
    expect(logits.every(Number.isFinite)).toBe(true);

    for (let layer = 0; layer < layers; layer++)
      for (let head = 0; head < kvHeads; head++) {
        const { v } = full.read(layer, head);
        const norm = (t: number) => Math.hypot(...v.subarray(t * headDim, (t + 1) * headDim));
        const kept = [...sequence.positions(layer, head)];
        expect(kept).toHaveLength(75);
        expect(kept.slice(0, 4)).toEqual([0, 1, 2, 3]);
        expect(kept.slice(-32)).toEqual(Array.from({ length: 32 }, (_, i) => 268 + i));
        // The two sets but for ties in f32.
        const other = Array.from({ length: 268 }, (_, t) => t).filter(t => !kept.includes(t));
        const quietest = Math.min(...kept.slice(4, -32).map(norm));
        expect(Math.max(...other.map(norm))).toBeLessThan(quietest * (1 + 1e-5));
      }
    expect(sequence.stats().held).toBeLessThan(full.stats().held / 2);

    // The cache does not grow any more, and the last tokens are those just written.
    await force(written, tokens.slice(0, 20));
    for (let layer = 0; layer < layers; layer++)
      for (let head = 0; head < kvHeads; head++) {
        const kept = [...sequence.positions(layer, head)];
        expect(kept).toHaveLength(75);
        expect(kept.slice(-32)).toEqual(Array.from({ length: 32 }, (_, i) => 288 + i));
      }
    full.free();
  } finally {
    await model?.dispose();
    await kernels.dispose();
  }
});

/** Positions that stay: all within the budget; else the sinks, the loudest and the last. */
function expected(rows: number, norm: (t: number) => number, budget: number, sinks: number, recent: number): number[] {
  const all = Array.from({ length: rows }, (_, t) => t);
  if (rows <= budget) return all;
  const loud = all.slice(sinks, rows - recent).sort((a, b) => norm(b) - norm(a));
  return [...all.slice(0, sinks), ...loud.slice(0, budget - sinks - recent), ...all.slice(rows - recent)].sort(
    (a, b) => a - b,
  );
}
