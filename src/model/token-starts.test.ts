import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import { testPath } from '../../test/golden.ts';
import { nodePlatform } from '../engine/platform.node.ts';
import { tokenStarts } from './token-starts.ts';
import { createTokenizer } from './tokenizer.ts';
import type { Tokenizer } from './types.ts';

const bytes = (...pieces: string[]) => pieces.map(piece => new TextEncoder().encode(piece));

describe('tokens by their bytes', () => {
  test('characters of several bytes and units; a token within one has its offset', () => {
    expect(tokenStarts('aé🙂b', bytes('aé', '🙂', 'b'))).toEqual([0, 2, 4]);
    const [first, second] = [Uint8Array.of(0xf0, 0x9f), Uint8Array.of(0x99, 0x82)];
    expect(tokenStarts('a🙂b', [...bytes('a'), first, second, ...bytes('b')])).toEqual([0, 1, 1, 3]);
  });

  test('a space that was put before the text takes no room', () => {
    expect(tokenStarts('The end', bytes(' The', ' end'))).toEqual([0, 3]);
    expect(tokenStarts('The The', bytes(' ', 'The', ' The'))).toEqual([0, 0, 3]);
  });

  test('text that was composed', () => {
    expect(tokenStarts('cafe\u0301 ok', bytes('caf', 'é', ' ok'))).toEqual([0, 3, 5]);
    expect(tokenStarts('\u1112\u1161\u11ab a', bytes('한', ' a'))).toEqual([0, 3]);
  });

  test('characters that have no token, and tokens that stand for none', () => {
    expect(tokenStarts('ab☃☃cd', bytes('ab', 'cd'))).toEqual([0, 4]);
    expect(tokenStarts('ab☃cd', bytes('ab', '<unk>', 'cd'))).toEqual([0, 2, 3]);
  });
});

describe.each(['../models/kvasir-mini.gguf', 'models/gemma3', 'models/qwen2', 'models/mistral'])('%s', path => {
  let tokenizer: Tokenizer;
  beforeAll(async () => {
    const file = await nodePlatform().openModel(testPath(path));
    tokenizer = createTokenizer(file.tokenizer);
    await file.close();
  });

  test('the ids are those of encode, the starts ascend, and a word begins where its token does', () => {
    const text = 'One two, 34 words.\n\n<|im_start|>user <end_of_turn>[INST] naïve 🙂 last';
    for (const options of [{}, { addBos: true }, { addBos: false, parseSpecial: false }]) {
      const { ids, starts } = tokenizer.encodeWithStarts(text, options);
      expect(ids).toEqual(tokenizer.encode(text, options));
      expect(starts).toHaveLength(ids.length);
      expect(starts).toEqual(starts.toSorted((a, b) => a - b));
      expect(starts.at(-1)).toBeGreaterThanOrEqual(text.indexOf(' last'));
      for (const [i, id] of ids.entries()) {
        const own = tokenizer.decode([id], { special: true }).trim();
        if (starts[i]! < 0 || own === '' || own.includes('\ufffd')) continue;
        expect(text.slice(starts[i], starts[i]! + own.length + 1)).toContain(own);
      }
    }
  });

  test('any text', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 60 }), text => {
        const { ids, starts } = tokenizer.encodeWithStarts(text, { addBos: false });
        expect(ids).toEqual(tokenizer.encode(text, { addBos: false }));
        expect(starts).toHaveLength(ids.length);
        expect(starts).toEqual(starts.toSorted((a, b) => a - b));
        for (const start of starts) expect(start >= 0 && start < Math.max(1, text.length)).toBe(true);
      }),
      { numRuns: 100 },
    );
  });
});
