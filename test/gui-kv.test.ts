import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Kernels } from '../src/backend/types.ts';
import { LayerPrefill } from '../src/engine/layer-prefill.ts';
import type { LoadedModel } from '../src/engine/loaded-model.ts';
import { Run } from '../src/engine/program/run.ts';
import { encodeSegments } from '../src/engine/prompt.ts';
import { setSegments } from '../src/engine/segments.ts';
import { residuals } from '../src/engine/sense/residual.ts';
import { BUNDLED, openKernels, openLoaded } from './models.ts';

let kernels: Kernels;
let model: LoadedModel;
beforeAll(async () => {
  kernels = await openKernels(2);
  model = await openLoaded(kernels, BUNDLED, { mode: 'fast', deterministic: true });
}, 60_000);
afterAll(async () => {
  await model.dispose();
  await kernels.dispose();
});

const FORM = [1, 2, 3, 4, 5, 6, 7, 8]
  .map(i => `Field ${i}: the name of the person who signed form ${i * 37} in the office.\n`)
  .join('');
const SEA = [1, 2, 3, 4, 5, 6, 7, 8]
  .map(i => `The ship sailed north for ${i * 13} days and the captain wrote to his brother.\n`)
  .join('');
const QUESTION = 'Which field comes first? ';

/** Share of the tokens of each of three screens that a head keeps, mean over layers and heads. */
async function kept(screens: readonly string[], named: boolean): Promise<number[]> {
  const program = model.program('gui-kv(keep=0.4, alpha=0, rank=64)')!;
  const starts = screens.map((_, i) => screens.slice(0, i).join('').length);
  const prompt = encodeSegments(
    model.tokenizer,
    screens.join('') + QUESTION,
    screens.map((text, i) => ({ kind: 'image', from: starts[i]!, to: starts[i]! + text.length })),
  );
  const sequence = model.cache.create({ owner: 'test', pages: program.pages('f32') });
  if (named) setSegments(sequence, prompt.segments, 0);
  const run = new Run(program, sequence, model.forward.recipes, 1);
  const prefill = new LayerPrefill(model.forward, sequence, prompt.tokens, 0, run);
  try {
    while (!(await prefill.next()));
    await prefill.finish('last', () => {});
    const { layers, kvHeads } = model.info;
    return prompt.segments.map(({ from, to }) => {
      let inside = 0;
      for (let layer = 0; layer < layers; layer++)
        for (let head = 0; head < kvHeads; head++)
          inside += sequence.positions(layer, head).filter(at => from <= at && at < to).length;
      return inside / (layers * kvHeads * (to - from));
    });
  } finally {
    prefill.dispose();
    sequence.free();
  }
}

test('named screens: what the earlier ones lose, the last one gains', async () => {
  for (const screens of [
    [FORM, SEA, FORM],
    [SEA, FORM, FORM],
  ]) {
    const plain = await kept(screens, false);
    const named = await kept(screens, true);
    const both = `${plain} to ${named}`;
    expect(named[0]!, both).toBeLessThan(plain[0]!);
    expect(named[1]!, both).toBeLessThan(plain[1]!);
    expect(named[2]!, both).toBeGreaterThan(plain[2]!);
  }
}, 60_000);

/** The share of pairs in which an entry of one screen is spanned better by the last screen than one of another, over all heads. */
async function spannedBetter(screens: readonly (readonly number[])[], one: number, other: number): Promise<number> {
  const length = screens[0]!.length;
  const program = model.program('gui-kv')!;
  const sequence = model.cache.create({ owner: 'test', pages: program.pages('f32') });
  const prefill = new LayerPrefill(
    model.forward,
    sequence,
    screens.flat(),
    0,
    new Run(model.program('gui-kv(keep=1)')!, sequence, model.forward.recipes, 1),
  );
  try {
    while (!(await prefill.next()));
    await prefill.finish('last', () => {});
    const { layers, kvHeads } = model.info;
    const range = (at: number) => Uint32Array.from({ length }, (_, i) => at * length + i);
    const perHead = (entries: Uint32Array) => Array.from({ length: kvHeads }, () => entries);
    const request = { signal: 'residual', of: 'k', rank: 32, choose: 'first', basis: perHead(range(2)) } as const;
    let better = 0;
    for (let layer = 0; layer < layers; layer++)
      for (let head = 0; head < kvHeads; head++) {
        const of = (screen: number) =>
          residuals(kernels, sequence, layer, head, { ...request, members: perHead(range(screen)) });
        const [a, b] = [of(one), of(other)];
        for (const x of a) for (const y of b) better += x < y ? 1 : x === y ? 0.5 : 0;
      }
    return better / (layers * kvHeads * length * length);
  } finally {
    prefill.dispose();
    sequence.free();
  }
}

test('after RoPE the nearer of two earlier screens is spanned better, whether the last repeats it or not', async () => {
  const passage = (book: string) =>
    model.tokenizer.encode(readFileSync(`corpus/${book}.txt`, 'utf8').slice(5000, 6500));
  const [again, other] = ['wizard-of-oz', 'eighty-days'].map(book => [...passage(book)].slice(0, 200));
  const near = await spannedBetter([other!, again!, again!], 1, 0);
  const far = await spannedBetter([again!, other!, again!], 0, 1);
  console.log(
    `AUC of a repeated passage against another: ${near.toFixed(2)} where it is nearer, ${far.toFixed(2)} where not`,
  );
  expect(near).toBeGreaterThan(0.55);
  expect(far).toBeLessThan(0.45);
}, 60_000);
