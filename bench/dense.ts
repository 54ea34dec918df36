import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { denseProvider } from '../src/backend/cpu/dense/index.ts';
import { bumpMemory, logitBlock, rowBlock } from '../src/backend/cpu/dense/testing.ts';
import type { NumericMode } from '../src/backend/types.ts';
import { openModel } from '../src/model/open.node.ts';
import { digits, table } from './lib/table.ts';

/**
 * Speed of the token-wise part alone (no attention): all segments, by rows in a call; best and median of many.
 *   node bench/dense.ts <model> [mode] [provider] [threads]
 */
const [path, mode = 'fast', provider = 'native', threads = '2'] = process.argv.slice(2);
if (path === undefined) {
  console.error('usage: node bench/dense.ts <model> [fast|exact] [native|wasm] [threads]');
  process.exit(2);
}
const file = await openModel(path);
const { config } = file;
const cacheDir = mkdtempSync(join(tmpdir(), 'kvasir-bench-'));
const memory = bumpMemory(512 << 20);
const model = await (await denseProvider(provider as 'native' | 'wasm')).load(file, memory, {
  mode: mode as NumericMode,
  threads: Number(threads),
  deterministic: false,
  cacheDir,
});

const lines: string[][] = [];
for (const rows of [1, 2, 4, 8, 16, 64, 256, 512]) {
  const block = rowBlock(memory, config, rows);
  const random = () => Math.random() - 0.5;
  const repeats = Math.max(4, Math.min(60, Math.round(400 / rows)));
  const segments = await times(repeats, async () => {
    for (const data of [block.hidden, block.attention]) for (let i = 0; i < data.length; i++) data[i] = random();
    const started = performance.now();
    for (let layer = 0; layer <= config.layers; layer++) await model.segment(layer, block);
    return performance.now() - started;
  });
  const head = logitBlock(memory, config, Math.min(rows, 32));
  const logits = await times(Math.min(repeats, 20), async () => {
    const started = performance.now();
    await model.logits(head);
    return performance.now() - started;
  });
  const ids = Int32Array.from({ length: rows }, () => Math.floor(Math.random() * config.vocab));
  const embed = await times(5, async () => {
    const started = performance.now();
    await model.embed(ids, block.hidden);
    return performance.now() - started;
  });
  const rate = (1000 * rows) / segments.best;
  lines.push([String(rows), ...[segments.best, segments.median, rate, logits.best, embed.best].map(digits)]);
}
console.log(table(['rows', 'best ms', 'median ms', 'tokens/s', 'head ms (<= 32 rows)', 'embed ms'], lines));
await model.dispose();
await file.close();
rmSync(cacheDir, { recursive: true });
process.exit(0);

async function times(repeats: number, run: () => Promise<number>): Promise<{ best: number; median: number }> {
  const all: number[] = [];
  for (let i = 0; i < repeats; i++) all.push(await run());
  all.sort((a, b) => a - b);
  return { best: all[0], median: all[all.length >> 1] };
}
