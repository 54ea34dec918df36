import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { openModel } from '../model/open.node.ts';
import { createTokenizer } from '../model/tokenizer.ts';
import type { Tokenizer } from '../model/types.ts';

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url));

export const BUNDLED = path('../../models/kvasir-mini.gguf');
/** A random llama of a few thousand weights, without a chat template. */
export const TINY = path('../../test/models/llama');

/** A model's tokenizer without its weights. */
export async function tokenizerOf(model: string): Promise<Tokenizer> {
  const file = await openModel(model);
  try {
    return createTokenizer(file.tokenizer);
  } finally {
    await file.close();
  }
}

/** One book, which makes a test start faster than three. */
export const BOOKS: readonly string[] = [readFileSync(path('../../corpus/wizard-of-oz.txt'), 'utf8')];
