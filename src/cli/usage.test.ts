import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { KvasirError } from '../errors.ts';
import { nodeCatalogue } from '../model/hub/catalogue.node.ts';
import { runCli } from './cli.testing.ts';
import { errorLine } from './report.ts';

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'kvasir-cli-'));
  await writeFile(join(root, 'notes.txt'), 'not a model');
  await writeFile(join(root, 'binary'), Buffer.from([0xff, 0xfe, 0xc0]));
});
afterAll(() => rm(root, { recursive: true }));

const run = (...argv: string[]) => {
  const env = { KVASIR_CACHE: root };
  const catalogue = nodeCatalogue({ cache: root, bundled: root });
  return runCli(
    argv.map(word => word.replace('$', root)),
    { env, catalogue },
  );
};

test.each<[string, number, RegExp]>([
  [
    'frobnicate',
    2,
    /unknown command \(command: frobnicate; allowed: chat, generate, serve, pull, models, methods, inspect, score, compare, tune, eval, scbench, calibrate, bench\)/,
  ],
  ['--frobnicate', 2, /unknown option \(option: --frobnicate; allowed: --version, --help\)/],
  ['generate --frobnicate', 2, /unknown option \(option: --frobnicate; allowed: --model, .*--json, --help\)/],
  ['generate extra', 2, /too many arguments \(arguments: extra/],
  ['generate --prompt', 2, /--prompt needs a value/],
  ['generate --prompt x --max-tokens', 2, /--max-tokens needs a value \(--max-tokens; allowed: .*an integer from 1/],
  ['generate --prompt x --max-tokens 0', 2, /\(--max-tokens: 0; allowed: an integer from 1/],
  ['generate --prompt x --max-tokens 1.5', 2, /\(--max-tokens: 1.5;/],
  ['generate --prompt x --max-tokens ten', 2, /\(--max-tokens: ten;/],
  ['generate --prompt x --max-tokens --json', 2, /\(--max-tokens: --json;/],
  ['generate --prompt x --temperature 2.1', 2, /\(--temperature: 2.1; allowed: a number from 0 to 2\)/],
  ['generate --prompt x --temperature -1', 2, /\(--temperature: -1;/],
  ['generate --prompt x --temperature NaN', 2, /\(--temperature: NaN;/],
  ['generate --prompt x --temperature Infinity', 2, /\(--temperature: Infinity;/],
  ['generate --prompt x --temperature=', 2, /\(--temperature: ;/],
  ['generate --prompt x --top-p 0', 2, /\(--top-p: 0; allowed: a number above 0/],
  ['generate --prompt x --top-k -1', 2, /\(--top-k: -1;/],
  ['generate --prompt x --min-p 1.1', 2, /\(--min-p: 1.1;/],
  ['generate --prompt x --repetition-penalty 0', 2, /\(--repetition-penalty: 0;/],
  ['generate --prompt x --frequency-penalty 3', 2, /\(--frequency-penalty: 3;/],
  ['generate --prompt x --seed -1', 2, /\(--seed: -1;/],
  ['generate --prompt x --stop=', 2, /\(--stop: ; allowed: text that is not empty\)/],
  ['generate --prompt x --logit-bias 5', 2, /\(--logit-bias: 5; allowed: token:bias/],
  ['generate --prompt x --logit-bias 5:101', 2, /\(--logit-bias: 5:101;/],
  ['generate --prompt x --prefill diagonal', 2, /\(--prefill: diagonal; allowed: token, layer\)/],
  ['generate --prompt x --mode exakt', 2, /\(--mode: exakt; allowed: fast, exact\)/],
  ['generate --prompt x --provider cuda', 2, /\(--provider: cuda; allowed: auto, native, wasm\)/],
  ['generate --prompt x --cache int3', 2, /\(--cache: int3; allowed: f32, f16, int8\)/],
  ['generate --prompt x --tile 0', 2, /\(--tile: 0;/],
  ['generate --prompt x --threads 0', 2, /\(--threads: 0;/],
  ['generate --prompt x --memory 12', 2, /\(--memory: 12; allowed: bytes, or a number with K, M, G or T/],
  ['generate --prompt x --memory 1Q', 2, /\(--memory: 1Q;/],
  ['generate --prompt x --n 17', 2, /\(--n: 17;/],
  ['generate --prompt x --logprobs 3', 2, /--logprobs needs --json/],
  ['generate --prompt x --system y', 2, /--system needs --chat/],
  ['generate --prompt x --prompt-file y', 2, /two prompts \(--prompt-file: y/],
  ['generate --prompt-file $/absent', 2, /the prompt cannot be read: ENOENT/],
  ['generate --prompt-file $/binary', 2, /the prompt cannot be read: .*allowed: UTF-8 text/],
  ['generate --prompt-file $', 2, /the prompt cannot be read: EISDIR/],
  ['generate --prompt x --model=', 2, /\(--model: ;/],
  ['generate --prompt x --model absent', 1, /no such model \(model: absent; allowed: none\)/],
  ['generate --prompt x --model smollm2-135m', 1, /kvasir pull smollm2-135m/],
  ['generate --prompt x --model $/absent.gguf', 1, /no such file or folder/],
  ['generate --prompt x --model $/notes.txt', 1, /not a model file/],
  ['generate --prompt x --model $', 1, /not a model folder/],
  ['serve --port 65536', 2, /\(--port: 65536; allowed: an integer from 0 to 65535\)/],
  ['serve --port http', 2, /\(--port: http;/],
  ['serve --max-running 0', 2, /\(--max-running: 0;/],
  ['inspect', 2, /model is missing \(model; allowed: a name from/],
  ['inspect absent', 1, /no such model/],
  ['inspect a b', 2, /too many arguments/],
  ['score --top 21', 2, /\(--top: 21;/],
  ['models --all', 2, /unknown option/],
  ['pull', 2, /model is missing/],
  ['pull nothing', 1, /no such alias \(model: nothing; allowed: smollm2-135m, gemma3-270m, owner\/repo/],
  ['pull ../x', 2, /not a hub id/],
  ['pull a/b:../../x.gguf', 2, /not a file inside/],
  ['pull a/b:c.bin', 2, /not a .gguf/],
  ['bench nothing', 2, /no such benchmark|not part of the package/],
])('kvasir %s', async (line, code, text) => {
  const result = await run(...line.split(' '));
  expect(result.stderr).toMatch(/^kvasir: [^\n]*\n$/);
  expect(result.stderr).toMatch(text);
  if (!line.startsWith('bench')) expect(result.code).toBe(code);
  expect(result.code).toBeGreaterThan(0);
  if (!line.includes('--json')) expect(result.stdout).toBe('');
});

test('no prompt on a terminal', async () => {
  const { Readable } = await import('node:stream');
  const stdin = Object.assign(Readable.from([]), { isTTY: true });
  const result = await runCli(['generate'], { stdin });
  expect(result).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/no prompt .*--prompt-file or text on standard input/),
  });
});

test('with --json the error is an object on stdout', async () => {
  const result = await run('generate', '--prompt', 'x', '--temperature', '9', '--json');
  expect(result.code).toBe(2);
  expect(JSON.parse(result.stdout)).toEqual({
    error: {
      code: 'invalid_request',
      message: 'bad value of --temperature',
      field: '--temperature',
      value: '9',
      allowed: 'a number from 0 to 2',
    },
  });
});

test('an error is one line without control characters', () => {
  const error = new KvasirError('invalid_request', 'a\nb', { field: 'f', value: '\u001b[31mred\r\n', allowed: [] });
  expect(errorLine(error)).toBe('kvasir: a b (f:  [31mred ; allowed: none)');
});

test('help tells every option with what it accepts', async () => {
  const result = await run('generate', '--help');
  expect(result).toMatchObject({ code: 0, stderr: '' });
  for (const part of [
    '--temperature <number>',
    'a number from 0 to 2',
    '--cache <format>',
    'f32, f16, int8',
    '--json',
  ]) {
    expect(result.stdout).toContain(part);
  }
  const options = result.stdout.split('\n').filter(line => /^ {2}-/.test(line));
  expect(options.length).toBeGreaterThan(25);
});

test.each(['chat', 'generate', 'serve', 'pull', 'models', 'inspect', 'score', 'bench'])(
  'kvasir %s --help',
  async command => {
    const result = await run(command, '--help');
    expect(result).toMatchObject({ code: 0, stderr: '' });
    expect(result.stdout).toMatch(/^Usage: kvasir /);
  },
);

test('without a command: help on stderr; --version and --help on stdout', async () => {
  expect(await run()).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining('Usage: kvasir') });
  expect(await run('--help')).toMatchObject({ code: 0, stdout: expect.stringContaining('inspect') });
  expect((await run('--version')).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
});
