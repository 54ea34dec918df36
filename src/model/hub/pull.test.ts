import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type HubFault, HubServer, sha256 } from '../../../test/helpers/hub-server.ts';
import { KvasirError } from '../../errors.ts';
import type { Alias } from './aliases.ts';
import type { Endpoint } from './http.node.ts';
import { pull } from './pull.node.ts';
import { findShelved, listShelved } from './shelf.node.ts';

let hub: HubServer;
let cache: string;
let endpoint: Endpoint;
const bytes = Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * 2654435761) >>> 24));

beforeEach(async () => {
  hub = await HubServer.start();
  cache = await mkdtemp(join(tmpdir(), 'kvasir-pull-'));
  endpoint = { url: hub.url, timeoutMs: 300, attempts: 3, backoffMs: 5 };
});
afterEach(async () => {
  await hub.stop();
  await rm(cache, { recursive: true, force: true });
});

const addFile = (fault?: HubFault) => hub.add('me/one', { 'm.gguf': { bytes, lfs: true, ...(fault && { fault }) } });
const failure = async (work: Promise<unknown>) => {
  const error = await work.then(
    () => undefined,
    caught => caught,
  );
  expect(error).toBeInstanceOf(KvasirError);
  return error as KvasirError;
};
/** Everything under the cache that a later `models` could take for a model's file. */
const finished = async () =>
  (await readdir(cache, { recursive: true })).filter(name => /\.(gguf|safetensors)$/.test(name));

test('pulls the only GGUF of a repository, byte for byte, with progress', async () => {
  addFile();
  const seen: number[] = [];
  const model = await pull('me/one', {
    cache,
    endpoint,
    onProgress: at => at.phase === 'download' && seen.push(at.received),
  });
  expect(model).toMatchObject({ name: 'me/one', kind: 'gguf', bytes: bytes.length, source: `${hub.url}/me/one` });
  expect((await readFile(model.path)).equals(bytes)).toBe(true);
  expect(seen.at(-1)).toBe(bytes.length);
  expect(seen).toEqual([...seen].sort((a, b) => a - b));
  expect(hub.downloads.map(request => request.host)).toEqual(['hub', 'cdn']);
});

test('a second pull of the same content downloads nothing', async () => {
  addFile();
  const first = await pull('me/one', { cache, endpoint });
  const before = hub.downloads.length;
  expect(await pull('me/one', { cache, endpoint })).toEqual(first);
  expect(hub.downloads.length).toBe(before);
});

test('new content replaces the old version only when it is whole', async () => {
  addFile();
  const old = await pull('me/one', { cache, endpoint });
  const next = Buffer.from(bytes).fill(7, 0, 10);
  hub.add('me/one', { 'm.gguf': { bytes: next, lfs: true, fault: { corrupt: true } } });
  await failure(pull('me/one', { cache, endpoint }));
  expect((await findShelved(cache, 'me/one'))?.version).toBe(old.version);
  hub.add('me/one', { 'm.gguf': { bytes: next, lfs: true } });
  const now = await pull('me/one', { cache, endpoint });
  expect((await readFile(now.path)).equals(next)).toBe(true);
  expect(existsSync(old.path)).toBe(false);
});

test('a named file of several, in a subfolder, at a revision', async () => {
  hub.add('me/many', { 'a.gguf': { bytes, lfs: true }, 'sub/b c.gguf': { bytes: bytes.subarray(1), lfs: true } });
  const model = await pull('me/many@v1:sub/b c.gguf', { cache, endpoint });
  expect((await readFile(model.path)).equals(bytes.subarray(1))).toBe(true);
  expect((await listShelved(cache)).map(entry => entry.name)).toEqual(['me/many@v1:sub/b c.gguf']);
});

test('a Hugging Face folder: the files that matter, small ones by their git digest', async () => {
  const json = (value: unknown) => ({ bytes: Buffer.from(JSON.stringify(value)) });
  hub.pageSize = 3;
  hub.add('me/folder', {
    '.gitattributes': json('x'),
    'README.md': json('x'),
    'config.json': json({ a: 1 }),
    'tokenizer.json': json({ b: 2 }),
    'empty.txt': { bytes: Buffer.alloc(0) },
    'merges.txt': { bytes: Buffer.alloc(0) },
    'model-00001-of-00002.safetensors': { bytes, lfs: true },
    'model-00002-of-00002.safetensors': { bytes: bytes.subarray(9), lfs: true },
    'model.safetensors.index.json': json({}),
    'consolidated.safetensors': { bytes, lfs: true },
    'onnx/model.onnx': { bytes, lfs: true },
  });
  const model = await pull('me/folder', { cache, endpoint });
  expect(model.kind).toBe('folder');
  expect((await readdir(model.path)).sort()).toEqual([
    'config.json',
    'merges.txt',
    'model-00001-of-00002.safetensors',
    'model-00002-of-00002.safetensors',
    'model.safetensors.index.json',
    'tokenizer.json',
  ]);
});

test('a broken connection is continued by a range, within one pull', async () => {
  addFile({ cut: { after: 100_000, times: 2 } });
  const model = await pull('me/one', { cache, endpoint });
  expect((await readFile(model.path)).equals(bytes)).toBe(true);
  const ranges = hub.downloads.filter(request => request.host === 'cdn').map(request => request.range);
  expect(ranges).toEqual([undefined, 'bytes=100000-', 'bytes=200000-']);
});

test('an interrupted pull is continued by the next one', async () => {
  addFile({ cut: { after: 50_000, times: 1 } });
  const stop = new AbortController();
  const error = await failure(
    pull('me/one', {
      cache,
      endpoint,
      signal: stop.signal,
      onProgress: at => at.received > 0 && stop.abort(),
    }),
  );
  expect(error.code).toBe('aborted');
  expect(await finished()).toEqual([]);
  expect(await listShelved(cache)).toEqual([]);
  hub.requests.length = 0;
  const model = await pull('me/one', { cache, endpoint });
  expect((await readFile(model.path)).equals(bytes)).toBe(true);
  expect(hub.downloads[0]!.range).toMatch(/^bytes=[1-9]\d*-$/);
});

test('a part of a file that has changed meanwhile is not continued', async () => {
  addFile({ cut: { after: 50_000, times: 99 }, ignoreRange: true });
  await failure(pull('me/one', { cache, endpoint }));
  const next = Buffer.from(bytes).reverse();
  hub.add('me/one', { 'm.gguf': { bytes: next, lfs: true } });
  hub.requests.length = 0;
  const model = await pull('me/one', { cache, endpoint });
  expect((await readFile(model.path)).equals(next)).toBe(true);
  expect(hub.downloads.every(request => request.range === undefined)).toBe(true);
});

test.each([
  ['ignores ranges', { cut: { after: 50_000, times: 1 }, ignoreRange: true }],
  ['refuses ranges', { cut: { after: 50_000, times: 1 }, refuseRange: true }],
  ['answers another range', { cut: { after: 50_000, times: 1 }, wrongRange: 5 }],
  ['ends the body early, without a length', { truncate: { after: 70_000, times: 2 } }],
  ['is overloaded for a while', { status: { code: 503, times: 2 } }],
  ['asks to slow down', { status: { code: 429, times: 1 } }],
] satisfies [string, HubFault][])('gets the file from a server that %s', async (_, fault) => {
  addFile(fault);
  const model = await pull('me/one', { cache, endpoint });
  expect((await readFile(model.path)).equals(bytes)).toBe(true);
});

test.each([
  ['corrupts the file', { corrupt: true }, 'checksum_mismatch', /was deleted/],
  ['sends more than it said', { extra: 10 }, 'download_failed', /more than the 300000 bytes/],
  ['always breaks off', { cut: { after: 0, times: 99 } }, 'download_failed', /3 attempts without progress/],
  ['always ends the body early', { truncate: { after: 0, times: 99 } }, 'download_failed', /ended the file after 0/],
  ['stops in the middle', { stall: true }, 'download_failed', /no byte came for 0.3 s, 3 attempts/],
  ['redirects in a circle', { loop: true }, 'download_failed', /redirects more than 5 times/],
  ['is overloaded for ever', { status: { code: 503, times: 99 } }, 'download_failed', /answered 503/],
  ['says a strange status', { status: { code: 418, times: 99 } }, 'download_failed', /answered 418/],
  ['redirects to no web address', { downgrade: 'ftp://x' }, 'download_failed', /address that is not allowed/],
] satisfies [string, HubFault, string, RegExp][])(
  'a server that %s: error, nothing listed',
  async (_, fault, code, text) => {
    addFile(fault);
    const error = await failure(pull('me/one', { cache, endpoint }));
    expect(error.code).toBe(code);
    expect(error.message).toMatch(text);
    expect(await finished()).toEqual([]);
    expect(await listShelved(cache)).toEqual([]);
  },
);

test('size and digest come from the listing where the redirect says none', async () => {
  addFile({ noSize: true });
  expect((await pull('me/one', { cache, endpoint })).bytes).toBe(bytes.length);
});

test('a gated repository wants a token, which the CDN never sees', async () => {
  addFile();
  hub.gated.set('me/one', 'secret');
  const error = await failure(pull('me/one', { cache, endpoint }));
  expect(error).toMatchObject({ code: 'download_failed', field: 'HF_TOKEN', value: 'not set' });
  expect(error.message).toContain('gated');
  await pull('me/one', { cache, endpoint: { ...endpoint, token: 'secret' } });
  const sent = hub.requests.filter(request => request.authorization);
  expect(sent.length).toBeGreaterThan(0);
  expect(sent.every(request => request.host === 'hub' && request.authorization === 'Bearer secret')).toBe(true);
});

test('pulls of the same model at once: one download, the same files', async () => {
  addFile();
  const models = await Promise.all([1, 2, 3].map(() => pull('me/one', { cache, endpoint })));
  expect(new Set(models.map(model => model.path)).size).toBe(1);
  expect(hub.downloads.filter(request => request.host === 'cdn').length).toBe(1);
  expect((await readdir(join(cache, 'models'))).sort()).toEqual(['me--one']);
});

test('the lock of a process that died does not hold up a pull', async () => {
  addFile();
  await mkdir(join(cache, 'models'), { recursive: true });
  await writeFile(join(cache, 'models', 'me--one.lock'), `999999999 ${hostname()} x`);
  expect((await pull('me/one', { cache, endpoint })).bytes).toBe(bytes.length);
});

test('a torn file, a damaged manifest and a foreign folder are not listed', async () => {
  addFile();
  const model = await pull('me/one', { cache, endpoint });
  await mkdir(join(cache, 'models', 'stray'));
  await writeFile(join(cache, 'models', 'stray', 'kvasir.json'), '{"name":"me/one"');
  expect((await listShelved(cache)).map(entry => entry.name)).toEqual(['me/one']);
  await writeFile(model.path, bytes.subarray(5));
  expect(await listShelved(cache)).toEqual([]);
  expect((await pull('me/one', { cache, endpoint })).bytes).toBe(bytes.length);
});

test('a cache folder that cannot be written is an error that names it', async () => {
  addFile();
  const file = join(cache, 'file');
  await writeFile(file, '');
  const error = await failure(pull('me/one', { cache: file, endpoint }));
  expect(error).toMatchObject({ code: 'download_failed', field: 'KVASIR_CACHE' });
});

test('a file that is bigger than the disk is refused before a byte is asked for', async () => {
  addFile({ announce: 2 ** 52 });
  const error = await failure(pull('me/one', { cache, endpoint }));
  expect(error).toMatchObject({ code: 'download_failed', field: 'KVASIR_CACHE' });
  expect(error.message).toBe('not enough space on the disk');
  expect(String(error.allowed)).toMatch(/4503599627370496 more bytes free \(there are \d+\)/);
  expect(hub.downloads).toEqual([]);
});

test('a file that is shorter or longer than listed is refused', async () => {
  addFile({ announce: bytes.length + 1 });
  expect((await failure(pull('me/one', { cache, endpoint }))).code).toBe('download_failed');
  addFile({ announce: bytes.length - 1 });
  expect((await failure(pull('me/one', { cache, endpoint }))).code).toBe('download_failed');
  expect(await finished()).toEqual([]);
});

test('a hub that cannot be reached', async () => {
  const error = await failure(pull('me/one', { cache, endpoint: { ...endpoint, url: 'http://127.0.0.1:1' } }));
  expect(error.code).toBe('download_failed');
  expect(error.message).toMatch(/cannot reach 127.0.0.1:1 .*3 attempts/);
});

const alias = (over: Partial<Alias> = {}): Alias => ({
  name: 'tiny',
  description: '',
  license: '',
  file: 'm.gguf',
  bytes: bytes.length,
  sha256: sha256(bytes),
  sources: [
    { type: 'hub', repo: 'me/gone', revision: 'main', file: 'm.gguf' },
    { type: 'hub', repo: 'me/one', revision: 'main', file: 'm.gguf' },
  ],
  ...over,
});

test('an alias goes from source to source and says which one gave the file', async () => {
  addFile();
  const model = await pull('tiny', { cache, endpoint, aliases: [alias()] });
  expect(model).toMatchObject({ name: 'tiny', source: 'hub file me/one:m.gguf' });
  expect((await readFile(model.path)).equals(bytes)).toBe(true);
  const before = hub.requests.length;
  await pull('tiny', { cache, endpoint, aliases: [alias()] });
  expect(hub.requests.length).toBe(before);
});

test('an alias refuses a file that is not the pinned one, and names every source', async () => {
  addFile();
  const wrong = alias({ sha256: 'a'.repeat(64) });
  const error = await failure(pull('tiny', { cache, endpoint, aliases: [wrong] }));
  expect(error.message).toMatch(/no source gave the model .*me\/gone:m.gguf: .*me\/one:m.gguf: .*not the file/);
  expect(await finished()).toEqual([]);
});

test.each([
  ['nothing', /no such alias/],
  ['me/none', /refused access \(401\)/],
  ['me/one@v9', /no such revision/],
  ['me/one:x.gguf', /no such file/],
  ['me/several', /several GGUF files/],
  ['me/split:a-00001-of-00002.gguf', /split/],
  ['me/empty', /no model that can be read/],
  ['../etc/passwd', /not a hub id/],
  ['me/one:../../x.gguf', /not a file inside/],
  ['me/one:/etc/x.gguf', /not a file inside/],
  ['me/one:C:\\x.gguf', /not a file inside/],
  ['me/one:readme.md', /not a .gguf/],
  ['me/one@../x', /no revision/],
  ['me/one@', /no revision/],
  ['me/', /no owner or repository/],
  ['/me', /no owner or repository/],
  ['me/a..b', /no owner or repository/],
  ['me/one/two', /not a hub id/],
  ['https://example.com/me/one', /not a hub id/],
  ['me/one\n', /not a hub id/],
  [`me/${'x'.repeat(400)}`, /longer than/],
])('refuses %j', async (name, text) => {
  addFile();
  hub.add('me/several', { 'a.gguf': { bytes, lfs: true }, 'b.gguf': { bytes, lfs: true } });
  hub.add('me/split', { 'a-00001-of-00002.gguf': { bytes, lfs: true } });
  hub.add('me/empty', { 'README.md': { bytes } });
  const error = await failure(pull(name, { cache, endpoint }));
  expect(error.message).toMatch(text);
  expect(await finished()).toEqual([]);
});

test('several GGUF files: the error lists what to write', async () => {
  hub.add('me/several', { 'a.gguf': { bytes, lfs: true }, 'b.gguf': { bytes, lfs: true } });
  const error = await failure(pull('me/several@v1', { cache, endpoint }));
  expect(error.allowed).toEqual(['me/several@v1:a.gguf', 'me/several@v1:b.gguf']);
});

test.each(['html', 'endless', 'traversal'] as const)('a listing that is %s is refused', async kind => {
  addFile();
  hub.listing = kind;
  const error = await failure(pull('me/one', { cache, endpoint }));
  expect(['download_failed', 'invalid_request']).toContain(error.code);
  expect(await finished()).toEqual([]);
});
