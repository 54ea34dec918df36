import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';

const bin = fileURLToPath(new URL('./bin.ts', import.meta.url));
const llama = fileURLToPath(new URL('../../test/models/llama', import.meta.url));
const long = ['generate', '--model', llama, '--prompt', 'x', '--max-tokens', '3000', '--ignore-end', '--threads', '1'];
let cache: string;
beforeAll(async () => {
  cache = await mkdtemp(join(tmpdir(), 'kvasir-bin-'));
});
afterAll(() => rm(cache, { recursive: true }));

interface Ended {
  readonly code: number | null;
  readonly signal: string | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A process of its own: its signals and pipes are real. `meanwhile` runs when it has printed something. */
async function run(argv: string[], meanwhile: (child: ChildProcess) => void = () => {}): Promise<Ended> {
  const child = spawn(process.execPath, [bin, ...argv], { env: { ...process.env, KVASIR_CACHE: cache } });
  child.stdin.end();
  let stdout = '';
  let stderr = '';
  child.stdout.once('data', () => meanwhile(child));
  child.stdout.on('data', text => {
    stdout += text;
  });
  child.stderr.on('data', text => {
    stderr += text;
  });
  return new Promise(resolve => {
    child.on('close', (code, signal) => resolve({ code, signal, stdout, stderr }));
  });
}

test('an answer from a process of its own', async () => {
  const ended = await run([...long.slice(0, 5), '--max-tokens', '4', '--temperature', '0', '--ignore-end', '--json']);
  expect(ended).toMatchObject({ code: 0, stderr: '' });
  expect(JSON.parse(ended.stdout).tokens.length).toBe(4);
});

test('a reader that goes ends the work without an error', async () => {
  const ended = await run(long, child => child.stdout?.destroy());
  expect(ended).toMatchObject({ code: 0, signal: null, stderr: '' });
});

test('SIGINT ends tidily with 130', async () => {
  const ended = await run(long, child => child.kill('SIGINT'));
  expect(ended).toMatchObject({ code: 130, signal: null, stderr: 'kvasir: the request was aborted\n' });
});

test('an error ends with its code and one line', async () => {
  const ended = await run(['generate', '--model', 'absent', '--prompt', 'x']);
  expect(ended).toMatchObject({ code: 1, stdout: '', stderr: expect.stringMatching(/^kvasir: no such model .*\n$/) });
});
