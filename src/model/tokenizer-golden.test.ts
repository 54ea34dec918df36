import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { IncrementalDetokenizer } from './incremental.ts';
import { openModel } from './open.node.ts';
import { createTokenizer } from './tokenizer.ts';

/** Written by test/golden/make_tokenizer.py, which says what the fields hold. */
interface Golden {
  reference: string;
  ids: (number[] | null)[];
  plain: Record<string, number[]>;
  decoded: Record<string, string>;
}

const path = (relative: string) => fileURLToPath(new URL(`../../${relative}`, import.meta.url));
const json = (name: string) => JSON.parse(readFileSync(path(`test/golden/tokenizer-${name}.json`), 'utf8'));
const texts: string[] = json('texts');

// Here the references disagree and the file holds sentencepiece's answer, which knows no text for its unknown piece;
// transformers reads the same model file as below, and llama.cpp looks for the unknown token as for other special ones.
const BY_TRANSFORMERS: Record<string, Record<string, number[]>> = {
  'gguf-gemma3': { '<bos><eos><pad><unk>': [2, 1, 0, 3] },
};

// The last two are pulled or downloaded, not committed: name a folder that holds them to run these tests.
const folder = process.env.KVASIR_TEST_MODELS;
const MODELS: [golden: string, file: string | null][] = [
  ['kvasir-mini', path('models/kvasir-mini.gguf')],
  ['gguf-llama3-rope', path('test/models/gguf/llama3-rope.gguf')],
  ['gguf-qwen2', path('test/models/gguf/qwen2.gguf')],
  ['gguf-gemma3', path('test/models/gguf/gemma3.gguf')],
  ['smollm2-135m', folder ? `${folder}/SmolLM2-135M-Instruct.Q4_1.gguf` : null],
  ['gemma3-270m', folder ? `${folder}/gemma3-270m.gguf` : null],
];

describe.each(MODELS)('%s', (name, file) => {
  const golden: Golden = json(name);
  const there = file !== null && existsSync(file);
  const skipped = there ? '' : ' (skipped: the file is not in the folder that KVASIR_TEST_MODELS names)';

  test.skipIf(!there)(
    `ids and texts of ${texts.length} awkward strings equal the reference${skipped}`,
    async () => {
      const model = await openModel(file!);
      const tokenizer = createTokenizer(model.tokenizer);
      await model.close();
      expect(golden.ids).toHaveLength(texts.length);
      expect(golden.ids.filter(ids => ids !== null).length).toBeGreaterThan(0.97 * texts.length);
      texts.forEach((text, i) => {
        const ids = BY_TRANSFORMERS[name]?.[text] ?? golden.ids[i];
        // Null where two references disagree.
        if (ids === null) return;
        expect(tokenizer.encode(text, { addBos: false }), text).toEqual(ids);
        expect(tokenizer.encode(text, { addBos: false, parseSpecial: false }), text).toEqual(golden.plain[i] ?? ids);
        const expected = golden.decoded[i] ?? text;
        expect(tokenizer.decode(ids, { special: true })).toBe(expected);
        const stream = new IncrementalDetokenizer(tokenizer, { special: true });
        expect(ids.map(id => stream.push(id)).join('') + stream.flush()).toBe(expected);
      });
    },
    30_000,
  );
});
