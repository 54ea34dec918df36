import { expect, test } from 'vitest';
import { interval, markdown, reportTables } from './report.ts';
import type { Cell } from './run.ts';

test("Wilson's interval: values of the literature, and the ends", () => {
  // Newcombe (1998), table I: 81 of 263, and 15 of 148.
  for (const [right, n, low, high] of [
    [81, 263, 0.2553, 0.3662],
    [15, 148, 0.0624, 0.1605],
    [0, 20, 0, 0.1611],
  ] as const) {
    const [a, b] = interval(right, n);
    expect(a).toBeCloseTo(low, 4);
    expect(b).toBeCloseTo(high, 4);
  }
  const [low, high] = interval(20, 20);
  expect(low).toBeCloseTo(1 - 0.1611, 4);
  expect(high).toBeCloseTo(1, 10);
});

const cell = (task: string, length: number, cache: string, right: number): Cell => ({
  kind: 'task',
  task,
  title: `the ${task}`,
  length,
  cache,
  n: 8,
  right,
  answers: { count: 8, right },
  meanTokens: length,
  held: 1,
  peak: 1,
  outcomes: [],
  seconds: 1,
});

test('cells become a table with a row for each task and cache, a column for each length; brackets where the full cache fails', () => {
  const cells = [
    cell('a', 512, 'f32', 8),
    cell('a', 512, 'int8', 7),
    cell('a', 1024, 'f32', 1),
    cell('a', 1024, 'int8', 4),
    cell('b', 1024, 'f32', 0),
    cell('c', 512, 'f32', 5),
    cell('c', 512, 'int8', 0),
  ];
  const text: Cell = {
    kind: 'perplexity',
    length: 64,
    cache: 'f32',
    windows: 2,
    seconds: 1,
    result: { tokens: 128, nll: 1, perplexity: 12.34567, bitsPerByte: 1.5 },
  };
  const [tasks, texts] = reportTables([...cells, text]);
  expect(markdown(tasks!)).toBe(
    [
      '| task, % exact | cache | 512 | 1024 |',
      '| --- | --- | --- | --- |',
      '| the a | f32 | 100 (8/8) | (12.5 (1/8)) |',
      '| the a | int8 | 87.5 (7/8) | (50 (4/8)) |',
      '| the b | f32 |  | (0 (0/8)) |',
      '| the c | f32 | 62.5 (5/8) |  |',
      '| the c | int8 | 0 (0/8) |  |',
    ].join('\n'),
  );
  expect(texts!.rows).toEqual([['perplexity', 'f32', '64', '2', '12.346 a token, 1.5000 bits a byte']]);
});
