import { afterAll, beforeAll, expect, test } from 'vitest';
import type { LoadedModel } from '../../engine/loaded-model.ts';
import { cacheSetting } from '../cache-setting.ts';
import { BUNDLED, TINY } from '../eval.testing.ts';
import { openModelForEval } from '../open.node.ts';
import { claims, scbenchTables } from './report.ts';
import { runScbench, type ScbenchCell, type ScbenchPlan } from './run.ts';
import { findScbenchTask, SCBENCH_TASKS } from './tasks/index.ts';

let opened: Awaited<ReturnType<typeof openModelForEval>>;
let model: LoadedModel;
beforeAll(async () => {
  opened = await openModelForEval({ name: 'kvasir-mini', path: BUNDLED }, { threads: 1, cacheDir: '' });
  model = opened.model;
});
afterAll(() => opened[Symbol.asyncDispose]());

const plan = (changes: Partial<ScbenchPlan> = {}): ScbenchPlan => ({
  tasks: [findScbenchTask('kv')],
  modes: ['multi-turn', 'multi-request'],
  lengths: [400],
  n: 1,
  seed: 0,
  split: 'tune',
  caches: [cacheSetting('f32')],
  phrasing: 'training',
  write: 'able',
  ownAnswers: false,
  ...changes,
});
const measured = (cell: ScbenchCell) => {
  if ('refused' in cell) throw new Error(cell.refused.message);
  return cell;
};
const scoreOf = (cell: ScbenchCell) => {
  const { scores } = measured(cell);
  return scores!.flat().reduce((sum, score) => sum + score, 0) / scores!.flat().length;
};

test('both modes on the full cache, snapkv and streaming-llm; tables; a run that goes on', async () => {
  const caches = ['f32', 'snapkv(keep=0.25)', 'streaming-llm(keep=0.25)'].map(name => cacheSetting(name));
  const tasks = ['kv', 'many_shot'].map(findScbenchTask);
  const steps: string[] = [];
  const cells = await runScbench(model, plan({ tasks, caches }), {
    onProgress: (what, done, total) => void steps.push(`${what}: ${done}/${total}`),
  });
  expect(cells.length).toBe(12);
  expect(steps.length).toBe(12);
  expect(steps[0]).toBe('kv 400 multi-turn f32: 1/12');
  for (const cell of cells) {
    const { turns, n, context } = measured(cell);
    expect(n).toBe(1);
    expect(turns.length).toBe(5);
    const full = cell.cache === 'f32';
    if (full) expect(scoreOf(cell)).toBeGreaterThan(0.75);
    else if (cell.task === 'kv') expect(scoreOf(cell)).toBeLessThan(0.7);
    for (const turn of turns) {
      if (full) expect(turn).toMatchObject({ agreement: 1, kl: expect.closeTo(0, 12) });
      else expect(turn.kl).toBeGreaterThan(0);
      expect(turn.nll).toBeGreaterThan(0);
    }
    expect(context.tokens).toBeGreaterThan(350);
  }
  const head = scbenchTables(cells).map(({ caption }) => caption.split(':')[0]);
  expect(head).toEqual(['Scores', 'By category', 'By turn', 'Stages']);

  // Known cells are handed on, and nothing is run for them.
  const kept = new Map(cells.map(cell => [`${cell.task} ${cell.mode} ${cell.cache}`, cell]));
  const again = await runScbench(model, plan({ tasks, caches }), {
    known: ({ task, mode, cache }) => kept.get(`${task} ${mode} ${cache}`),
    pause: () => Promise.reject(new Error('nothing is to be run')),
  });
  expect(again).toEqual(cells);
}, 120_000);

test('tasks that are not written are compared by forced tokens alone', async () => {
  const tasks = [findScbenchTask('summary')];
  const [cell] = await runScbench(model, plan({ tasks, modes: ['multi-turn'], n: 1 }));
  expect(measured(cell!)).toMatchObject({ scores: null, kinds: {} });
  expect(measured(cell!).turns[0]).toMatchObject({ score: null, agreement: 1 });
  expect(claims([cell!], cell!)).toBe(false);
  const [written] = await runScbench(model, plan({ tasks, modes: ['multi-turn'], n: 1, write: 'all' }));
  expect(measured(written!).kinds).toEqual({ summary: { count: 5, score: expect.any(Number) } });
});

test('own answers: what a recipe got wrong stays in its conversation, and is compared on the same tokens', async () => {
  const caches = [cacheSetting('f32'), cacheSetting('random(keep=0.3)')];
  const of = (ownAnswers: boolean) => runScbench(model, plan({ caches, ownAnswers, modes: ['multi-turn'], n: 1 }));
  const [golden, own] = [await of(false), await of(true)];
  expect(measured(own[0]!).turns.every(turn => turn.agreement === 1)).toBe(true);
  // The first turn is the same; the first answer was wrong.
  expect(measured(own[1]!).turns[0]!.kl).toBeCloseTo(measured(golden[1]!).turns[0]!.kl, 10);
  expect(measured(own[1]!).turns[4]!.nll).not.toBeCloseTo(measured(golden[1]!).turns[4]!.nll, 3);
});

test('a model without a chat template, and a recipe that this model refuses', async () => {
  await using tiny = await openModelForEval({ name: 'tiny', path: TINY }, { threads: 1, cacheDir: '' });
  const caches = [cacheSetting('f32'), cacheSetting('razor-attention')];
  const natural = plan({ phrasing: 'natural', write: 'none', caches, tasks: SCBENCH_TASKS.slice(0, 1), n: 1 });
  const cells = await runScbench(tiny.model, { ...natural, lengths: [900] });
  expect(cells.map(cell => 'refused' in cell)).toEqual([false, true, false, true]);
  expect(cells[1]).toMatchObject({ refused: { code: 'invalid_request', message: expect.stringMatching(/profile/) } });
  const text = scbenchTables(cells).flatMap(({ rows }) => rows.flat());
  expect(text.some(each => each.startsWith('refused: '))).toBe(true);
});

test.each<[string, Partial<ScbenchPlan>, string]>([
  ['no task', { tasks: [] }, 'tasks'],
  ['no mode', { modes: [] }, 'modes'],
  ['no length', { lengths: [] }, 'lengths'],
  ['a length that leaves no room for questions', { lengths: [8190] }, 'lengths'],
  ['a length beyond the context', { lengths: [9000] }, 'lengths'],
  ['a length too short for the task', { lengths: [30] }, 'lengths'],
  ['no session', { n: 0 }, 'n'],
  ['no cache setting', { caches: [] }, 'caches'],
  ['own answers that are not written', { ownAnswers: true, write: 'none' }, 'write'],
])('refused: %s', async (_, changes, field) => {
  await expect(runScbench(model, plan(changes))).rejects.toMatchObject({ code: 'invalid_request', field });
});
