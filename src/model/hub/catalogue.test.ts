import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { HubServer } from '../../../test/helpers/hub-server.ts';
import { ALIASES, findAlias } from './aliases.ts';
import { cacheDir } from './cache-dir.node.ts';
import { nodeCatalogue, resolveModel } from './catalogue.node.ts';
import { hubEndpoint } from './http.node.ts';
import { folderName } from './hub-id.ts';
import { pull } from './pull.node.ts';

let root: string;
let hub: HubServer;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'kvasir-catalogue-'));
  await mkdir(join(root, 'bundled'));
  await writeFile(join(root, 'bundled', 'mini.gguf'), 'GGUF');
  await mkdir(join(root, 'folder'));
  await writeFile(join(root, 'folder', 'config.json'), '{}');
  await mkdir(join(root, 'nothing'));
  await writeFile(join(root, 'notes.txt'), 'x');
  await writeFile(join(root, 'own.gguf'), 'GGUF1');
  hub = await HubServer.start();
  hub.add('me/one', { 'm.gguf': { bytes: Buffer.from('GGUF22'), lfs: true } });
  const endpoint = { url: hub.url, timeoutMs: 1000, attempts: 1, backoffMs: 1 };
  await pull('me/one', { cache: join(root, 'cache'), endpoint });
});
afterAll(async () => {
  await hub.stop();
  await rm(root, { recursive: true });
});

const catalogue = (paths: string[] = []) =>
  nodeCatalogue({ cache: join(root, 'cache'), bundled: join(root, 'bundled'), paths });

test('lists bundled, pulled and given models', async () => {
  const entries = await catalogue([join(root, 'own.gguf')]).list();
  expect(entries.map(({ name, kind, bytes, bundled }) => [name, kind, bytes, bundled])).toEqual([
    ['mini', 'gguf', 4, true],
    ['me/one', 'gguf', 6, false],
    ['own', 'gguf', 5, false],
  ]);
});

test('resolves names and paths', async () => {
  expect(await resolveModel(catalogue(), 'mini')).toEqual({ name: 'mini', path: join(root, 'bundled', 'mini.gguf') });
  expect(basename((await resolveModel(catalogue(), 'me/one')).path)).toBe('m.gguf');
  const own = join(root, 'own.gguf');
  expect(await resolveModel(catalogue(), own)).toEqual({ name: 'own', path: own });
  await writeFile(join(root, 'folder', 'model.safetensors'), 'x');
  expect(await resolveModel(catalogue(), join(root, 'folder'))).toMatchObject({ name: 'folder' });
});

test.each([
  ['absent', 'model_not_found', /no such model/],
  ['me/two', 'model_not_found', /no such model/],
  ['smollm2-135m', 'model_not_found', /kvasir pull smollm2-135m/],
  ['./absent', 'model_not_found', /no such file or folder/],
  ['absent.gguf', 'model_not_found', /no such file or folder/],
  ['$/notes.txt', 'bad_model_file', /not a model file/],
  ['$/nothing', 'bad_model_file', /not a model folder/],
])('refuses %s', async (model, code, text) => {
  const error = await resolveModel(catalogue(), model.replace('$', root)).catch(caught => caught);
  expect(error).toMatchObject({ code, field: 'model' });
  expect(error.message).toMatch(text);
});

test('a catalogue without cache folder or bundled models is empty', async () => {
  expect(await nodeCatalogue({ cache: join(root, 'no'), bundled: join(root, 'no') }).list()).toEqual([]);
});

test('aliases are complete', () => {
  for (const alias of ALIASES) {
    expect(findAlias(alias.name)).toBe(alias);
    expect(alias.sha256).toMatch(/^[0-9a-f]{64}$/);
    expect(alias.bytes).toBeGreaterThan(0);
    expect(alias.sources.length).toBeGreaterThan(1);
    expect(alias.file).toMatch(/^[\w.-]+\.gguf$/);
  }
  expect(new Set(ALIASES.map(alias => alias.name)).size).toBe(ALIASES.length);
});

test('where the cache folder is', () => {
  expect(cacheDir({ KVASIR_CACHE: '/a', XDG_CACHE_HOME: '/b' })).toBe('/a');
  expect(cacheDir({ XDG_CACHE_HOME: '/b' })).toBe('/b/kvasir');
  expect(cacheDir({ XDG_CACHE_HOME: 'relative' })).toMatch(/\.cache\/kvasir$/);
});

test('where the hub is', () => {
  expect(hubEndpoint({}).url).toBe('https://huggingface.co');
  expect(hubEndpoint({ HF_ENDPOINT: 'http://a/' }).url).toBe('http://a');
  expect(hubEndpoint({ KVASIR_HUB_URL: 'http://b/c', HF_ENDPOINT: 'http://a' }).url).toBe('http://b/c');
  expect(hubEndpoint({ HF_TOKEN: ' t ' }).token).toBe('t');
  for (const bad of ['ftp://x', 'x', 'http://u:p@x', 'http://x?y']) {
    expect(() => hubEndpoint({ KVASIR_HUB_URL: bad })).toThrow(/not a hub address/);
  }
});

test('folder names keep names apart', () => {
  const names = ['a/b', 'a--b', 'a-/b', 'a/-b', 'a:b', 'a/b:c', '..', '.a', 'ä', 'a=b', 'a=3db'];
  expect(new Set(names.map(folderName)).size).toBe(names.length);
  for (const name of names) expect(folderName(name)).toMatch(/^[A-Za-z0-9_=-][A-Za-z0-9._=-]*$/);
});
