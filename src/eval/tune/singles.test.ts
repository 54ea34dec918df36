import { afterAll, beforeAll, expect, test } from 'vitest';
import { testPath } from '../../../test/golden.ts';
import { bundledCorpus } from '../corpus.node.ts';
import { openModelForEval } from '../open.node.ts';
import { Evaluator, windowsIn } from './evaluate.ts';
import { bestOf } from './goal.ts';
import { measureSingle } from './singles.ts';

let opened: Awaited<ReturnType<typeof openModelForEval>>;
let evaluator: Evaluator;
beforeAll(async () => {
  opened = await openModelForEval({ name: 'qwen3', path: testPath('models/qwen3'), mode: 'exact' }, { threads: 1 });
  const tokens = opened.model.tokenizer.encode((await bundledCorpus())[0]!.slice(0, 8000));
  evaluator = await Evaluator.open(opened.model, windowsIn(tokens, 528, 1), 16);
}, 60_000);
afterAll(async () => {
  evaluator?.[Symbol.dispose]();
  await opened?.[Symbol.asyncDispose]();
});

const single = { method: 'snapkv', at: (keep: number) => `snapkv(keep=${keep}, width=15)` };

test.each([0.2, 0.5, 0.8])('a share is found that fills a limit to within a page: %f', async part => {
  const full = (await evaluator.measure('full')).held;
  const goal = { memory: part * full };
  const best = bestOf({ memory: goal.memory }, await measureSingle(evaluator, single, goal))!;
  expect(best.held).toBeLessThanOrEqual(goal.memory);
  // Pages have 64 of 528 entries.
  expect(best.held).toBeGreaterThan(goal.memory - full * (66 / 528));
});

test('at an agreement the least share comes up that was seen to meet it', async () => {
  const goal = { agreement: 0.6 };
  const measured = await measureSingle(evaluator, single, goal);
  expect(measured.length).toBeGreaterThan(1);
  const best = bestOf(goal, measured);
  for (const one of measured) if (one.agreement >= 0.6) expect(best!.held).toBeLessThanOrEqual(one.held);
});

test('what the model cannot have measures nothing', async () => {
  expect(
    await measureSingle(evaluator, { method: 'none', recipes: ['kvtuner(pairs="k8v4*99")'] }, { memory: 1 }),
  ).toEqual([]);
});
