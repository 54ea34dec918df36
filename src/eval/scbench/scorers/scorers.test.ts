import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { sentenceBleu } from './bleu.ts';
import { characterF1 } from './characters.ts';
import { SCORERS, type ScorerName } from './index.ts';
import { rougeLsum } from './rouge.ts';

interface Case {
  readonly written: string;
  readonly reference: string;
  readonly bleu: number;
  readonly rouge: number;
}
const golden = new URL('../../../../test/golden/scorers/scorers.json', import.meta.url);
const cases = JSON.parse(readFileSync(golden, 'utf8')) as Case[];

test('BLEU and ROUGE-Lsum are those of nltk and rouge-score', () => {
  expect(cases.length).toBe(60);
  for (const { written, reference, bleu, rouge } of cases) {
    expect(sentenceBleu(written, reference)).toBeCloseTo(bleu, 10);
    expect(rougeLsum(written, reference)).toBeCloseTo(rouge, 10);
  }
});

test('characters: any order, none twice, punctuation and space left out', () => {
  expect(characterF1('北京。', '北京')).toBe(1);
  expect(characterF1('京 北', '北京')).toBe(1);
  expect(characterF1('北北', '北京')).toBe(0.5);
  expect(characterF1('他住在北京', '北京')).toBeCloseTo((2 * 2) / 7, 12);
  expect(characterF1('。', '北京')).toBe(0);
});

const score = (name: ScorerName, written: string, answer: string[], candidates: string[] = []) =>
  SCORERS[name](written, { answer, candidates });

test.each<[ScorerName, string, string[], number]>([
  ['substring', 'The value is 3f.', ['3f'], 1],
  ['substring', 'The value is 3F.', ['3f'], 0],
  ['any', 'In OSLO, I think', ['Bergen', 'Oslo'], 1],
  ['any', 'In Rome', ['Bergen', 'Oslo'], 0],
  // A reference is never looped over by its characters.
  ['any', 'b', ['Bergen'], 0],
  ['share', 'abc, DEF', ['ABC', 'DEF', 'GHI', 'JKL'], 0.5],
  ['number', 'The largest number in the list is 953, not 95.', ['953'], 1],
  ['number', 'Of 12 numbers it is 953.', ['953'], 0],
  ['number', '-953', ['953'], 0],
  ['number', 'none', ['953'], 0],
  ['choice', ' B. Oslo', ['B'], 1],
  ['choice', 'Because of that the answer is (C).', ['C'], 1],
  ['choice', 'The answer is: D', ['D'], 1],
  ['choice', 'Bergen', ['B'], 0],
  ['choice', 'the answer is a dog', ['A'], 0],
])('%s: %j against %j is %d', (name, written, answer, expected) => {
  expect(score(name, written, answer)).toBe(expected);
});

describe('function', () => {
  const make = (name: string, k: number) =>
    `def ${name}(items):\n    total = 0\n    for item in items:\n        total = total + item\n    return total * ${k}`;
  const [asked, other] = [make('one', 7), make('two', 9)];
  test.each<[string, string, number]>([
    ['as it is', asked, 1],
    ['in a block, with words around it', `Here:\n\`\`\`python\n${asked}\n\`\`\`\nDone.`, 1],
    ['the first of two blocks counts', `\`\`\`\n${other}\n\`\`\`\n\`\`\`\n${asked}\n\`\`\``, 0],
    ['a block that never ends', `\`\`\`python\n${asked}`, 1],
    ['nearer to another function', other, 0],
    ['nearest, but too far', asked.split('\n').slice(0, 3).join('\n'), 0],
  ])('%s', (_, written, expected) => {
    expect(score('function', written, [asked], [asked, other])).toBe(expected);
  });
});

test('every scorer: 1 for its reference, 0 for nothing', () => {
  const references: Record<ScorerName, string[]> = {
    substring: ['3f'],
    any: ['Oslo'],
    share: ['AB', 'CD'],
    number: ['12'],
    choice: ['B'],
    characters: ['北京'],
    rouge: ['It was built.\nIt is old.'],
    function: ['def f(x): return x'],
  };
  for (const [name, answer] of Object.entries(references) as [ScorerName, string[]][]) {
    expect(score(name, answer.join(', '), answer, answer), name).toBe(1);
    expect(score(name, '', answer, answer), name).toBe(0);
  }
});
