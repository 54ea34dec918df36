import { expect, test } from 'vitest';
import { IncrementalDetokenizer } from './incremental.ts';
import { byteLevelTokenizer } from './tiny-folder.ts';
import { createTokenizer } from './tokenizer.ts';

const tokenizer = createTokenizer({
  json: byteLevelTokenizer(), chatTemplate: null, bosToken: null, eosToken: null, addBos: false, endTokens: [260],
}); // biome-ignore format: one record

test('pieces are whole characters and join to the text', () => {
  const text = '\ufeffhe said: "é 你好 👩‍👩‍👧 🙂"\n';
  const stream = new IncrementalDetokenizer(tokenizer);
  const pieces = tokenizer.encode(text).map(id => stream.push(id));
  pieces.push(stream.flush());
  expect(pieces.join('')).toBe(text);
  expect(pieces.some(piece => piece.includes('\ufffd') || !piece.isWellFormed())).toBe(false);
  // One byte a token: the emoji's four give their text at the last.
  const emoji = tokenizer.encode('🙂').map(id => new IncrementalDetokenizer(tokenizer).push(id));
  expect(emoji).toHaveLength(4);
  expect(tokenizer.encode('🙂').map(id => stream.push(id))).toEqual(['', '', '', '🙂']);
});

test('a character that never ends is U+FFFD at the flush, and the next text is clean', () => {
  const stream = new IncrementalDetokenizer(tokenizer);
  const ids = tokenizer.encode('🙂');
  expect(
    ids
      .slice(0, 3)
      .map(id => stream.push(id))
      .join(''),
  ).toBe('');
  expect(stream.flush()).toBe('\ufffd');
  expect(stream.flush()).toBe('');
  expect(stream.push(256)).toBe('he');
});

test('special tokens are left out, or given', () => {
  const ids = [259, 256, 260];
  const hidden = new IncrementalDetokenizer(tokenizer);
  expect(ids.map(id => hidden.push(id))).toEqual(['', 'he', '']);
  const shown = new IncrementalDetokenizer(tokenizer, { special: true });
  expect(ids.map(id => shown.push(id))).toEqual(['<|im_start|>', 'he', '<|im_end|>']);
});

test('bytes that are no UTF-8 hold nothing up', () => {
  const stream = new IncrementalDetokenizer(tokenizer);
  const byte = (value: number) =>
    Array.from({ length: 256 }, (_, id) => id).find(id => tokenizer.bytes(id)[0] === value)!;
  expect(stream.push(byte(0xff))).toBe('\ufffd');
  expect(stream.push(256)).toBe('he');
});
