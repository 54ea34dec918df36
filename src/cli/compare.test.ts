import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { runCli } from './cli.testing.ts';

let folder: string;
const file = (name: string) => join(folder, name);
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kvasir-compare-cli-'));
  await writeFile(file('empty.txt'), '');
  await writeFile(file('comments.txt'), '# nothing\n  # yet\n\n');
  await writeFile(file('binary'), Uint8Array.from([0x7f, 0x45, 0x4c, 0x46, 0x80, 0xff, 0xc3]));
  await writeFile(
    file('notes.txt'),
    `The gate opens at nine. ${'Nothing else is known of it. '.repeat(12)}It closes at four.`,
  );
});
afterAll(() => rm(folder, { recursive: true }));

describe('kvasir compare refuses', () => {
  test.each([
    [['--recipes', 'empty.txt'], '--recipes', 'recipes, one a line'],
    [['--recipes', 'comments.txt'], '--recipes', 'recipes, one a line'],
    [['--recipes', 'absent.txt'], '--recipes', 'a file of UTF-8 text'],
    [['--text', 'binary'], '--text', 'a file of UTF-8 text'],
    [['--text', 'empty.txt', '--kv', 'kivi'], '--text', 'a text that is not empty'],
    [['--question', '   '], '--question', 'text that is not blank'],
    [['--text', 'notes.txt', '--length', '9000'], '--length', 'the context of the model'],
  ])('%j', async (given, flag, allowed) => {
    const argv = given.map(word => (/^[a-z]+(\.txt)?$/.test(word) && word !== 'kivi' ? file(word) : word));
    const { code, stderr, stdout } = await runCli(['compare', ...argv]);
    expect(code).toBe(2);
    expect(stderr).toContain(`(${flag}`);
    expect(stderr).toContain(allowed);
    expect(stdout).toBe('');
  });
});

test('kvasir compare takes the whole text, says so, and says how long it took', async () => {
  const argv = ['compare', '--text', file('notes.txt'), '--question', 'When does it close?', '--kv', 'kivi'];
  const { code, stdout, stderr } = await runCli([
    ...argv,
    '--state',
    file('state.json'),
    '--rounds',
    '1',
    '--steps',
    '4',
  ]);
  expect(stderr).toBe('');
  expect(code).toBe(0);
  const [, taken, whole] = /^(\d+) of (\d+) tokens of notes\.txt taken$/m.exec(stdout)!;
  expect(taken).toBe(whole);
  expect(stdout).toMatch(/^took \d/m);
  const again = await runCli([...argv, '--state', file('state.json'), '--rounds', '1', '--steps', '4', '--json']);
  const result = JSON.parse(again.stdout);
  expect(result.run.reused).toBe(8);
  expect(result.plan).toMatchObject({ taken: Number(taken), whole: Number(whole) });
  const exact = await runCli([
    ...argv,
    '--state',
    file('state.json'),
    '--rounds',
    '1',
    '--steps',
    '4',
    '--mode',
    'exact',
  ]);
  expect(exact).toMatchObject({ code: 2, stderr: expect.stringContaining('the file holds another comparison') });
});

test('kvasir compare fails where the full cache does', async () => {
  const argv = ['compare', '--length', '512', '--kv', 'kivi', '--rounds', '1', '--steps', '4', '--cache-memory', '1M'];
  const { code, stdout, stderr } = await runCli([...argv, '--fresh', '--html', file('report.html')]);
  expect(code).toBe(1);
  expect(stdout).toMatch(/^full +failed/m);
  expect(stderr).toContain('the full cache failed');
});
