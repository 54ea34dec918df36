import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { denseProvider } from '../src/backend/cpu/dense/index.ts';
import { bumpMemory } from '../src/backend/cpu/dense/testing.ts';
import type { NumericMode } from '../src/backend/types.ts';
import { openModel } from '../src/model/open.node.ts';
import { resident } from './lib/memory.ts';

/**
 * Load time and peak resident memory of the dense part, each load in a fresh process: first (repacking) and second.
 *   node bench/load.ts <model> [mode] [provider] [threads]
 * The bound is 1.5 times the repacked weights plus 200 MB.
 */
const [path, mode = 'fast', provider = 'native', threads = '2', cacheDir] = process.argv.slice(2);
if (path === undefined) {
  console.error('usage: node bench/load.ts <model> [fast|exact] [native|wasm] [threads]');
  process.exit(2);
}

if (cacheDir === undefined) measure();
else await child(cacheDir);

function measure(): void {
  const folder = mkdtempSync(join(tmpdir(), 'kvasir-load-'));
  let failed = false;
  try {
    for (const name of ['first', 'second']) {
      const { stdout, stderr, status } = spawnSync(
        process.execPath,
        [fileURLToPath(import.meta.url), path, mode, provider, threads, folder],
        { encoding: 'utf8' },
      );
      if (status !== 0) throw new Error(stderr);
      const { ms, bytes, peak, base } = JSON.parse(stdout.trim().split('\n').at(-1)!) as Record<string, number>;
      const limit = 1.5 * bytes + 200e6;
      failed ||= peak > limit;
      console.log(
        `${name.padEnd(7)} ${ms.toFixed(0).padStart(6)} ms   weights ${mb(bytes)}   peak ${mb(peak)} of ${mb(limit)} allowed   (before: ${mb(base)})`,
      );
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
  process.exitCode = failed ? 1 : 0;
}

async function child(folder: string): Promise<void> {
  const base = resident().now;
  const started = performance.now();
  const file = await openModel(path);
  const model = await (await denseProvider(provider as 'native' | 'wasm')).load(file, bumpMemory(1 << 20), {
    mode: mode as NumericMode,
    threads: Number(threads),
    deterministic: false,
    cacheDir: folder,
  });
  const ms = performance.now() - started;
  console.log(JSON.stringify({ ms, bytes: model.bytes, peak: resident().peak, base }));
  await model.dispose();
  await file.close();
}

function mb(bytes: number): string {
  return `${(bytes / 1e6).toFixed(0)} MB`;
}
