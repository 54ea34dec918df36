import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism, cpus, loadavg, release, totalmem } from 'node:os';
import { fileURLToPath } from 'node:url';

/** Two folders up from here in the repository (src) and in the package (dist). */
const ROOT = fileURLToPath(new URL('../../', import.meta.url));

/** What must be known to read, or repeat, a measurement. */
export interface Metadata {
  readonly date: string;
  readonly commit: string;
  /** Tracked files differed from the commit. */
  readonly dirty: boolean;
  readonly arguments: readonly string[];
  readonly machine: {
    readonly cpu: string;
    readonly cores: number;
    readonly memoryBytes: number;
    readonly system: string;
    readonly loadAverage: number;
  };
  readonly versions: Readonly<Record<string, string>>;
}

const PACKAGES = ['onnxruntime-node', 'onnxruntime-web', 'assemblyscript', '@huggingface/tokenizers'];

/** @param versions of peers and whatever else took part */
export function metadata(versions: Readonly<Record<string, string>> = {}): Metadata {
  const model = cpus()[0]?.model ?? 'unknown';
  return {
    date: new Date().toISOString(),
    commit: git('rev-parse', 'HEAD') ?? 'unknown',
    dirty: (git('status', '--porcelain', '--untracked-files=no') ?? '') !== '',
    arguments: process.argv.slice(2),
    machine: {
      cpu: model,
      cores: availableParallelism(),
      memoryBytes: totalmem(),
      system: `${process.platform} ${process.arch} ${release()}`,
      loadAverage: loadavg()[0],
    },
    versions: {
      kvasir: versionOf(`${ROOT}package.json`),
      node: process.version,
      ...Object.fromEntries(PACKAGES.map(name => [name, installed(name)])),
      ...versions,
    },
  };
}

/** What runs: the commit, with a hash of what differs from it; the version where there is no repository. */
export function codeVersion(): string {
  const commit = git('rev-parse', 'HEAD');
  if (commit === undefined) return versionOf(`${ROOT}package.json`);
  const changes = git('diff', 'HEAD');
  return changes === ''
    ? commit
    : `${commit} ${createHash('sha256')
        .update(changes ?? String(Date.now()))
        .digest('hex')}`;
}

function git(...args: string[]): string | undefined {
  // An installed package may lie in somebody else's repository.
  if (!existsSync(`${ROOT}.git`)) return undefined;
  try {
    return execFileSync('git', args, {
      cwd: ROOT,
      encoding: 'utf8',
      maxBuffer: 2 ** 28,
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim();
  } catch {
    return undefined;
  }
}

const versionOf = (path: string): string => (JSON.parse(readFileSync(path, 'utf8')) as { version: string }).version;

function installed(name: string): string {
  for (const folder of createRequire(import.meta.url).resolve.paths(name) ?? []) {
    try {
      return versionOf(`${folder}/${name}/package.json`);
    } catch {}
  }
  return 'absent';
}
