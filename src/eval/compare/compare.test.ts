import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { KvasirError } from '../../errors.ts';
import { bundledCorpus } from '../corpus.node.ts';
import { metadata } from '../metadata.node.ts';
import { openModelForEval } from '../open.node.ts';
import { findTask } from '../tasks/index.ts';
import { type ComparePlan, LENGTH, settingsOf } from './plan.ts';
import { BINS, promptOf, wholeLength } from './prompt.ts';
import { type CompareResult, compareResult } from './result.ts';
import { type Cell, type Cells, runCompare } from './run.ts';
import { CompareState } from './state.node.ts';
import { compareTable, failures, taken, took } from './table.ts';

const path = new URL('../../../models/kvasir-mini.gguf', import.meta.url).pathname;
const RECIPES = ['snapkv(keep=1)', 'streaming-llm(keep=0.25, positions=kept)', 'streaming-llm(keep=0.25)'];
let opened: Awaited<ReturnType<typeof openModelForEval>>;
let plan: ComparePlan;
let folder: string;

beforeAll(async () => {
  opened = await openModelForEval({ name: 'kvasir-mini', path }, { threads: 1 });
  folder = await mkdtemp(join(tmpdir(), 'kvasir-compare-'));
  const books = await bundledCorpus();
  plan = {
    recipes: RECIPES,
    text: { name: 'book', content: books.at(-1)! },
    length: 256,
    steps: 8,
    tasks: [findTask('niah-number')],
    n: 1,
    phrasing: 'training',
    books,
    seed: 0,
    rounds: 1,
  };
}, 60_000);
afterAll(async () => {
  await opened?.[Symbol.asyncDispose]();
  await rm(folder, { recursive: true });
});

const compare = async (changed: Partial<ComparePlan> = {}, cells: Cells = {}): Promise<CompareResult> => {
  const all = { ...plan, ...changed };
  return compareResult(opened.model, all, await runCompare(opened.model, all, cells), cells, {
    ...metadata(),
    seconds: 61.25,
    reused: 0,
  });
};

describe('a comparison', () => {
  let result: CompareResult;
  beforeAll(async () => {
    result = await compare();
  }, 60_000);

  test('the full cache is the first row, and is itself', () => {
    const [full] = result.rows;
    expect(full!.recipe).toBe('full');
    expect(full!.quality).toMatchObject({ agreement: 1, count: 8 });
    expect(full!.quality!.kl).toBeLessThan(1e-6);
    expect(full!.quality!.lengths).toEqual(Array(10).fill(Array(4).fill(256)));
    expect(full!.quality!.map!.flat()).toEqual(Array(40).fill('ff'.repeat(BINS)));
    expect(full!.tasks).toEqual([{ task: 'niah-number', right: 1, n: 1 }]);
  });

  test('a recipe that keeps all is the full cache again', () => {
    const [full, whole] = result.rows;
    expect(whole!.quality).toMatchObject({ agreement: 1, answer: full!.quality!.answer });
    // The recipe's own state counts, too.
    expect(whole!.quality!.held / full!.quality!.held).toBeCloseTo(1, 3);
    expect(whole!.quality!.kl).toBeLessThan(1e-6);
  });

  test('an eviction: lengths, bytes and the map say what is left', () => {
    const { quality } = result.rows[2]!;
    expect(quality!.lengths).toEqual(Array(10).fill(Array(4).fill(64)));
    expect(quality!.held).toBeLessThan(0.3 * result.rows[0]!.quality!.held);
    for (const line of quality!.map!.flat()) expect(line).toMatch(/^[0-9a-f]{2}.*(00){60}.*(ff){20}$/);
  });

  test('renumbered entries have no map', () => {
    expect(result.rows[3]!.quality!.map).toBeNull();
  });

  test('speed at three contexts, and a row a recipe in the table', () => {
    for (const { speed } of result.rows) {
      expect(speed.map(({ context }) => context)).toEqual([64, 128, 256]);
      for (const { firstTokenMs, tokensPerSecond } of speed) {
        expect(firstTokenMs).toBeGreaterThan(0);
        expect(tokensPerSecond).toBeGreaterThan(0);
      }
    }
    const { head, rows } = compareTable(result);
    expect(rows.map(row => row.length)).toEqual(Array(4).fill(head.length));
  });
});

describe('how much of a text is taken', () => {
  const content = Array.from({ length: 150 }, (_, i) => `Line ${i}: naïve café №${(i * 7919) % 1009}.`).join('\n');
  const question = 'What stands in the last line?';

  test('without a length all of it, whether its end is asked for or predicted', () => {
    const { tokenizer } = opened.model;
    const count = tokenizer.encode(content, { addBos: false }).length;
    for (const text of [
      { name: 'mine', content },
      { name: 'mine', content, question },
    ]) {
      const asked = { ...plan, text, tasks: [] };
      const prompt = promptOf(opened.model, { ...asked, length: wholeLength(opened.model, asked) });
      expect(prompt.taken).toBe(prompt.whole);
      expect(prompt.whole - count).toBeLessThanOrEqual(1);
      expect(tokenizer.decode([...prompt.tokens, ...(prompt.forced ?? [])])).toContain(content.slice(-20));
    }
    const long = { ...plan, text: { name: 'book', content: plan.text.content } };
    expect(wholeLength(opened.model, long)).toBe(opened.model.info.context - plan.steps);
    const short = { ...plan, text: { name: 'note', content: 'A short note.', question } };
    expect(wholeLength(opened.model, short)).toBe(LENGTH);
    expect(wholeLength(opened.model, { ...short, tasks: [] })).toBe(64);
  });

  test('a prompt is never longer than its length, and says what was left out', () => {
    for (let length = 64; length < 160; length += 5) {
      const text = { name: 'mine', content: content.slice(length), question };
      const prompt = promptOf(opened.model, { ...plan, text, length });
      expect(prompt.tokens.length).toBeLessThanOrEqual(length);
      expect(prompt.tokens.length).toBeGreaterThan(length - 8);
      expect(prompt.taken).toBeLessThan(prompt.whole);
      expect(opened.model.tokenizer.decode(prompt.tokens)).toContain(question);
    }
    const text = { name: 'mine', content, question: `${content} ${question}` };
    expect(() => promptOf(opened.model, { ...plan, text })).toThrow(expect.objectContaining({ field: '--question' }));
  });
});

test('with a question all recipes are forced through the full cache’s own answer', async () => {
  const text = { name: 'mine', content: 'The pass key is 4711. '.repeat(3), question: 'What is the pass key?' };
  const result = await compare({ text, recipes: ['kivi'], tasks: [] });
  expect(result.plan.promptTokens).toBeLessThan(plan.length);
  expect(result.rows[0]!.quality!.agreement).toBe(1);
  expect(result.rows[0]!.quality!.answer).not.toBe('');
});

test('a comparison that was stopped goes on, and a recipe more measures that one alone', async () => {
  const controller = new AbortController();
  const two = { ...plan, recipes: RECIPES.slice(0, 2), tasks: [] };
  const { fingerprint } = opened.model.info;
  const open = (plan: ComparePlan) => CompareState.open({ folder, fresh: false }, plan, { fingerprint }, 'code');
  const state = await open(two);
  const stopped = runCompare(opened.model, two, state.cells, {
    signal: controller.signal,
    async onCell(name, cell) {
      await state.add(name, cell);
      if (Object.keys(state.cells).length === 2) controller.abort();
    },
  });
  await expect(stopped).rejects.toMatchObject({ code: 'aborted' });
  const again = await open(two);
  expect(Object.keys(again.cells)).toEqual(['quality f32', 'quality snapkv(keep=1)']);
  const before = structuredClone(again.cells);
  await runCompare(opened.model, two, again.cells, { onCell: (name, cell) => again.add(name, cell) });
  expect(again.cells).toMatchObject(before);

  const three = { ...two, recipes: [...two.recipes, 'kivi'] };
  const more = await open(three);
  const measured: string[] = [];
  await runCompare(opened.model, three, more.cells, { onCell: name => void measured.push(name) });
  expect(measured).toEqual(['quality kivi', 'speed 64 0 kivi', 'speed 128 0 kivi', 'speed 256 0 kivi']);
});

test('a given state of another comparison is refused, unless it may be overwritten', async () => {
  const file = join(folder, 'other.json');
  await writeFile(file, '{"kvasir":"something"}');
  const x = { fingerprint: 'x' };
  const open = (fresh: boolean) => CompareState.open({ path: file, folder, fresh }, plan, x, 'code');
  await expect(open(false)).rejects.toMatchObject({ code: 'invalid_request', field: '--state' });
  const state = await open(true);
  await state.add('task a x', SCORED);
  expect(JSON.parse(await readFile(file, 'utf8'))).toMatchObject({ kvasir: 'compare-state' });
  expect((await open(false)).cells).toEqual(state.cells);
});

const SCORED: Cell = { kind: 'task', recipe: 'x', score: { task: 'a', right: 1, n: 2 } };

test('a state serves the same conditions and the same code alone; what has failed is tried again', async () => {
  const own = { ...plan, seed: Math.floor(Math.random() * 1e9) };
  const open = (conditions: object, code: string) =>
    CompareState.open({ folder, fresh: false }, own, { fingerprint: 'x', mode: 'fast', ...conditions }, code);
  const state = await open({}, 'one');
  await state.add('task a x', SCORED);
  await state.add('failed y', { kind: 'failed', recipe: 'y', failed: 'why' });
  expect((await open({}, 'one')).cells).toEqual({ 'task a x': SCORED });
  expect((await open({}, 'two')).cells).toEqual({});
  for (const other of [
    { mode: 'exact' },
    { tile: 64 },
    { deterministic: true },
    { threads: 1 },
    { cacheLimit: 2 ** 30 },
  ])
    expect((await open(other, 'one')).cells).toEqual({});
});

test('a recipe that fails says why and does not stop the others', async () => {
  const cells: Cells = {};
  const result = await compare({ recipes: ['louiskv(place=memory)', 'kivi'], tasks: [], length: 64 }, cells);
  expect(result.rows.every(row => row.quality)).toBe(true);
  cells['failed kivi'] = { kind: 'failed', recipe: 'kivi', failed: 'no room' };
  delete cells['quality kivi'];
  const failed = await compare({ recipes: ['louiskv(place=memory)', 'kivi'], tasks: [], length: 64 }, cells);
  expect(failed.rows.map(row => row.failed)).toEqual([undefined, undefined, 'no room']);
  expect(compareTable(failed).rows[2]!.slice(0, 2)).toEqual(['kivi', 'failed']);
  expect(failures(failed)).toEqual(['kivi: no room']);
});

test('what was taken and how long it took are told', async () => {
  const result = await compare({ recipes: ['kivi'], tasks: [], length: 64 });
  expect(taken(result)).toMatch(/^72 of \d{5,} tokens of book taken$/);
  expect(took(result)).toBe('took 61.3 s');
  const later = { ...result, run: { ...result.run, seconds: 660, reused: 3 } };
  expect(took(later)).toBe('took 11.0 min; 3 measurements were there already');
});

test.each([
  ['--length', { length: 8190 }],
  ['--length', { length: 63 }],
  ['--steps', { steps: 0 }],
  ['--n', { n: 1.5 }],
  ['--rounds', { rounds: 21 }],
  ['--kv', { recipes: [] }],
  ['--text', { text: { name: 'empty', content: '  ' } }],
  ['cache', { recipes: ['snap'] }],
])('refused by name: %s', (field, changed) => {
  try {
    settingsOf({ ...plan, ...changed }, opened.model);
    expect.unreachable();
  } catch (error) {
    expect(error).toBeInstanceOf(KvasirError);
    expect((error as KvasirError).field).toBe(field);
  }
});
