import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { profilePath, readProfile } from '../engine/profile.node.ts';
import { openModelForEval } from '../eval/open.node.ts';
import { runCli } from './cli.testing.ts';

const llama = fileURLToPath(new URL('../../test/models/llama', import.meta.url));
const bundled = fileURLToPath(new URL('../../models/kvasir-mini.gguf', import.meta.url));
let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'kvasir-cli-calibrate-'));
  vi.stubEnv('KVASIR_CACHE', root);
});
afterAll(async () => {
  vi.unstubAllEnvs();
  await rm(root, { recursive: true });
});

const run = (...line: string[]) => runCli(['calibrate', ...line, '--model', llama, '--threads', '1']);
const open = () => openModelForEval({ name: 'llama', path: llama }, { threads: 1 });

test.each(['razor-attention', 'kvquant', 'prefixkv', 'rotatekv', 'epicache'])(
  '%s: refused before, and the engine finds what was made',
  async kind => {
    {
      await using before = await open();
      // RotateKV serves without: channels then keep their order; EpiCache too: layers then keep alike.
      if (kind === 'rotatekv' || kind === 'epicache') expect(before.model.program(kind)!.text).toBe(kind);
      else expect(() => before.model.program(kind)).toThrowError(`kvasir calibrate ${kind} --model`);
    }
    const result = await run(kind, '--json');
    expect(result).toMatchObject({ code: 0, stderr: '' });
    const { path, fingerprint, bytes, ...rest } = JSON.parse(result.stdout);
    expect(rest).toEqual({ model: 'llama', kind });
    expect(path).toBe(profilePath(fingerprint, kind));
    expect(path.startsWith(root)).toBe(true);
    expect((await readFile(path)).length).toBe(bytes);
    await using after = await open();
    expect(after.model.info.fingerprint).toBe(fingerprint);
    expect(after.model.program(kind)!.text).toBe(kind);
  },
);

test('--text and --out: another text, another place, another profile', async () => {
  const text = join(root, 'text.txt');
  await writeFile(text, 'It was a dark and stormy night, and the rain fell in torrents. '.repeat(40));
  const out = join(root, 'deep', 'profile.json');
  const result = await run('kvquant', '--text', text, '--out', out);
  expect(result).toMatchObject({ code: 0, stderr: '' });
  expect(result.stdout).toMatch(/^\S+profile\.json: the kvquant profile of llama, \d+ bytes\n$/);
  const made = JSON.parse(await readFile(out, 'utf8'));
  expect(made).not.toEqual(await readProfile('none.gguf', made.fingerprint, 'kvquant'));
  // Nothing half-written stays.
  expect(await readdir(join(root, 'deep'))).toEqual(['profile.json']);
});

test('the bundled model comes with all profiles', async () => {
  await using opened = await openModelForEval({ name: 'kvasir-mini', path: bundled }, { threads: 1 });
  for (const kind of ['razor-attention', 'kvquant', 'prefixkv', 'rotatekv', 'epicache']) {
    expect(opened.model.program(kind)!.text).toBe(kind);
    const file = bundled.replace('.gguf', `.${kind}.json`);
    expect(JSON.parse(await readFile(file, 'utf8')).fingerprint).toBe(opened.model.info.fingerprint);
    expect((await readFile(file)).length).toBeLessThan(300_000);
  }
});

test.each<[string[], RegExp]>([
  [[], /method is missing \(method; allowed: razor-attention, kvquant, prefixkv, rotatekv or epicache\)/],
  [['snapkv'], /no profile is made for this \(method: snapkv; allowed: razor-attention, .*, rotatekv, epicache\)/],
  [['kvquant', 'kivi'], /too many arguments/],
  [['kvquant', '--kv', 'kivi'], /unknown option \(option: --kv;/],
  [['kvquant', '--text', '/absent'], /the file cannot be read: ENOENT.* \(--text: \/absent;/],
  [['razor-attention', '--text', llama], /reads no text: its probe is random tokens \(--text: /],
  [['kvquant', '--out', ''], /bad value of --out/],
])('refused: kvasir calibrate %j', async (line, message) => {
  const result = await run(...line);
  expect(result).toMatchObject({ code: 2, stdout: '' });
  expect(result.stderr).toMatch(message);
});

test('a text of a few words, and a place that cannot be written, are refused', async () => {
  const short = join(root, 'short.txt');
  await writeFile(short, 'Hello!');
  const result = await run('kvquant', '--text', short);
  expect(result).toMatchObject({ code: 2, stdout: '' });
  expect(result.stderr).toMatch(/the calibration text is too short \(text: \d+ tokens; allowed: at least 64 tokens\)/);
  const nowhere = await run('razor-attention', '--out', join(short, 'x.json'));
  expect(nowhere).toMatchObject({ code: 2, stdout: '' });
  expect(nowhere.stderr).toMatch(/the profile cannot be written: .* \(--out: /);
});

test('Ctrl-C ends it with 130 and leaves no file', async () => {
  const out = join(root, 'stopped.json');
  const line = ['calibrate', 'razor-attention', '--model', llama, '--threads', '1', '--out', out];
  // A listener is there before the first step.
  const result = await runCli(line, { interrupts: fire => fire() });
  expect(result).toMatchObject({ code: 130, stderr: 'kvasir: the calibration was stopped\n' });
  expect(await readFile(out).catch(() => null)).toBeNull();
});
