import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Kernels } from '../src/backend/types.ts';
import type { FormatName } from '../src/cache/types.ts';
import type { LoadedModel } from '../src/engine/loaded-model.ts';
import { runForced } from '../src/engine/score.ts';
import type { Work } from '../src/engine/work.ts';
import { testPath } from './golden.ts';
import { openKernels, openLoaded } from './models.ts';

const TOKENS = Array.from({ length: 200 }, (_, i) => (i * 7919 + 13) % 300);
const CASES = [
  { name: 'exact, llama', path: testPath('models/llama'), mode: 'exact' },
  { name: 'fast, llama', path: testPath('models/llama'), mode: 'fast' },
  { name: 'fast, Q4_1', path: testPath('models/gguf/q4_1.gguf'), mode: 'fast' },
  { name: 'fast, Gemma 3', path: testPath('models/gemma3'), mode: 'fast' },
] as const;

let kernels: Kernels[];
beforeAll(async () => {
  kernels = [await openKernels(1), await openKernels(2)];
});
afterAll(async () => {
  for (const each of kernels) await each.dispose();
});

const pages = (format: FormatName) => ({ owner: 'test', pages: { formatK: format, formatV: format } });

/** All logits of TOKENS, by position. */
async function logitsOf(
  on: Kernels,
  { path, mode }: (typeof CASES)[number],
  tile: number,
  run: (model: LoadedModel, take: (at: number, logits: Float32Array) => void) => Promise<void>,
): Promise<Float32Array[]> {
  const model = await openLoaded(on, path, { mode, tile, deterministic: true });
  const rows: Float32Array[] = [];
  await run(model, (at, logits) => {
    rows[at] = logits.slice();
  });
  await model.dispose();
  return rows;
}

/** Other sequences share the calls; the prefix comes from a fork. */
async function amongOthers(model: LoadedModel, format: FormatName, take: (at: number, logits: Float32Array) => void) {
  const first = model.cache.create(pages(format));
  await runForced(model.forward, first, TOKENS.slice(0, 70), 'token', 0, (work, row, logits) =>
    take(work.position + row, logits),
  );
  const forked = first.fork();
  const stranger = model.cache.create(pages(format));
  for (let at = 70; at < TOKENS.length; at += 10) {
    const works: Work[] = [
      { sequence: stranger, tokens: TOKENS, from: at, rows: 3, position: stranger.position, logits: 'none' },
      { sequence: forked, tokens: TOKENS, from: at, rows: 10, position: at, logits: 'all' },
      { sequence: first, tokens: TOKENS, from: at - 50, rows: 1, position: first.position, logits: 'none' },
    ];
    for (const work of works) work.sequence.prepareAppend(work.rows);
    await model.forward.step(works, (work, row, logits) => take(work.position + row, logits));
  }
  for (const sequence of [first, forked, stranger]) sequence.free();
}

describe.each(CASES)('deterministic mode gives the same bits however the work is cut: $name', which => {
  test.each(['f32', 'f16', 'int8'] as const)('%s pages', async format => {
    const forced =
      (order: 'token' | 'layer') => async (model: LoadedModel, take: (at: number, logits: Float32Array) => void) => {
        const sequence = model.cache.create(pages(format));
        await runForced(model.forward, sequence, TOKENS, order, 0, (work, row, logits) =>
          take(work.position + row, logits),
        );
        sequence.free();
      };
    const reference = await logitsOf(kernels[0]!, which, 256, forced('token'));
    const others = {
      'tiles of 1': await logitsOf(kernels[1]!, which, 1, forced('token')),
      'tiles of 63': await logitsOf(kernels[1]!, which, 63, forced('token')),
      'layer-major': await logitsOf(kernels[1]!, which, 64, forced('layer')),
      'forked and batched': await logitsOf(kernels[1]!, which, 64, (model, take) => amongOthers(model, format, take)),
    };
    for (const [name, rows] of Object.entries(others)) {
      const differ = rows.findIndex((row, at) => row.some((value, id) => !Object.is(value, reference[at]![id])));
      expect(rows.length, name).toBe(TOKENS.length);
      expect(differ, `${name}: first position whose bits differ`).toBe(-1);
    }
  });
});
