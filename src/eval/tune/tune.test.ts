import { afterAll, beforeAll, expect, test } from 'vitest';
import { testPath } from '../../../test/golden.ts';
import { parseRecipe } from '../../methods/recipe.ts';
import { bundledCorpus } from '../corpus.node.ts';
import { openModelForEval } from '../open.node.ts';
import type { TunePlan } from './plan.ts';
import { tune } from './tune.ts';

/** Two layers of random weights: what is checked is that the search does what it says, not what it finds. */
let opened: Awaited<ReturnType<typeof openModelForEval>>;
let plan: TunePlan;
beforeAll(async () => {
  opened = await openModelForEval({ name: 'qwen3', path: testPath('models/qwen3'), mode: 'exact' }, { threads: 1 });
  const [search, , heldOut] = await bundledCorpus();
  plan = {
    goal: { agreement: 0.5 },
    ...{ length: 256, steps: 8, windows: 1, heldOut: 1, trials: 6, bases: ['kivi', 'page'], seed: 0 },
    texts: { search: search!.slice(0, 8000), heldOut: heldOut!.slice(0, 8000) },
    ...{ tasks: [], n: 1, books: [] },
  };
}, 60_000);
afterAll(async () => opened?.[Symbol.asyncDispose]());

test('under a limit of bytes the result holds no more, and beats what else was measured under it', async () => {
  const full = (await tune(opened.model, plan)).full;
  const memory = 0.4 * full;
  const { found, verdict, recipe } = await tune(opened.model, { ...plan, goal: { memory } });
  expect(found.best!.held).toBeLessThanOrEqual(memory);
  for (const each of found.front) if (each.held <= memory) expect(found.best!.kl).toBeLessThanOrEqual(each.kl);
  expect(parseRecipe(recipe).length).toBeGreaterThan(0);
  for (const rival of verdict.rivals) expect(rival.held).toBeLessThanOrEqual(1.02 * verdict.tuned.held);
  const better = verdict.rivals.every(rival => verdict.tuned.kl < rival.kl);
  expect(verdict.beatsAll).toBe(better);
}, 60_000);

test('an agreement is met with less than all bytes; the same seed finds the same', async () => {
  const [a, b] = [await tune(opened.model, plan), await tune(opened.model, plan)];
  expect(a.found.best!.agreement).toBeGreaterThanOrEqual(0.5);
  expect(a.found.best!.held).toBeLessThan(a.full);
  expect(a.recipe).toBe(b.recipe);
  expect(a.found.bases.map(({ base }) => base)).toEqual(['kivi', 'page']);
  for (const { groups, sensitivity } of a.found.bases) {
    expect(groups.flat().sort()).toEqual([0, 1]);
    expect(sensitivity.k.map(line => line.length)).toEqual([4, 4]);
  }
}, 60_000);

test('what cannot be met is refused, saying how near it came', async () => {
  await expect(tune(opened.model, { ...plan, goal: { memory: 1000 } })).rejects.toMatchObject({
    code: 'invalid_request',
    field: 'memory',
    allowed: expect.stringMatching(/^at least \d+ bytes/),
  });
});

test.each([
  ['length', { length: 100 }],
  ['steps', { steps: 7 }],
  ['trials', { trials: 0 }],
  ['windows', { windows: 65 }],
  ['heldOut', { heldOut: 0 }],
  ['agreement', { goal: { agreement: 1.1 } }],
  ['memory', { goal: { memory: 0 } }],
])('refused by name: %s', async (field, changed) => {
  await expect(tune(opened.model, { ...plan, ...changed })).rejects.toMatchObject({ code: 'invalid_request', field });
});
