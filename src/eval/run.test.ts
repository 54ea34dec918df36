import { afterAll, beforeAll, expect, test } from 'vitest';
import { FORMAT_NAMES } from '../cache/types.ts';
import type { LoadedModel } from '../engine/loaded-model.ts';
import { cacheSetting } from './cache-setting.ts';
import { BOOKS, BUNDLED } from './eval.testing.ts';
import { openModelForEval } from './open.node.ts';
import { evalResult } from './result.node.ts';
import { type EvalPlan, runEval, type TaskCell, type TextCell } from './run.ts';
import { findTask } from './tasks/index.ts';

let opened: Awaited<ReturnType<typeof openModelForEval>>;
let model: LoadedModel;
beforeAll(async () => {
  opened = await openModelForEval({ name: 'kvasir-mini', path: BUNDLED }, { threads: 2, cacheDir: '' });
  model = opened.model;
});
afterAll(() => opened[Symbol.asyncDispose]());

const plan = (changes: Partial<EvalPlan>): EvalPlan => ({
  tasks: [findTask('niah-number')],
  texts: [],
  lengths: [512],
  n: 4,
  seed: 0,
  caches: [cacheSetting('f32')],
  meter: 'forced',
  phrasing: 'training',
  books: BOOKS,
  ...changes,
});
const tasksOf = async (changes: Partial<EvalPlan>) => (await runEval(model, plan(changes))) as TaskCell[];

test('single needle, 512 and 1024 tokens, f32 and int8: all right', async () => {
  const caches = ['f32', 'int8'].map(name => cacheSetting(name));
  const cells = await tasksOf({ lengths: [512, 1024], caches });
  expect(cells.map(({ length, cache, n, right }) => ({ length, cache, n, right }))).toEqual([
    { length: 512, cache: 'f32', n: 4, right: 4 },
    { length: 512, cache: 'int8', n: 4, right: 4 },
    { length: 1024, cache: 'f32', n: 4, right: 4 },
    { length: 1024, cache: 'int8', n: 4, right: 4 },
  ]);
  const [f32, int8] = cells;
  expect(int8!.held / f32!.held).toBeCloseTo(
    model.info.kvBytesPerToken.int8 / model.info.kvBytesPerToken.f32,
    1, // positions and views count too
  );
  expect(f32!.meanTokens).toBeGreaterThan(490);
}, 300_000);

test('greedy decoding agrees with the forced answers; a run of fewer instances is the beginning of a longer one', async () => {
  const tasks = ['niah-multikey', 'passkey', 'registers'].map(findTask);
  const forced = await tasksOf({ tasks, lengths: [256], n: 2 });
  const greedy = await tasksOf({ tasks, lengths: [256], n: 1, meter: 'greedy' });
  expect(forced.length).toBe(3);
  for (const [i, cell] of forced.entries()) expect(cell.outcomes.slice(0, 1)).toEqual(greedy[i]!.outcomes);
  expect(forced.some(cell => cell.right > 0)).toBe(true);
}, 300_000);

test('an answer that is not in the context is not found', async () => {
  // The same needle asked under another key: a meter that always says "right" would show here.
  const wrong = {
    ...findTask('niah-number'),
    generate: (...[draw, length, tools]: Parameters<EvalPlan['tasks'][0]['generate']>) => {
      const made = findTask('niah-number').generate(draw, length, tools);
      return made && { ...made, turns: made.turns.map(turn => ({ ...turn, answer: '0000000', parts: ['0000000'] })) };
    },
  };
  for (const meter of ['forced', 'greedy'] as const) {
    const [cell] = await tasksOf({ tasks: [wrong], n: 2, lengths: [256], meter });
    expect(cell).toMatchObject({ right: 0, answers: { count: 2, right: 0 } });
  }
});

test('the measures of running text, by cache setting, with progress', async () => {
  const steps: string[] = [];
  const caches = FORMAT_NAMES.map(name => cacheSetting(name));
  const texts = plan({ tasks: [], texts: ['perplexity', 'divergence'], lengths: [128], n: 2, caches });
  const cells = (await runEval(model, texts, {
    onProgress: (what, done, total) => steps.push(`${what}: ${done}/${total}`),
  })) as TextCell[];
  expect(steps.length).toBe(12);
  expect(steps[0]).toBe('perplexity 128 f32: 1/12');
  expect(steps.at(-1)).toBe('divergence 128 int8: 12/12');
  const [f32, f16, int8, none, little, more] = cells.map(cell => cell.result);
  for (const result of [f32, f16, int8]) {
    expect(result).toMatchObject({ tokens: 256 });
    expect((result as { bitsPerByte: number }).bitsPerByte).toBeGreaterThan(0.8);
    expect((result as { bitsPerByte: number }).bitsPerByte).toBeLessThan(2.2);
  }
  expect(none).toMatchObject({ agreement: 1, logitError: 0 });
  // Logits are compared at every position, the last of each window included.
  expect(little).toMatchObject({ count: 256 });
  expect((more as { agreement: number }).agreement).toBeGreaterThan(0.9);
});

test('a result carries all that is needed to repeat it', () => {
  const result = evalResult(model.info, plan({}), []);
  expect(JSON.parse(JSON.stringify(result))).toMatchObject({
    run: { machine: { cores: expect.any(Number) }, versions: { kvasir: expect.any(String), node: process.version } },
    model: { name: 'kvasir-mini', mode: 'fast', fingerprint: model.info.fingerprint },
    plan: { tasks: ['niah-number'], lengths: [512], n: 4, seed: 0, meter: 'forced', phrasing: 'training' },
    cells: [],
  });
  expect(result.run.commit).toMatch(/^[0-9a-f]{40}$|^unknown$/);
});

test.each<[string, Partial<EvalPlan>, string]>([
  ['a length beyond the context', { lengths: [8193] }, 'lengths'],
  ['a length of nothing', { lengths: [0] }, 'lengths'],
  ['no task', { tasks: [] }, 'tasks'],
  ['no instance', { n: 0 }, 'n'],
  ['no cache setting', { caches: [] }, 'cache'],
])('refused: %s', async (_, changes, field) => {
  await expect(runEval(model, plan(changes))).rejects.toMatchObject({ code: 'invalid_request', field });
});

test('a cache setting that does not exist is refused with those that do', () => {
  const refused = (allowed: unknown, value: string) => expect.objectContaining({ value, allowed });
  expect(() => cacheSetting('snapkv @ int3')).toThrowError(
    refused(`${FORMAT_NAMES.join(', ')}, a recipe, or a recipe @ one of these formats`, 'snapkv @ int3'),
  );
  expect(() => cacheSetting('int3')).toThrowError(expect.objectContaining({ code: 'invalid_recipe', field: 'cache' }));
});
