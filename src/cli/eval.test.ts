import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { runCli } from './cli.testing.ts';

const llama = fileURLToPath(new URL('../../test/models/llama', import.meta.url));
let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'kvasir-cli-eval-'));
});
afterAll(() => rm(root, { recursive: true }));

const run = (line: string) => runCli(['eval', '--model', llama, '--threads', '1', ...line.split(' ')]);

test('--json and --out: cells with their run', async () => {
  const out = join(root, 'result.json');
  const result = await run(`--tasks passkey,perplexity --lengths 200,300 --n 2 --cache f32,int8 --json --out ${out}`);
  expect(result).toMatchObject({ code: 0, stderr: '' });
  const value = JSON.parse(result.stdout);
  expect(JSON.parse(await readFile(out, 'utf8'))).toEqual(value);
  expect(value).toMatchObject({
    model: { name: 'llama' },
    plan: { tasks: ['passkey'], texts: ['perplexity'], lengths: [200, 300], n: 2, phrasing: 'natural' },
  });
  expect(value.cells.map((cell: { kind: string }) => cell.kind)).toEqual([
    ...new Array(4).fill('task'),
    ...new Array(4).fill('perplexity'),
  ]);
  // Random weights know nothing.
  for (const cell of value.cells.slice(0, 4)) expect(cell).toMatchObject({ n: 2, right: 0 });
  const [f32, int8] = value.cells.slice(4).map((cell: { result: { perplexity: number } }) => cell.result.perplexity);
  expect(f32).toBeGreaterThan(100);
  expect(int8 / f32).toBeCloseTo(1, 1);
});

test('a table for people; a text of their own', async () => {
  const text = join(root, 'text.txt');
  await writeFile(text, 'It was a dark and stormy night. '.repeat(20));
  const result = await run(`--tasks divergence --lengths 32 --n 1 --cache int8 --text ${text} --prefill layer`);
  expect(result).toMatchObject({ code: 0, stderr: '' });
  expect(result.stdout).toMatch(/measure +cache +window +windows +result\ndivergence +int8 +32 +1 +top-1 agreement/);
});

test('every recipe on every format, each once', async () => {
  const result = await run(
    '--tasks perplexity --lengths 128 --n 1 --cache f32,int8 --kv full --kv streaming-llm(budget=32) --kv {"method":"full"} --json',
  );
  expect(result).toMatchObject({ code: 0, stderr: '' });
  const { cells, plan } = JSON.parse(result.stdout);
  const names = ['f32', 'int8', 'streaming-llm(budget=32)', 'streaming-llm(budget=32) @ int8'];
  expect(cells.map((cell: { cache: string }) => cell.cache)).toEqual(names);
  expect(plan.caches.map((cache: { name: string }) => cache.name)).toEqual(names);
  const [full, , kept] = cells.map((cell: { result: { perplexity: number } }) => cell.result.perplexity);
  expect(kept).not.toBe(full);
});

test.each<[string, RegExp]>([
  ['--tasks nih', /no such task \(tasks: nih; allowed: strong, all, perplexity, divergence, niah-number, .*count\)/],
  ['--tasks=', /bad value of --tasks/],
  ['--lengths 512,x', /\(--lengths: 512,x; allowed: whole numbers from 1, parted by commas\)/],
  ['--lengths 5000', /a length does not fit the model \(lengths: 5000; allowed: whole numbers from 1 to 4096/],
  ['--lengths 20 --tasks vt-2x3', /task vt-2x3 does not fit 20 tokens/],
  ['--n 0', /\(--n: 0;/],
  ['--cache int3', /\(--cache: int3; allowed: f32, f16, int8; several parted by commas\)/],
  ['--meter wishful', /\(--meter: wishful; allowed: forced, greedy\)/],
  ['--phrasing rude', /\(--phrasing: rude; allowed: training, natural\)/],
  ['--tasks perplexity --text /absent', /the file cannot be read: ENOENT.* \(--text: \/absent;/],
])('refused: kvasir eval %s', async (line, message) => {
  const result = await run(line);
  expect(result).toMatchObject({ code: 2, stdout: '' });
  expect(result.stderr).toMatch(message);
});

test('Ctrl-C ends it with 130 and one line', async () => {
  const result = await runCli(['eval', '--model', llama, '--threads', '1', '--lengths', '512', '--n', '100'], {
    interrupts: fire => setTimeout(fire, 300),
  });
  expect(result.code).toBe(130);
  expect(result.stderr).toBe('kvasir: the evaluation was stopped\n');
});
