import { beforeAll, describe, expect, test } from 'vitest';
import type { Tokenizer } from '../../model/types.ts';
import { BOOKS, BUNDLED, TINY, tokenizerOf } from '../eval.testing.ts';
import { createTools, generate, type Sample, type ToolsOptions } from '../tools.ts';
import { findTask, STRONG, TASKS } from './index.ts';
import type { Phrasing, Tools } from './types.ts';

interface Maker {
  readonly tools: Tools;
  readonly options: ToolsOptions;
}

let tokenizer: Tokenizer;
const makers = {} as Record<Phrasing, Maker>;
beforeAll(async () => {
  tokenizer = await tokenizerOf(BUNDLED);
  for (const phrasing of ['training', 'natural'] as const) {
    const options = { tokenizer, chat: true, phrasing, books: BOOKS };
    makers[phrasing] = { options, tools: createTools(options) };
  }
});

const make = (name: string, length: number, index: number, phrasing: Phrasing = 'training', seed = 7): Sample =>
  generate(findTask(name), length, seed, index, makers[phrasing].tools, makers[phrasing].options);

const names = TASKS.map(task => task.name);
const upTo = new Set(TASKS.filter(task => task.upTo).map(task => task.name));

describe.each(names)('%s', name => {
  test('is the same for the same seed, and another for another', () => {
    // Tools of their own: nothing is remembered from one call to the next.
    const fresh = { ...makers.training, tools: createTools(makers.training.options) };
    const again = generate(findTask(name), 700, 7, 3, fresh.tools, fresh.options);
    expect(make(name, 700, 3)).toEqual(again);
    expect(make(name, 700, 4).encoded.turns).not.toEqual(again.encoded.turns);
    expect(make(name, 700, 3, 'training', 8).encoded.turns).not.toEqual(again.encoded.turns);
  });

  test.each(['training', 'natural'] as const)('is as long as asked, and never longer: %s phrasing', phrasing => {
    for (const length of [512, 1024, 3000]) {
      const sizes = Array.from({ length: 6 }, (_, i) => make(name, length, i, phrasing).encoded.tokens);
      for (const size of sizes) expect(size).toBeLessThanOrEqual(length);
      if (upTo.has(name)) continue;
      const mean = sizes.reduce((a, b) => a + b, 0) / sizes.length;
      expect(mean / length).toBeGreaterThan(name === 'gaps' || name === 'people' ? 0.85 : 0.95);
    }
  });

  test.each(['training', 'natural'] as const)('needles lie where the meta data says: %s phrasing', phrasing => {
    for (let i = 0; i < 6; i++) {
      const { instance, encoded } = make(name, 700, i, phrasing);
      const [first] = instance.turns;
      expect(encoded.turns.length).toBe(instance.turns.length);
      expect(encoded.needles.length).toBe(instance.needles.length);
      for (const [n, needle] of instance.needles.entries()) {
        expect(first!.question.slice(needle.at, needle.at + needle.text.length)).toBe(needle.text);
        expect(needle.depth).toBeGreaterThanOrEqual(0);
        expect(needle.depth).toBeLessThanOrEqual(1);
        expect(needle.turn).toBeLessThan(instance.turns.length);
        const { from, to } = encoded.needles[n]!;
        // Tokens may reach over a needle's ends by a space or a comma.
        const text = tokenizer.decode(encoded.turns[0]!.prompt.slice(from, to));
        expect(text).toContain(needle.text);
        expect(text.length).toBeLessThanOrEqual(needle.text.length + 3);
      }
    }
  });

  test('the answer stands in the context, and the conversation is encoded as one text', () => {
    for (let i = 0; i < 4; i++) {
      const { instance, encoded } = make(name, 700, i);
      const messages = instance.turns.flatMap(({ question, answer }) => [
        { role: 'user', content: question },
        { role: 'assistant', content: answer },
      ]);
      const all = instance.system === null ? messages : [{ role: 'system', content: instance.system }, ...messages];
      const whole = tokenizer.encode(tokenizer.renderChat(all, { addGenerationPrompt: false }));
      const ids = encoded.turns.flatMap(({ prompt, answer }) => [...prompt, ...answer]);
      // What follows the last answer is the template's line end.
      expect(ids).toEqual(whole.slice(0, ids.length));
      expect(tokenizer.endTokens.has(ids.at(-1)!)).toBe(true);
      // Numbers of "first", "median" and labels stand there as they are; names and values too.
      const context = instance.turns[0]!.question;
      for (const turn of instance.turns) for (const part of turn.parts) expect(context).toContain(part);
    }
  });
});

test.each<[name: string, ...phrases: RegExp[]]>([
  [
    'niah-number',
    /^Some special magic numbers are hidden within the following text\. Make sure to memorize them\. I will quiz you about them afterwards\.\n\n/,
    /The special magic number for ([a-z]+-[a-z]+) is: \d{4,7}\./,
    /\n\nWhat is the special magic number for ([a-z]+-[a-z]+)\? Answer with the number only\.$/,
  ],
  ['niah-sentence', /\n\nWhat is the special magic number for [a-z]+-[a-z]+\?$/],
  [
    'niah-word',
    /special magic words are hidden/,
    /What is the special magic word for .*\? Answer with the word only\.$/,
  ],
  ['niah-hex', /special magic codes are hidden/, /The special magic code for [a-z]+-[a-z]+ is: [0-9a-f-]{6,36}\./],
  ['niah-multikey', /What is the special magic number for .*\? Answer with the number only\.$/],
  ['niah-multivalue', /What are all the special magic numbers for [a-z]+-[a-z]+ mentioned in the text\?$/],
  ['niah-multiquery', /What are the special magic numbers for .* and [a-z]+-[a-z]+\?$/],
  ['niah-dense', /afterwards\.\n\n(The special magic number for [a-z]+-[a-z]+ is: \d+\.\n){5,}/],
  [
    'passkey',
    /^There is important information hidden inside a lot of irrelevant text\. Find it and memorize it\. I will quiz you about it\.\n\n/,
    /The pass key is (\d{5,6})\. Remember it\. \1 is the pass key\./,
    /\n\nWhat is the pass key\?$/,
  ],
  [
    'json',
    /^Here is a JSON object with many keys\.\n\n\{\n( "[0-9a-f]{8}": "[0-9a-f]{8}",\n)+ "[0-9a-f]{8}": "[0-9a-f]{8}"\n\}\n\n/,
    /Extract the value corresponding to the key "[0-9a-f]{8}" from the JSON object above\.$/,
  ],
  [
    'vt-1x4',
    /^Memorize and track the chain\(s\) of variable assignments hidden in the following text\.\n\n/,
    /VAR ([A-Z]{5}) = \d{5}\.[\s\S]*VAR ([A-Z]{5}) = VAR \1\.[\s\S]*VAR [A-Z]{5} = VAR \2\./,
    /\n\nFind all variables that are assigned the value \d{5} in the text above\.$/,
  ],
  ['strings', /^Here is a list of strings\.\n\n/, /Find the string that starts with \w+( and ends with \w+)?\.$/],
  ['labels', /^Learn the labels from these examples\.\n\n/, /Which label does "\w+" get\?$/],
  ['count', /^Below is a list of words\. Some of them appear more often than others\./, /in the above list\?$/],
  ['minmax', /^Here is a list of numbers\.\n\n/, /What is the \w+ number in the list\?$/],
])('%s is put as in training', (name, ...phrases) => {
  const { turns } = make(name, 1024, 1).instance;
  for (const phrase of phrases) expect(turns[0]!.question).toMatch(phrase);
});

test('a single needle is hidden at all depths', () => {
  const depths = Array.from({ length: 40 }, (_, i) => make('niah-number', 512, i).instance.needles[0]!.depth);
  for (let tenth = 0; tenth < 10; tenth += 2)
    expect(depths.filter(depth => depth >= tenth / 10 && depth <= tenth / 10 + 0.2).length).toBeGreaterThan(1);
});

test('a model without a chat template gets a plain text that ends with the opening of the answer', async () => {
  const plain = await tokenizerOf(TINY);
  const options = { tokenizer: plain, chat: false, phrasing: 'natural', books: BOOKS } as const;
  const sample = generate(findTask('passkey'), 512, 1, 0, createTools(options), options);
  const [turn] = sample.encoded.turns;
  expect(plain.decode(turn!.prompt)).toMatch(/What is the pass key\?\n\nThe pass key is$/);
  expect(plain.decode(turn!.answer).trim()).toBe(sample.instance.turns[0]!.parts[0]);
  expect(sample.instance).toMatchObject({ ends: false, system: null });
});

test('a length that is too short is refused with the task and the length', () => {
  expect(() => make('vt-2x3', 60, 0)).toThrowError(
    expect.objectContaining({ code: 'invalid_request', field: 'lengths', value: 60 }),
  );
});

test('the strong tasks are tasks, and names are unique', () => {
  expect(new Set(names).size).toBe(TASKS.length);
  expect(STRONG.every(task => TASKS.includes(task))).toBe(true);
  expect(() => findTask('niah')).toThrowError(expect.objectContaining({ field: 'tasks', allowed: names }));
});
