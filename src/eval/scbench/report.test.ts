import { expect, test } from 'vitest';
import type { CellMeans } from './cell.ts';
import { claims, scbenchTables, scoreMatrix } from './report.ts';
import type { ScbenchCell } from './run.ts';

const cell = (
  task: string,
  cache: string,
  scores: number[],
  changes: Partial<CellMeans> & { category?: ScbenchCell['category'] } = {},
): ScbenchCell => ({
  task,
  category: 'string',
  generator: '0123abcd',
  mode: 'multi-turn',
  length: 512,
  cache,
  seconds: 1,
  n: 1,
  scores: [scores],
  kinds: {},
  context: { tokens: 500, prefillMs: 100, recipeMs: 10, held: 2 ** 20, kept: 250, peak: 2 ** 21, parked: 0 },
  turns: scores.map((score, i) => ({
    score, nll: i === 0 ? 0.5 : 1.5, agreement: i === 0 ? 1 : 0.5, kl: i * 0.1, firstTokenMs: 10 * i,
    reused: i === 0 ? 0 : 300, run: 100, held: 2 ** 20, kept: 250, fetched: 2048,
  })), // biome-ignore format: one line reads as the list it is
  ...changes,
});
const cells = [
  cell('kv', 'f32', [1, 1, 1]),
  cell('vt', 'f32', [1, 0, 0]),
  cell('kv', 'h2o', [1, 0, 0.5]),
  cell('vt', 'h2o', [1, 1, 1]),
];
const tableOf = (caption: string, from = cells) =>
  scbenchTables(from).find(table => table.caption.startsWith(caption))!;

test('a task that the full cache does not get right supports no claim and enters no mean', () => {
  expect(cells.map(each => claims(cells, each))).toEqual([true, false, true, false]);
  expect(claims(cells.slice(2), cells[2]!)).toBe(false);
  const { head, rows } = tableOf('Scores');
  expect(head).toEqual(['task', 'generator', 'cache', 'multi-turn 512']);
  expect(rows).toEqual([
    ['kv', '0123abcd', 'f32', '100'],
    ['vt', '0123abcd', 'f32', '(33.3)'],
    ['kv', '0123abcd', 'h2o', '50'],
    ['vt', '0123abcd', 'h2o', '(100)'],
  ]);
  // The means of h2o are those of kv alone; the reference's cost is that of all.
  expect(tableOf('By category').rows[1]!.slice(0, 4)).toEqual(['h2o', 'multi-turn', '50', '+0.000']);
  expect(tableOf('By turn').rows[1]).toEqual([
    'h2o', 'multi-turn', '100', '25', '0.500', '1.500', '100', '50', '0', '0.150',
  ]); // biome-ignore format: one line reads as the list it is
});

test('stages: what later turns found, what the recipe took and left', () => {
  const half = { context: { ...(cells[0] as CellMeans).context, held: 2 ** 19 } };
  const { head, rows } = tableOf('Stages', [cells[0]!, cell('kv', 'h2o', [1, 1], half)]);
  expect(Object.fromEntries(head.map((name, i) => [name, rows[1]![i]]))).toMatchObject({
    'prefill ms': '100',
    'recipe ms': '10',
    'kept %': '50',
    'held MiB': '0.50',
    '% of full': '50',
    reused: '75 %',
    'KiB a step': '2.0',
  });
});

test('of two tasks in turn each kind has its score, and its own claim', () => {
  const kinds = { summary: { count: 2, score: 0.1 }, passkey: { count: 1, score: 1 } };
  const both = cell('summary_with_needles', 'f32', [0.1, 1, 0.1], { kinds, category: 'multi' });
  expect(scoreMatrix([both])).toMatchObject({
    caption: expect.stringMatching(/generators summary_with_needles 0123abcd$/),
    head: ['cache', 'mode', 'tokens', 'summary_with_needles: summary', 'summary_with_needles: passkey'],
    rows: [['f32', 'multi-turn', '512', '(10)', '100']],
  });
});

test('two tasks in turn enter the mean of their category by the kinds that support a claim', () => {
  const two = (cache: string, summary: number, passkey: number) =>
    cell('summary_with_needles', cache, [summary, passkey], {
      category: 'multi',
      kinds: { summary: { count: 1, score: summary }, passkey: { count: 1, score: passkey } },
    });
  const by = tableOf('By category', [two('f32', 0, 1), two('h2o', 1, 0.25)]);
  expect(by.rows.map(row => row.slice(0, 3))).toEqual([
    ['f32', 'multi-turn', '100'],
    ['h2o', 'multi-turn', '25'],
  ]);
  expect(tableOf('By turn', [two('f32', 0, 1)]).rows[0]!.slice(0, 4)).toEqual(['f32', 'multi-turn', '', '']);
});

test('what was refused says why, and nothing was written shows no scores', () => {
  const { task, category, generator, mode, length } = cells[0]!;
  const refused: ScbenchCell = {
    task, category, generator, mode, length, cache: 'xkv', seconds: 0, refused: { code: 'unsupported', message: 'not here' },
  }; // biome-ignore format: one line reads as the list it is
  expect(tableOf('By turn', [cells[0]!, refused]).rows[1]).toEqual(['xkv', 'multi-turn', 'refused: not here']);
  expect(tableOf('Scores', [cells[0]!, refused]).rows[1]!.at(-1)).toBe('refused: not here');
  const silent = cell('kv', 'f32', [0], { scores: null });
  expect(scbenchTables([silent]).map(({ caption }) => caption.split(':')[0])).toEqual([
    'Divergence from the full cache by task',
    'By category',
    'By turn',
    'Stages',
  ]);
});

test('tasks that were not scored stand by their divergence; scored ones do not', () => {
  const loss = cell('summary', 'h2o', [0, 0, 0], { scores: null });
  const { head, rows } = tableOf('Divergence', [...cells, cell('summary', 'f32', [0], { scores: null }), loss]);
  expect(head).toEqual(['cache', 'mode', 'tokens', 'summary']);
  expect(rows).toEqual([
    ['f32', 'multi-turn', '512', '100, 0'],
    ['h2o', 'multi-turn', '512', '66.7, 0.100'],
  ]);
  expect(scbenchTables(cells).some(({ caption }) => caption.startsWith('Divergence'))).toBe(false);
});
