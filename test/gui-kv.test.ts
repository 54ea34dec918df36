import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Kernels } from '../src/backend/types.ts';
import { LayerPrefill } from '../src/engine/layer-prefill.ts';
import type { LoadedModel } from '../src/engine/loaded-model.ts';
import { Run } from '../src/engine/program/run.ts';
import { encodeSegments } from '../src/engine/prompt.ts';
import { setSegments } from '../src/engine/segments.ts';
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
    sequence.drop();
  }
}

test('of two earlier screens it drops more of the one that the last shows again, wherever it stands', async () => {
  for (const [screens, again] of [
    [[FORM, SEA, FORM], 0],
    [[SEA, FORM, FORM], 1],
  ] as const) {
    const plain = await kept(screens, false);
    const named = await kept(screens, true);
    const lost = plain.map((share, i) => share - named[i]!);
    expect(lost[again]!, `${plain} to ${named}`).toBeGreaterThan(lost[1 - again]! + 0.05);
    // What is dropped from earlier screens is kept of others.
    expect(named[2]!).toBeGreaterThan(plain[2]!);
  }
}, 60_000);
