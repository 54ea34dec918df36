import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createEngine } from '../engine/index.ts';
import { nodeCatalogue } from '../model/hub/catalogue.node.ts';
import { type CliSetting, runCli } from './cli.testing.ts';

const models = fileURLToPath(new URL('../../test/models/', import.meta.url));
const llama = join(models, 'llama');
let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'kvasir-cli-model-'));
});
afterAll(() => rm(root, { recursive: true }));

/** The real engine, in this thread, on a tiny random model. */
const run = (line: string[], setting: CliSetting = {}) =>
  runCli(line, {
    catalogue: nodeCatalogue({ cache: root, bundled: join(root, 'none') }),
    createEngine: async options => createEngine({ ...options, threads: 1, cacheDir: root }),
    ...setting,
  });
const small = ['--model', llama, '--max-tokens', '12', '--temperature', '0', '--ignore-end'];

test('generate --json: one object with text, tokens, usage and timings', async () => {
  const result = await run(['generate', ...small, '--prompt', 'the history of', '--json']);
  expect(result).toMatchObject({ code: 0, stderr: '' });
  expect(result.stdout.trim().split('\n').length).toBe(1);
  const answer = JSON.parse(result.stdout);
  expect(answer).toMatchObject({ model: 'llama', finishReason: 'length', usage: { completionTokens: 12 } });
  expect(answer.tokens.length).toBe(12);
  expect(answer.usage.promptTokens).toBeGreaterThan(0);
  expect(answer.timings.prefillMs).toBeGreaterThan(0);
  expect(answer.cache.bytes).toBeGreaterThan(0);
  expect(answer.cache.items.exact).toBeGreaterThan(0);
  expect(answer.cache.parked).toBe(0);
});

test('the prompt may come from a file or standard input, and the answer is the same', async () => {
  const prompt = 'the history of\nÄpfel';
  await writeFile(join(root, 'prompt.txt'), prompt);
  const results = await Promise.all([
    run(['generate', ...small, '--prompt', prompt]),
    run(['generate', ...small, '--prompt-file', join(root, 'prompt.txt')]),
    run(['generate', ...small], { stdin: prompt }),
  ]);
  for (const result of results) expect(result).toMatchObject({ code: 0, stdout: results[0]!.stdout });
  expect(results[0]!.stdout.length).toBeGreaterThan(1);
});

test('the same seed gives the same answer, another seed another', async () => {
  const sampled = [
    'generate',
    '--model',
    llama,
    '--max-tokens',
    '16',
    '--temperature',
    '1.5',
    '--ignore-end',
    '--prompt',
    'x',
    '--json',
  ];
  const tokens = async (seed: string) => JSON.parse((await run([...sampled, '--seed', seed])).stdout).tokens;
  expect(await tokens('1')).toEqual(await tokens('1'));
  expect(await tokens('1')).not.toEqual(await tokens('2'));
});

test('--chat uses the template, --n several answers, --logprobs their probabilities', async () => {
  const line = [
    'generate',
    ...small,
    '--prompt',
    'hi',
    '--chat',
    '--system',
    'be brief',
    '--n',
    '2',
    '--logprobs',
    '1',
    '--json',
  ];
  const answer = JSON.parse((await run(line)).stdout);
  expect(answer.answers.length).toBe(2);
  expect(answer.answers[1].tokens).toEqual(answer.tokens);
  expect(answer.logprobs.length).toBe(12);
  expect(answer.logprobs[0].logprob).toBeLessThanOrEqual(0);
  const plain = await run(['generate', ...small, '--prompt', 'hi', '--n', '2']);
  expect(plain.stdout).toMatch(/^\[0\] [\s\S]*\n\[1\] /);
});

test('a request that the model refuses: exit 1 or 2, one line', async () => {
  const long = await run(['generate', ...small, '--prompt', 'word '.repeat(5000)]);
  expect(long.code).toBe(1);
  expect(long.stderr).toMatch(/^kvasir: [^\n]*\n$/);
  const bias = await run(['generate', ...small, '--prompt', 'x', '--logit-bias', '999999:1']);
  expect(bias).toMatchObject({ code: 2, stderr: expect.stringContaining('logitBias') });
});

test('Ctrl-C ends an answer with exit code 130', async () => {
  let fire = () => {};
  const line = ['generate', '--model', llama, '--max-tokens', '4000', '--ignore-end', '--prompt', 'x'];
  const result = await run(line, { interrupts: handler => (fire = handler), onStdout: () => fire() });
  expect(result).toMatchObject({ code: 130, stderr: expect.stringMatching(/^kvasir: /) });
});

test('score: as many log-probabilities as tokens; the sum is the text', async () => {
  const result = await run([
    'score',
    '--model',
    llama,
    '--prompt',
    'the history',
    '--continuation',
    ' of the city',
    '--top',
    '2',
    '--json',
  ]);
  const score = JSON.parse(result.stdout);
  expect(score.logprobs.length).toBe(score.tokens.length);
  expect(score.best.length).toBe(score.tokens.length);
  expect(score.top[0].length).toBe(2);
  expect(score.sum).toBeCloseTo(
    score.logprobs.reduce((sum: number, value: number) => sum + value, 0),
    9,
  );
  const table = await run(['score', '--model', llama, '--prompt', 'the history of the city']);
  expect(table.stdout).toMatch(/token +text +logprob[\s\S]*\d+ tokens, sum -[\d.]+, perplexity [\d.]+\n$/);
});

test('inspect: shape, types and what fits', async () => {
  const found = JSON.parse((await run(['inspect', llama, '--json', '--memory', '1G'])).stdout);
  expect(found).toMatchObject({
    architecture: 'llama',
    layers: 2,
    hidden: 64,
    heads: 4,
    kvHeads: 2,
    vocab: 320,
    context: 4096,
    chat: true,
  });
  expect(found.kvBytesPerToken.f32).toBe(2 * 2 * 2 * found.headDim * 4);
  expect(found.fits).toEqual({ f32: 4096, f16: 4096, int8: 4096 });
  expect(found.types.reduce((sum: number, type: { bytes: number }) => sum + type.bytes, 0)).toBe(found.weightBytes);
  const tight = JSON.parse(
    (await run(['inspect', join(models, 'gguf', 'q4_0.gguf'), '--json', '--memory', '1M'])).stdout,
  );
  expect(tight.fits.f32).toBeLessThan(tight.fits.int8);
  const shown = await run(['inspect', llama]);
  expect(shown.stdout).toMatch(/4 query, 2 KV[\s\S]*BF16[\s\S]*fits in/);
});

test('chat: turns, /stats, /reset, an unknown command, /exit', async () => {
  const stdin = 'hello\n/stats\n/reset\n/nonsense\n\nhello\n/exit\nnot read\n';
  const result = await run(['chat', ...small], { stdin });
  expect(result).toMatchObject({ code: 0, stderr: '' });
  const [first, ...rest] = result.stdout.split(/last turn: .*\n/);
  expect(rest.length).toBe(1);
  expect(rest[0]).toContain('unknown command /nonsense');
  // After a reset the same words get the same answer.
  expect(rest[0]!.trimEnd().endsWith(first!.trimEnd())).toBe(true);
});

test('chat: a second turn goes on from the first, from its cache', async () => {
  const result = await run(['chat', ...small], { stdin: 'hello\nand then\n/stats\n' });
  const cached = Number(/\((\d+) from the cache\)/.exec(result.stdout)?.[1]);
  expect(cached).toBeGreaterThan(10);
});

test('chat: a turn that is refused leaves the conversation as it was', async () => {
  const result = await run(['chat', ...small], { stdin: `hello\n${'word '.repeat(5000)}\nand then\n/stats\n` });
  expect(result.code).toBe(0);
  expect(result.stderr).toMatch(/^kvasir: [^\n]*\n$/);
  expect(result.stdout).toMatch(/last turn: \d+ prompt tokens/);
});

test('chat: a model without a chat template is refused', async () => {
  const plain = join(root, 'plain');
  await cp(llama, plain, { recursive: true });
  const config = JSON.parse(await readFile(join(plain, 'tokenizer_config.json'), 'utf8'));
  await writeFile(join(plain, 'tokenizer_config.json'), JSON.stringify({ ...config, chat_template: undefined }));
  const result = await run(['chat', '--model', plain]);
  expect(result).toMatchObject({ code: 1, stderr: expect.stringContaining('use kvasir generate') });
});

test('serve: answers on its port until Ctrl-C, with the options of the command line', async () => {
  let fire = () => {};
  let said = '';
  const address = Promise.withResolvers<string>();
  const stdin = new PassThrough();
  const running = run(['serve', '--model', llama, '--port', '0', '--cache', 'int8', '--json'], {
    stdin,
    interrupts: handler => (fire = handler),
    onStdout: text => {
      said += text;
      if (said.includes('\n')) address.resolve(JSON.parse(said).url);
    },
  });
  const url = await Promise.race([address.promise, running.then(result => Promise.reject(new Error(result.stderr)))]);
  const models = await (await fetch(`${url}/v1/models`)).json();
  expect(models.data.map((model: { id: string }) => model.id)).toContain('llama');
  const response = await fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'llama', prompt: 'the', max_tokens: 4, temperature: 0 }),
  });
  expect(response.status).toBe(200);
  expect((await response.json()).choices[0].text).toBeTypeOf('string');
  fire();
  expect(await running).toMatchObject({ code: 0, stderr: '' });
  await expect(fetch(url)).rejects.toThrow();
});

test('serve: an address of the network needs a key; a taken port is named', async () => {
  const open = await run(['serve', '--model', llama, '--host', '0.0.0.0']);
  expect(open).toMatchObject({ code: 2, stderr: expect.stringContaining('--api-key') });
  const other = createServer();
  await new Promise<void>(resolve => other.listen(0, '127.0.0.1', resolve));
  const { port } = other.address() as AddressInfo;
  const taken = await run(['serve', '--model', llama, '--port', String(port)]);
  expect(taken).toMatchObject({ code: 2, stderr: expect.stringContaining(`port ${port} is in use`) });
  await new Promise(resolve => other.close(resolve));
});

test('generate and score under a recipe', async () => {
  const text = 'the history of the history of the history of the history of the history of';
  const recipe = 'streaming-llm(budget=8, positions=kept)';
  const generated = await run(['generate', ...small, '--prompt', text, '--kv', ` ${recipe} `, '--json']);
  expect(generated).toMatchObject({ code: 0, stderr: '' });
  expect(JSON.parse(generated.stdout).cache).toMatchObject({ recipe, kept: 8 });

  const score = [
    'score',
    '--model',
    llama,
    '--prompt',
    text,
    '--continuation',
    ' the history',
    '--mode',
    'exact',
    '--json',
  ];
  const [full, kept] = [await run(score), await run([...score, '--kv', '[{"method":"streaming-llm","budget":8}]'])];
  expect(JSON.parse(kept.stdout).sum).not.toBeCloseTo(JSON.parse(full.stdout).sum, 6);
  expect(JSON.parse((await run([...score, '--kv', 'random(keep=1)'])).stdout).sum).toBeCloseTo(
    JSON.parse(full.stdout).sum,
    4,
  );
});
