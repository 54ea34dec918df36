import { describe, expect, test } from 'vitest';
import { openModel } from './open.ts';
import { bufferSource } from './source.ts';
import { mergesFromScores } from './spm-merges.ts';
import { byteLevelMetadata, seeded, sentencePieceMetadata, tinyGguf } from './tiny-files.ts';
import { byteLevelTokenizer } from './tiny-folder.ts';
import { BYTE_OF_CHARACTER } from './token-bytes.ts';
import { createTokenizer } from './tokenizer.ts';
import type { Tokenizer, TokenizerSpec } from './types.ts';

async function fromGguf(tokenizer: Parameters<typeof tinyGguf>[0]): Promise<Tokenizer> {
  return createTokenizer((await openModel(bufferSource(tinyGguf(tokenizer)))).tokenizer);
}
const spec = (json: Record<string, unknown>, more: Partial<TokenizerSpec> = {}): TokenizerSpec => ({
  json, chatTemplate: null, bosToken: null, eosToken: null, addBos: false, endTokens: [], ...more,
}); // biome-ignore format: one record
const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

const AWKWARD = [
  '', ' ', '  ', '\n', '\r\n', '\t', 'a', 'hello', ' hello', 'hello ', 'hello world', 'he said: "well"', "I'm we've", '3.14', '٣', '²',
  'é', 'e\u0301', '你好', '🙂', '👩‍👩‍👧', '\ufeffx', '\u0000', '\u0085', '\u00a0', '\u200d', '▁', '<s>', '<0x41>', '<|im_start|', '__proto__', 'constructor',
]; // biome-ignore format: a list of short strings

describe('byte-level', () => {
  test('any text comes back, and the bytes of its tokens are its UTF-8', async () => {
    const random = seeded(3);
    for (const pre of ['default', 'gpt-2', 'llama-bpe', 'smollm', 'kvasir-mini', 'qwen2', 'qwen35', 'tekken']) {
      const tokenizer = await fromGguf({ tokenizer: byteLevelMetadata(pre) });
      const strings = [...AWKWARD];
      for (let i = 0; i < 40; i++) {
        strings.push(
          Array.from({ length: 1 + random() * 20 }, () => AWKWARD[Math.floor(random() * AWKWARD.length)]).join(''),
        );
      }
      for (const string of strings) {
        const expected = pre.startsWith('qwen') ? string.normalize('NFC') : string;
        const ids = tokenizer.encode(string, { addBos: false });
        expect(tokenizer.decode(ids)).toBe(expected);
        expect(Buffer.concat(ids.map(id => tokenizer.bytes(id))).equals(Buffer.from(expected))).toBe(true);
      }
    }
  });

  test('merges stay inside the pieces that the pre-tokenizer cuts', async () => {
    const tokenizer = await fromGguf({});
    expect(tokenizer.vocab).toBe(261);
    expect(tokenizer.encode('hell')).toEqual([256, 257]);
    expect(text(tokenizer.bytes(256))).toBe('he');
    expect(tokenizer.encode('h e')).toHaveLength(3);
    expect(tokenizer.encode('')).toEqual([]);
  });

  test('special tokens: parsed, or left as text; never half', async () => {
    const tokenizer = await fromGguf({});
    expect(tokenizer.encode('<|im_start|>he<|im_end|>')).toEqual([259, 256, 260]);
    const plain = tokenizer.encode('<|im_start|>he<|im_end|>', { parseSpecial: false });
    expect(plain.some(id => id >= 258)).toBe(false);
    expect(tokenizer.decode(plain)).toBe('<|im_start|>he<|im_end|>');
    expect(tokenizer.decode([259, 256, 260])).toBe('he');
    expect(tokenizer.decode([259, 256, 260], { special: true })).toBe('<|im_start|>he<|im_end|>');
    expect(tokenizer.isSpecial(259)).toBe(true);
    expect(tokenizer.isSpecial(256)).toBe(false);
    expect(text(tokenizer.bytes(259))).toBe('<|im_start|>');
    expect([...tokenizer.endTokens].sort()).toEqual([258, 260]);
  });

  test('ids that no token has are nothing', async () => {
    const tokenizer = await fromGguf({});
    for (const id of [261, -1, 1.5, Number.NaN]) expect(tokenizer.bytes(id).length).toBe(0);
    expect(tokenizer.decode([999, 256])).toBe('he');
  });

  test('half a surrogate pair is U+FFFD', async () => {
    const tokenizer = await fromGguf({});
    expect(tokenizer.decode(tokenizer.encode('a\ud83d'))).toBe('a\ufffd');
  });

  test('white space and numbers are those of Unicode, not of JavaScript', () => {
    const character = (byte: number) => [...BYTE_OF_CHARACTER].find(([, value]) => value === byte)![0];
    const json = byteLevelTokenizer();
    const model = json.model as { vocab: Record<string, number>; merges: string[] };
    // A last byte of U+0085, of U+FEFF and of the digit U+0663 that would merge with a neighbour in the same piece.
    for (const [i, byte] of [0x85, 0xbf, 0xa3].entries()) {
      model.vocab[`${character(byte)}!`] = 300 + i;
      model.merges.push(`${character(byte)} !`);
    }
    const merged = (tokenizer: Tokenizer, string: string) => tokenizer.encode(string).some(id => id >= 300);
    const tokenizer = createTokenizer(spec(json));
    expect(merged(tokenizer, '\u0085!')).toBe(false);
    expect(merged(tokenizer, '\ufeff!')).toBe(true);
    const digits = { type: 'Digits', individual_digits: true };
    const whole = { type: 'ByteLevel', add_prefix_space: false, use_regex: false };
    const separate = { ...json, pre_tokenizer: { type: 'Sequence', pretokenizers: [digits, whole] } };
    expect(merged(createTokenizer(spec({ ...json, pre_tokenizer: whole })), '\u0663!')).toBe(true);
    expect(merged(createTokenizer(spec(separate)), '\u0663!')).toBe(false);
  });
});

describe('sentencepiece', () => {
  test('merges by score, with a space in front or without', async () => {
    const prefixed = await fromGguf({ tokenizer: sentencePieceMetadata(true) });
    const pieces = (tokenizer: Tokenizer, ids: number[]) => ids.map(id => text(tokenizer.bytes(id)));
    const ids = prefixed.encode('hello', { addBos: false });
    expect(pieces(prefixed, ids)).toEqual([' hello']);
    expect(prefixed.decode(ids)).toBe('hello');
    expect(prefixed.encode('hello')[0]).toBe(1);
    const bare = await fromGguf({ tokenizer: sentencePieceMetadata(false) });
    expect(pieces(bare, bare.encode('hello', { addBos: false }))).toEqual(['he', 'll', 'o']);
    expect(pieces(bare, bare.encode(' hello', { addBos: false }))).toEqual([' hello']);
  });

  test('what no piece spells falls back to bytes', async () => {
    const tokenizer = await fromGguf({ tokenizer: sentencePieceMetadata(false) });
    expect(tokenizer.encode('é', { addBos: false })).toEqual([3 + 0xc3, 3 + 0xa9]);
    expect([...tokenizer.bytes(3 + 0xc3)]).toEqual([0xc3]);
    for (const string of AWKWARD) {
      // The escape character itself reads back as a space: it cannot be told apart.
      const expected = string.replaceAll('▁', ' ');
      const ids = tokenizer.encode(string, { addBos: false, parseSpecial: false });
      // A text that spells a byte token is not one.
      expect(tokenizer.decode(ids, { special: true })).toBe(expected);
    }
  });

  test('text after a special token gets its own space in front', async () => {
    const tokenizer = await fromGguf({ tokenizer: sentencePieceMetadata(true) });
    const ids = tokenizer.encode('<s>hello</s>hello', { addBos: false });
    expect(ids.map(id => text(tokenizer.bytes(id)))).toEqual(['<s>', ' hello', '</s>', ' hello']);
  });

  test('merges are ordered by score, then by the length of the left part, then of the right', () => {
    const pieces = ['a', 'b', 'ab', 'ba', 'aba', 'abab'].map((piece, id) => ({
      text: piece,
      id,
      score: id < 4 ? 0 : 1,
    }));
    expect(mergesFromScores(pieces).map(pair => pair.join('+'))).toEqual([
      'aba+b',
      'ab+ab',
      'ab+a',
      'a+ba',
      'a+b',
      'b+a',
    ]);
  });
});

describe('chat templates', () => {
  const messages = [{ role: 'user', content: 'hi' }];

  test('render with and without the opening of an answer', async () => {
    const tokenizer = await fromGguf({});
    expect(tokenizer.renderChat(messages)).toBe('<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n');
    expect(tokenizer.renderChat(messages, { addGenerationPrompt: false })).toBe('<|im_start|>user\nhi<|im_end|>\n');
  });

  test('see the special tokens and the date, and may refuse', () => {
    const render = (chatTemplate: string | null) =>
      createTokenizer(
        spec(byteLevelTokenizer(), { chatTemplate, bosToken: '<|endoftext|>', eosToken: '<|im_end|>' }),
      ).renderChat(messages);
    expect(render('{{ bos_token }}{{ eos_token }}')).toBe('<|endoftext|><|im_end|>');
    expect(render("{{ strftime_now('%Y') }}")).toMatch(/^\d{4}$/);
    expect(() => render("{{ raise_exception('roles must alternate') }}")).toThrow(
      expect.objectContaining({
        code: 'invalid_request',
        field: 'messages',
        message: expect.stringMatching(/roles must alternate/),
      }),
    );
    expect(() => render('{% if %}')).toThrow(
      expect.objectContaining({ code: 'bad_model_file', field: 'chat_template' }),
    );
    expect(() => render(null)).toThrow(expect.objectContaining({ code: 'unsupported', field: 'chat_template' }));
  });
});

describe('a tokenizer.json', () => {
  const changed = (change: Record<string, unknown>) => () =>
    createTokenizer(spec({ ...byteLevelTokenizer(), ...change }));

  test.each<[string, Record<string, unknown>, string, string]>([
    ['of another model', { model: { type: 'WordPiece', vocab: {} } }, 'unsupported', 'model.type'],
    ['without a model', { model: null }, 'bad_model_file', 'model'],
    ['without merges', { model: { type: 'BPE', vocab: {} } }, 'bad_model_file', 'model.merges'],
    ['with an id that is none', { model: { type: 'BPE', vocab: { a: -1 }, merges: [] } }, 'bad_model_file', 'token id'],
    ['with a huge id', { added_tokens: [{ id: 2 ** 40, content: 'x' }] }, 'bad_model_file', 'token id'],
    ['with added tokens of no text', { added_tokens: [{ id: 3 }] }, 'bad_model_file', 'added_tokens'],
    ['with a pre-tokenizer not known', { pre_tokenizer: { type: 'Bert' } }, 'unsupported', 'pre_tokenizer'],
    ['with a decoder not known', { decoder: { type: 'WordPiece' } }, 'unsupported', 'decoder'],
    ['with a normalizer not known', { normalizer: { type: 'Shuffle' } }, 'bad_model_file', ''],
    [
      'with a pattern that is none',
      { pre_tokenizer: { type: 'Split', pattern: { Regex: '(' }, behavior: 'Isolated' } },
      'bad_model_file',
      '',
    ],
  ])('%s is refused', (_, change, code, field) => {
    expect(changed(change)).toThrow(expect.objectContaining({ code, field: `tokenizer.json ${field}`.trim() }));
  });

  test('with a space in front of the first piece only', () => {
    const vocab: Record<string, number> = { '▁': 0, h: 1, '▁h': 2, '<s>': 3 };
    const tokenizer = createTokenizer(
      spec({
        version: '1.0', normalizer: null, post_processor: null,
        added_tokens: [{ id: 3, content: '<s>', special: true }],
        pre_tokenizer: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'first', split: false },
        decoder: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'first', split: false },
        model: { type: 'BPE', vocab, merges: ['▁ h'], unk_token: null },
      }), // biome-ignore format: one record
    );
    expect(tokenizer.encode('h')).toEqual([2]);
    expect(tokenizer.encode('h<s>h')).toEqual([2, 3, 1]);
    expect(tokenizer.encode('<s>h')).toEqual([3, 1]);
    expect(tokenizer.decode([2, 2])).toBe('h h');
  });
});
