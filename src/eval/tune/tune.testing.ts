import { afterAll, beforeAll } from 'vitest';
import { testPath } from '../../../test/golden.ts';
import { bundledCorpus } from '../corpus.node.ts';
import { openModelForEval } from '../open.node.ts';
import { Evaluator, windowsIn } from './evaluate.ts';

/** For a test file: an evaluator of a tiny model on one window of 512 tokens and 16 forced ones, there once tests run. */
export function tinyEvaluator(): () => Evaluator {
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
  return () => evaluator;
}
