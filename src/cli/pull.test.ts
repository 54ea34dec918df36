import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { HubServer } from '../../test/helpers/hub-server.ts';
import { nodeCatalogue } from '../model/hub/catalogue.node.ts';
import { runCli } from './cli.testing.ts';

let hub: HubServer;
let cache: string;
const bytes = Buffer.alloc(200_000, 'kvasir');

beforeAll(async () => {
  hub = await HubServer.start();
  hub.add('me/one', { 'm.gguf': { bytes, lfs: true } });
  hub.add('me/slow', { 'm.gguf': { bytes, lfs: true, fault: { stall: true } } });
  cache = await mkdtemp(join(tmpdir(), 'kvasir-cli-pull-'));
});
afterAll(async () => {
  await hub.stop();
  await rm(cache, { recursive: true });
});

const setting = () => ({
  env: { KVASIR_CACHE: cache, KVASIR_HUB_URL: hub.url },
  catalogue: nodeCatalogue({ cache, bundled: join(cache, 'none') }),
});

test('pull, then models lists it', async () => {
  const pulled = await runCli(['pull', 'me/one', '--json'], setting());
  expect(pulled).toMatchObject({ code: 0, stderr: '' });
  const model = JSON.parse(pulled.stdout);
  expect(model).toMatchObject({ name: 'me/one', kind: 'gguf', bytes: bytes.length });
  expect((await readFile(model.path)).equals(bytes)).toBe(true);
  const listed = JSON.parse((await runCli(['models', '--json'], setting())).stdout);
  expect(listed.models).toEqual([{ ...model, bundled: false }]);
  expect(listed.available.map((alias: { name: string }) => alias.name)).toContain('smollm2-135m');
  const table = await runCli(['models'], setting());
  expect(table.stdout).toMatch(/^name +kind +size +source\nme\/one +gguf +195.3 KiB +http/);
  expect(table.stdout).toContain('kvasir pull smollm2-135m');
});

test('what was pulled but is no model is refused when it is used', async () => {
  const result = await runCli(['inspect', 'me/one', '--json'], setting());
  expect(result.code).toBe(1);
  expect(JSON.parse(result.stdout).error.code).toBe('bad_model_file');
});

test('Ctrl-C stops a pull with exit code 130', async () => {
  let fire = () => {};
  const running = runCli(['pull', 'me/slow'], { ...setting(), interrupts: handler => (fire = handler) });
  const start = Date.now();
  while (!hub.downloads.some(request => request.path.startsWith('/me/slow'))) {
    if (Date.now() - start > 5000) throw new Error('the pull did not start');
    await new Promise(resolve => setTimeout(resolve, 10));
  }
  fire();
  expect(await running).toMatchObject({
    code: 130,
    stderr: expect.stringMatching(/^kvasir: the download was stopped/),
  });
});

test.each([
  ['me/none', 1, /refused access \(401\).*HF_TOKEN: not set/],
  ['me/one@v9', 1, /no such revision/],
  ['me/one:absent.gguf', 1, /no such file \(model: me\/one:absent.gguf; allowed: me\/one:m.gguf\)/],
])('pull %s', async (name, code, text) => {
  const result = await runCli(['pull', name], setting());
  expect(result).toMatchObject({ code, stdout: '' });
  expect(result.stderr).toMatch(text);
});

test('a hub address or cache folder that cannot be used', async () => {
  const wrong = await runCli(['pull', 'me/one'], { env: { KVASIR_CACHE: cache, KVASIR_HUB_URL: 'hub' } });
  expect(wrong).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/not a hub address \(KVASIR_HUB_URL: hub; allowed: an http/),
  });
  await writeFile(join(cache, 'file'), '');
  const blocked = await runCli(['pull', 'me/one'], { env: { ...setting().env, KVASIR_CACHE: join(cache, 'file') } });
  expect(blocked).toMatchObject({ code: 1, stderr: expect.stringMatching(/cache folder cannot be used \(E\w+\)/) });
});
