import { createHash } from 'node:crypto';
import { createReadStream, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createEngine } from '../../src/engine/index.ts';
import type { EngineApi } from '../../src/engine/types.ts';
import { agreement, readLlamaGolden } from './golden.ts';
import { PROMPTS } from './prompts.ts';
import { findSmolLM2 } from './smollm2.ts';

const golden = readLlamaGolden();
const f32 = golden.cases.flatMap(each => each.f32);
const native = golden.cases.flatMap(each => each.native);
/** llama.cpp against itself: its float32 run of these weights against its 8-bit run. */
const own = agreement(
  f32.map(([best]) => best),
  native,
);

test('the golden file holds 20 prompts of 128 forced tokens', () => {
  expect(golden.cases.length).toBe(20);
  for (const { prompt, forced, f32, native, nativeSingle } of golden.cases) {
    expect(prompt.length).toBeGreaterThan(0);
    expect([forced, f32, native, nativeSingle].map(list => list.length)).toEqual([128, 128, 128, 128]);
    for (const [best, second, p, q] of [...f32, ...native]) {
      expect(best).not.toBe(second);
      expect(p).toBeGreaterThanOrEqual(q);
    }
  }
});

const found = await findSmolLM2();
const skipped = 'why' in found;

describe.skipIf(skipped)(`SmolLM2-135M beside llama.cpp${skipped ? ` (${found.why})` : ''}`, () => {
  const path = skipped ? '' : found.path;
  let cacheDir: string;
  beforeAll(() => {
    cacheDir = mkdtempSync(join(tmpdir(), 'kvasir-parity-'));
  });
  afterAll(() => rmSync(cacheDir, { recursive: true, force: true }));

  test('the file is the one that the golden was made with', async () => {
    const hash = createHash('sha256');
    await pipeline(createReadStream(path), hash);
    expect(hash.digest('hex')).toBe(golden.model.sha256);
  });

  describe.each(['exact', 'fast'] as const)('%s', mode => {
    let engine: EngineApi;
    beforeAll(async () => {
      engine = createEngine({ threads: 2, cacheDir });
      await engine.load({ name: 'smollm2', path, mode, context: 1024 });
    }, 120_000);
    afterAll(() => engine?.dispose());

    test('prompts become the same tokens', async () => {
      for (const [index, text] of PROMPTS.entries()) {
        expect(await engine.tokenize('smollm2', text, { addBos: false })).toEqual(golden.cases[index].prompt);
      }
    });

    test("the best tokens are llama.cpp's", async () => {
      const best: number[] = [];
      for (const { prompt, forced } of golden.cases) {
        best.push(...(await engine.score({ model: 'smollm2', prompt, continuation: forced })).best);
      }
      const exact = agreement(best, f32);
      const rounded = agreement(best, native);
      const say = (share: number): string => `${(100 * share).toFixed(2)} %`;
      console.info(
        `${mode}: ${say(exact.share)} of llama.cpp's best tokens in float32, ${say(rounded.share)} of those it gives with 8-bit activations, ` +
          `where its own float32 run gives ${say(own.share)}`,
      );
      expect.soft(exact.share).toBeGreaterThanOrEqual(0.98);
      expect.soft(exact.gaps.filter(gap => gap > 0.1)).toEqual([]);
      // Rounding activations moves llama.cpp's own logits by more than a tenth; nobody can be asked to be nearer than it is to itself.
      expect.soft(rounded.share).toBeGreaterThanOrEqual(own.share - 0.005);
    }, 600_000);
  });
});
