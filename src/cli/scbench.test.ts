import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { runCli } from './cli.testing.ts';

const llama = fileURLToPath(new URL('../../test/models/llama', import.meta.url));
let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'kvasir-cli-scbench-'));
});
afterAll(() => rm(root, { recursive: true }));

const run = (line: string) => runCli(['scbench', '--model', llama, '--threads', '1', ...line.split(' ')]);

test('--json and --out: cells with their run, the full cache along with what was named', async () => {
  const out = join(root, 'result.json');
  const result = await run(
    `--tasks mf,choice_eng --lengths 1200 --n 1 --kv streaming-llm(budget=64) --write all --split tune --json --out ${out}`,
  );
  expect(result).toMatchObject({ code: 0, stderr: '' });
  const value = JSON.parse(result.stdout);
  expect(JSON.parse(await readFile(out, 'utf8'))).toEqual(value);
  expect(value).toMatchObject({
    model: { name: 'llama' },
    run: { machine: expect.any(Object) },
    plan: { tasks: ['mf', 'choice_eng'], modes: ['multi-turn', 'multi-request'], phrasing: 'natural', split: 'tune' },
  });
  expect(value.cells.length).toBe(8);
  for (const cell of value.cells) {
    expect(cell).toMatchObject({ n: 1, length: 1200, generator: expect.stringMatching(/^[0-9a-f]{8}$/) });
    expect(cell.turns.length).toBe(5);
    expect(cell.scores[0].length).toBe(5);
  }
  expect(value.cells.slice(0, 2).map((cell: { cache: string }) => cell.cache)).toEqual([
    'f32',
    'streaming-llm(budget=64)',
  ]);
});

test('tables for people; without answers no scores', async () => {
  const result = await run('--tasks mf --lengths 300 --n 1 --modes multi-request --kv h2o');
  expect(result).toMatchObject({ code: 0, stderr: '' });
  expect(result.stdout).not.toContain('Scores:');
  expect(result.stdout).toMatch(
    /^Divergence from the full cache by task: .*\n\ncache +mode +tokens +mf\nf32 +multi-request/,
  );
  expect(result.stdout).toMatch(/\n\nBy category: .*\n\ncache +mode +global +nats +top-1 +KL\nf32 +multi-request/);
  expect(result.stdout).toMatch(/\n\nBy turn: /);
  expect(result.stdout).toMatch(/\n\nStages: .*\n\ncache.*\nf32 +multi-request .*\nh2o +multi-request /);
});

test.each<[string, RegExp]>([
  ['--tasks hashhop', /no such task \(tasks: hashhop; allowed: all, kv, prefix_suffix, .*repoqa_and_kv\)/],
  ['--modes single', /\(--modes: single; allowed: multi-turn, multi-request; both parted by a comma\)/],
  ['--lengths 0', /\(--lengths: 0;/],
  ['--lengths 20', /task kv does not fit a context of 20 tokens \(lengths: 20; allowed: a greater length\)/],
  ['--lengths 5000', /lengths cannot be used like this \(lengths: 5000; allowed: whole numbers below 4096/],
  ['--n 0', /\(--n: 0;/],
  ['--kv snapkv(keep=2)', /keep/],
  ['--split train', /\(--split: train; allowed: test, tune\)/],
  ['--own-answers --write none', /write cannot be used like this \(write: none; allowed: all or able/],
])('refused: kvasir scbench %s', async (line, message) => {
  const result = await run(line);
  expect(result).toMatchObject({ code: 2, stdout: '' });
  expect(result.stderr).toMatch(message);
});

test('Ctrl-C ends it with 130 and one line', async () => {
  const result = await runCli(['scbench', '--model', llama, '--threads', '1', '--lengths', '900', '--n', '100'], {
    interrupts: fire => setTimeout(fire, 300),
  });
  expect(result.code).toBe(130);
  expect(result.stderr).toBe('kvasir: the evaluation was stopped\n');
});
