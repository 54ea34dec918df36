import { randomUUID } from 'node:crypto';
import { mkdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { KvasirError } from '../../errors.ts';

export interface LockOptions {
  /** A lock whose file was not touched for this long belongs to nobody. Default 30 s. */
  staleMs?: number;
  /** Longest wait for another holder. Default 30 minutes. */
  waitMs?: number;
  pollMs?: number;
  signal?: AbortSignal | undefined;
  onWait?: () => void;
}

/** Holds `path` as a lock, across processes, while `work` runs. The lock of a process that died is taken over. */
export async function withLock<T>(path: string, options: LockOptions, work: () => Promise<T>): Promise<T> {
  const staleMs = options.staleMs ?? 30_000;
  const token = `${process.pid} ${hostname()} ${randomUUID()}`;
  const until = Date.now() + (options.waitMs ?? 30 * 60_000);
  await mkdir(dirname(path), { recursive: true });
  while (!(await tryLock(path, token))) {
    if (await isStale(path, staleMs)) {
      await takeAway(path);
      continue;
    }
    if (options.signal?.aborted)
      throw new KvasirError('aborted', 'stopped while another pull of this model was running');
    if (Date.now() > until) {
      throw new KvasirError('download_failed', 'another pull of this model is still running', {
        field: 'lock',
        value: path,
      });
    }
    options.onWait?.();
    await sleep(options.pollMs ?? 200);
  }
  const beat = setInterval(() => void utimes(path, new Date(), new Date()).catch(() => {}), staleMs / 5);
  beat.unref();
  try {
    return await work();
  } finally {
    clearInterval(beat);
    if ((await readFile(path, 'utf8').catch(() => '')) === token) await rm(path, { force: true });
  }
}

async function tryLock(path: string, token: string): Promise<boolean> {
  try {
    await writeFile(path, token, { flag: 'wx' });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

async function isStale(path: string, staleMs: number): Promise<boolean> {
  try {
    const [pid = '', host] = (await readFile(path, 'utf8')).split(' ');
    const age = Date.now() - (await stat(path)).mtimeMs;
    if (host === hostname() && !isAlive(Number(pid))) return true;
    return age > staleMs;
  } catch {
    return false; // Released between the two looks.
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** Of several that see the same stale lock, the rename succeeds for one. */
async function takeAway(path: string): Promise<void> {
  const aside = `${path}.${randomUUID()}`;
  await rename(path, aside).catch(() => {});
  await rm(aside, { force: true });
}
