import { expect, test } from 'vitest';
import { shelf, tryRecipe } from './shelf.ts';

const method = (name: string, family: string, date?: string, options: string[] = []) => ({
  ...{ name, title: name.toUpperCase(), family, summary: `${name} does it. Use it.`, claim: '' },
  paper: date === undefined ? null : { title: `On ${name}`, date, arxiv: '1' },
  ...{ options, worksWith: [], profile: null, profileOptional: false },
});
const methods = [
  method('full', 'control'),
  method('new', 'keep', '2025-01', ['keep']),
  method('old', 'format', '2023-02'),
];
const names = (words: string, family = '', order: 'newest' | 'oldest' | 'name' = 'newest') =>
  shelf(methods, { words, family, order }).map(({ name }) => name);

test('ordered by date, what has no paper last', () => {
  expect(names('')).toEqual(['new', 'old', 'full']);
  expect(names('', '', 'oldest')).toEqual(['old', 'new', 'full']);
  expect(names('', '', 'name')).toEqual(['full', 'new', 'old']);
});

test('all words must be found, in whatever case, and the family must be the one asked for', () => {
  expect(names('ON Old')).toEqual(['old']);
  expect(names('on nothing')).toEqual([]);
  expect(names('', 'keep')).toEqual(['new']);
  // By what the family does, too.
  expect(names('fewer bits')).toEqual(['old']);
  for (const word of ['quantize', 'Quantized', 'quantization', 'offload'])
    expect(names(word).length).toBe(word === 'offload' ? 0 : 1);
  expect(names('old', 'keep')).toEqual([]);
});

test('a method with a budget is tried at a quarter', () => {
  expect(tryRecipe(methods[1]!)).toBe('new(keep=0.25)');
  expect(tryRecipe(methods[2]!)).toBe('old');
});
