import { afterAll, beforeAll } from 'vitest';
import type { LoadedModel } from '../engine/loaded-model.ts';
import { BOOKS, BUNDLED } from './eval.testing.ts';
import { openModelForEval } from './open.node.ts';

/** For a test file: the bundled model and tokens of a book, there once tests run. */
export function bundledText(): { readonly model: LoadedModel; readonly tokens: readonly number[] } {
  let opened: Awaited<ReturnType<typeof openModelForEval>>;
  let tokens: readonly number[];
  beforeAll(async () => {
    opened = await openModelForEval({ name: 'mini', path: BUNDLED }, { threads: 1, cacheDir: '' });
    tokens = opened.model.tokenizer.encode(BOOKS[0]!.slice(0, 4000));
  });
  afterAll(() => opened?.[Symbol.asyncDispose]());
  return {
    get model() {
      return opened.model;
    },
    get tokens() {
      return tokens;
    },
  };
}
