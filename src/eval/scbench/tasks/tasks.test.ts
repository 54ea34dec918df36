import { beforeAll, describe, expect, test } from 'vitest';
import { BUNDLED, tokenizerOf } from '../../eval.testing.ts';
import type { Phrasing } from '../../tasks/types.ts';
import { CATEGORIES } from '../../tasks/words.ts';
import { generateSession, generatorHash, type Split } from '../generate.ts';
import { scoreTurn } from '../scorers/index.ts';
import { type ScbenchSession, type ScbenchTools, type ScbenchTurn, TURNS } from '../types.ts';
import { findScbenchTask, SCBENCH_TASKS } from './index.ts';

let count: ScbenchTools['count'];
beforeAll(async () => {
  const tokenizer = await tokenizerOf(BUNDLED);
  count = text => tokenizer.encode(text, { addBos: false, parseSpecial: false }).length;
});

const PHRASINGS: readonly Phrasing[] = ['training', 'natural'];
const names = SCBENCH_TASKS.map(task => task.name);
const make = (name: string, length: number, index: number, phrasing: Phrasing, split: Split = 'test', seed = 3) =>
  generateSession(findScbenchTask(name), { split, length, seed, index }, { phrasing, count });
const body = (context: string) => context.slice(context.indexOf('\n\n') + 2);

/**
 * What the context itself says the answer is, worked out without the generator: all answers that fit. Null: any text can be
 * right, but one is.
 */
const SOLVE: Record<string, (input: string, context: string, turn: ScbenchTurn) => string[]> = {
  kv: (input, context) => [(JSON.parse(body(context)) as Record<string, string>)[/"(.+?)"/.exec(input)![1]!]!],
  prefix_suffix(input, context) {
    const [, start, end] = /starts with (\w+) and ends with (\w+)\./.exec(input)!;
    return body(context)
      .split('\n')
      .filter(line => line.startsWith(start!) && line.endsWith(end!));
  },
  vt(input, context) {
    const value = /value (\d+)/.exec(input)![1]!;
    const held = new Map<string, string>();
    for (const [, name, from] of context.matchAll(/VAR ([A-Z]+) = (?:VAR )?(\w+)\./g))
      held.set(name!, held.get(from!) ?? from!);
    return [...held].filter(([, each]) => each === value).map(([name]) => name);
  },
  mf(input, context) {
    const numbers = body(context).split(', ').map(Number);
    const sorted = [...numbers].sort((a, b) => b - a);
    const facts: Record<string, number> = {
      largest: sorted[0]!,
      'second largest': sorted[1]!,
      'third largest': sorted[2]!,
      smallest: sorted.at(-1)!,
      median: sorted[(sorted.length - 1) / 2]!,
      first: numbers[0]!,
      last: numbers.at(-1)!,
    };
    return [String(facts[/the (.+) number in/.exec(input)![1]!])];
  },
  repoqa: (input, context) =>
    context
      .split('\n\n')
      .slice(1)
      .filter(code => code.startsWith('def ') && input.includes(`it ${inWords(code)}.`)),
  qa_eng: (input, context, turn) => peopleSay(input, context, turn),
  choice_eng(input, context, turn) {
    const [question, ...options] = input.split('\n');
    const said = peopleSay(question!, context, turn);
    return options.filter(option => said.includes(option.slice(3))).map(option => option[0]!);
  },
  qa_chn(input, context) {
    const entryOf = (name: string) => context.split('\n').find(line => line.startsWith(name))!;
    const [, name, friends] = /^(\p{Script=Han}{3}?)(的朋友)?/u.exec(input)!;
    const entry = entryOf(name!);
    const asked = friends ? entryOf(/朋友是(.{3})/.exec(entry)![1]!) : entry;
    const said: readonly (readonly [RegExp, RegExp])[] = [
      [/城市/, /住在([^，。]+)/],
      [/职业/, /是一名([^，。]+)/],
      [/爱吃/, /最爱吃([^，。]+)/],
      [/爱好/, /，喜欢([^，。]+)/],
    ];
    return [said.find(([question]) => question.test(input))![1].exec(asked)![1]!];
  },
  summary(input, context) {
    const title = /"(.+)"/.exec(input)![1]!;
    const articles = context.split('\n\n').filter(article => article.startsWith(`# ${title}\n`));
    return articles.map(article => article.split('\n').filter(line => line.startsWith('- ')).map(line => line.slice(2)).join('\n')); // biome-ignore format: one line
  },
  many_shot(input, context) {
    // Of a rule by meaning: the labels of examples of the same kind. Of one by spelling: one of the labels.
    const word = /"(.+?)"/.exec(input)![1]!;
    const shown = [...context.matchAll(/(?:Input: |Word: )?([a-z]+)(?: -> |\nLabel: | \| Class: )([a-z]+)/g)];
    expect(shown.map(([, each]) => each)).not.toContain(word);
    const kinds = Object.values(CATEGORIES).filter(kind => kind.includes(word));
    const same = shown.filter(([, each]) => kinds.some(kind => kind.includes(each!))).map(([, , label]) => label!);
    return [...new Set(same)];
  },
};

/** The values of facts in the paragraph of the person asked for, or of that one's friend. */
function peopleSay(question: string, context: string, { options, answer }: ScbenchTurn): string[] {
  const paragraphs = context.split('\n\n').slice(1);
  const of = (name: string) => paragraphs.filter(each => each.startsWith(`${name} was born`));
  const [, friend, name] = /(the best friend of )?([A-Z][a-z]+ [A-Z][a-z]+)/.exec(question)!;
  const [own, ...more] = of(name!);
  expect(more).toEqual([]);
  const [said] = friend ? of(/best friend is (.+)\.$/.exec(own!)![1]!) : [own];
  // Without the birth and the friend: what the facts are about.
  const facts = said!.split('. ').slice(1).join('. ');
  return (options ?? answer).filter(value => new RegExp(`\\b${value}\\b`).test(facts));
}

function inWords(code: string): string {
  const words = code
    .replace(/def \w+\(items\):\n {4}total = \d\n {4}for item in items:\n/, 'takes a list')
    .replace(/ {8}if item % (\d+) == 0:\n {12}continue\n/g, ', drops multiples of $1')
    .replace(/ {8}if item > (\d+):\n {12}continue\n/g, ', drops items greater than $1')
    .replace(/ {8}if item < (\d+):\n {12}continue\n/g, ', drops items less than $1')
    .replace(/ {8}if item == (\d+):\n {12}continue\n/g, ', drops items equal to $1')
    .replace(/ {8}item = item \+ (\d+)\n/g, ', adds $1 to each item')
    .replace(/ {8}item = item - (\d+)\n/g, ', takes $1 from each item')
    .replace(/ {8}item = item \* (\d+)\n/g, ', multiplies each item by $1')
    .replace(/ {8}item = item \/\/ (\d+)\n/g, ', divides each item by $1');
  return words
    .replace(/ {8}total = total \+ item\n/, ', returns the sum')
    .replace(/ {8}total = total \* item\n/, ', returns the product')
    .replace(/ {8}total = total \+ 1\n/, ', returns the count')
    .replace(/ {8}total = max\(total, item\)\n/, ', returns the largest')
    .replace(/ {4}return total \* (\d+)/, ' times $1')
    .replace(/ {4}return total \+ (\d+)/, ' plus $1')
    .replace(/ {4}return total - (\d+)/, ' minus $1')
    .replace(/ {4}return total % (\d+)/, ' modulo $1');
}
SOLVE.summary_with_needles = (input, context, turn) =>
  turn.kind === 'summary'
    ? SOLVE.summary!(input, context, turn)
    : [...context.matchAll(/The pass key for (\w+) is (\d+)\./g)]
        .filter(([, color]) => input.endsWith(`for ${color}?`))
        .map(([, , key]) => key!);
SOLVE.repoqa_and_kv = (input, context, turn) =>
  turn.kind === 'function'
    ? SOLVE.repoqa!(input, context, turn)
    : [...context.matchAll(/^"(.+)": "(.+)"$/gm)]
        .filter(([, key]) => key === /"(.+?)"/.exec(input)![1])
        .map(([, , value]) => value!);

describe.each(names)('%s', name => {
  test('is the same for the same key, and another for another seed, index or split', () => {
    const first = make(name, 1024, 1, 'training');
    expect(JSON.stringify(make(name, 1024, 1, 'training'))).toBe(JSON.stringify(first));
    for (const other of [
      make(name, 1024, 2, 'training'),
      make(name, 1024, 1, 'training', 'tune'),
      make(name, 1024, 1, 'training', 'test', 4),
    ])
      expect(other.context).not.toBe(first.context);
  });

  test.each(PHRASINGS)('is as long as asked, and never longer: %s phrasing', phrasing => {
    for (const [length, least] of [[512, 0.85], [1024, 0.92], [2048, 0.95]] as const) // biome-ignore format: one line
      for (let index = 0; index < 3; index++) {
        const size = count(make(name, length, index, phrasing).context);
        expect(size).toBeLessThanOrEqual(length);
        expect(size / length).toBeGreaterThan(least);
      }
  });

  test.each(PHRASINGS)('five questions, each with the one answer that the context gives: %s phrasing', phrasing => {
    for (const length of [512, 1500])
      for (let index = 0; index < 6; index++) {
        const session = make(name, length, index, phrasing);
        expect(session.turns.length).toBe(TURNS);
        expect(new Set(session.turns.map(turn => turn.input)).size).toBe(TURNS);
        for (const turn of session.turns) {
          const found = SOLVE[name]!(turn.input, session.context, turn);
          if (name === 'many_shot' && found.length !== 1) expect(turn.options).toContain(turn.answer[0]);
          else expect(found, turn.input).toEqual(turn.answer);
          for (const text of turn.evidence) expect(session.context.split(text).length).toBe(2);
        }
      }
  });

  test.each(PHRASINGS)('the reference scores 1 and nothing 0, another turn less: %s phrasing', phrasing => {
    for (let index = 0; index < 3; index++) {
      const session = make(name, 1024, index, phrasing);
      for (const [i, turn] of session.turns.entries()) {
        expect(scoreTurn(turn.reference, turn, session)).toBe(1);
        expect(scoreTurn('', turn, session)).toBe(0);
        const other = session.turns.find(
          each => each.scorer === turn.scorer && each.answer.join() !== turn.answer.join(),
        );
        if (other) expect(scoreTurn(other.reference, turn, session), `turn ${i}`).toBeLessThan(1);
      }
    }
  });
});

const located = SCBENCH_TASKS.filter(task => task.name !== 'mf' && task.name !== 'many_shot').map(task => task.name);
test.each(located)('%s: answers lie at all depths, whatever the turn', name => {
  const byTurn: number[][] = Array.from({ length: TURNS }, () => []);
  const all: number[] = [];
  for (let index = 0; index < 12; index++)
    for (const [i, { depth }] of make(name, 1024, index, 'training').turns.entries()) {
      byTurn[i]!.push(depth!);
      all.push(depth!);
    }
  expect(Math.min(...all)).toBeLessThan(name === 'vt' ? 0.45 : 0.15);
  expect(Math.max(...all)).toBeGreaterThan(name === 'vt' ? 0.55 : 0.85);
  for (const depths of byTurn) {
    const mean = depths.reduce((a, b) => a + b, 0) / depths.length;
    expect(mean).toBeGreaterThan(0.2);
    expect(mean).toBeLessThan(0.8);
  }
});

test('choices: every letter is right about as often as the others', () => {
  const right = { A: 0, B: 0, C: 0, D: 0 } as Record<string, number>;
  for (let index = 0; index < 40; index++)
    for (const turn of make('choice_eng', 512, index, 'natural').turns) right[turn.answer[0]!]!++;
  for (const number of Object.values(right)) expect(Math.abs(number - 50)).toBeLessThan(16);
});

test('twelve tasks with a hash each; a length without room is refused', () => {
  expect(names.length).toBe(12);
  // Pinned: a change of a generator must be meant, as scores before and after it do not compare.
  expect(Object.fromEntries(SCBENCH_TASKS.map(task => [task.name, generatorHash(task)]))).toMatchInlineSnapshot(`
    {
      "choice_eng": "fc060c4c",
      "kv": "e086305d",
      "many_shot": "f5fe6c94",
      "mf": "cc008a2c",
      "prefix_suffix": "c6ffd903",
      "qa_chn": "8b9aeec3",
      "qa_eng": "285995bc",
      "repoqa": "e63ee1fb",
      "repoqa_and_kv": "ea413e3a",
      "summary": "ea8c11c4",
      "summary_with_needles": "a6841b26",
      "vt": "c7457462",
    }
  `);
  for (const task of SCBENCH_TASKS)
    expect(() => make(task.name, 25, 0, 'training')).toThrowError(
      expect.objectContaining({ code: 'invalid_request', field: 'lengths', value: 25 }),
    );
  expect(() => findScbenchTask('hashhop')).toThrowError(expect.objectContaining({ field: 'tasks' }));
});

test('sessions for tuning share no question with sessions for testing', () => {
  const asked = (split: Split) =>
    new Set(
      ['kv', 'vt', 'prefix_suffix', 'repoqa'].flatMap(name =>
        Array.from({ length: 10 }, (_, i): ScbenchSession => make(name, 512, i, 'natural', split)).flatMap(session =>
          session.turns.map(turn => turn.input),
        ),
      ),
    );
  const tune = asked('tune');
  expect([...asked('test')].filter(input => tune.has(input))).toEqual([]);
});
