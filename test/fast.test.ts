import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Kernels } from '../src/backend/types.ts';
import type { LoadedModel } from '../src/engine/loaded-model.ts';
import { argmax, logSumExp } from '../src/engine/sampler.ts';
import { runForced } from '../src/engine/score.ts';
import type { LoadOptions } from '../src/engine/types.ts';
import { testPath } from './golden.ts';
import { BUNDLED, openKernels, openLoaded, pulled } from './models.ts';

const TOKENS = 2000;
const smollm2 = pulled('KVASIR_SMOLLM2', 'models/smollm2-135m/SmolLM2-135M-Instruct.Q4_1.gguf');

let kernels: Kernels;
beforeAll(async () => {
  kernels = await openKernels();
});
afterAll(() => kernels.dispose());

async function forced(
  path: string,
  options: Partial<LoadOptions>,
  format: 'f32' | 'f16' | 'int8',
  sink: (at: number, logits: Float32Array) => void,
): Promise<void> {
  const model: LoadedModel = await openLoaded(kernels, path, options);
  const text = readFileSync(testPath('../corpus/wizard-of-oz.txt'), 'utf8');
  const tokens = model.tokenizer.encode(text.slice(0, 5 * TOKENS)).slice(0, TOKENS);
  expect(tokens).toHaveLength(TOKENS);
  const sequence = model.cache.create({ owner: 'test', pages: { formatK: format, formatV: format } });
  await runForced(model.forward, sequence, tokens, 'token', 0, (work, row, logits) =>
    sink(work.position + row, logits),
  );
  sequence.free();
  await model.dispose();
}

/** Top-1 agreement and mean KL divergence (nats) from the f32 cache in exact mode, over forced tokens of a book. */
async function divergence(path: string, options: Partial<LoadOptions>, format: 'f32' | 'f16' | 'int8') {
  const reference: Float32Array[] = [];
  await forced(path, { mode: 'exact' }, 'f32', (at, logits) => {
    reference[at] = logits.slice();
  });
  let agree = 0;
  let kl = 0;
  await forced(path, options, format, (at, logits) => {
    const exact = reference[at]!;
    if (argmax(exact) === argmax(logits)) agree++;
    const [p, q] = [logSumExp(exact), logSumExp(logits)];
    for (let id = 0; id < logits.length; id++) kl += Math.exp(exact[id]! - p) * (exact[id]! - p - (logits[id]! - q));
  });
  return { agreement: agree / TOKENS, kl: kl / TOKENS };
}

describe('fast mode stays close to exact mode over 2,000 forced tokens', () => {
  test('kvasir-mini', async () => {
    const { agreement, kl } = await divergence(BUNDLED, { mode: 'fast' }, 'f32');
    console.log(`kvasir-mini, fast: agreement ${agreement}, KL ${kl.toFixed(5)}`);
    expect(agreement).toBeGreaterThanOrEqual(0.99);
    expect(kl).toBeLessThanOrEqual(0.01);
  });

  test.skipIf(!smollm2)('SmolLM2-135M (runs after `kvasir pull smollm2-135m`, or with KVASIR_SMOLLM2)', async () => {
    const { agreement, kl } = await divergence(smollm2!, { mode: 'fast' }, 'f32');
    console.log(`smollm2-135m, fast: agreement ${agreement}, KL ${kl.toFixed(5)}`);
    expect(agreement).toBeGreaterThanOrEqual(0.99);
    expect(kl).toBeLessThanOrEqual(0.01);
  });
});

describe('page formats lose little against f32 pages over 2,000 forced tokens', () => {
  test.each([
    ['f16', 0.995, 0.0005],
    ['int8', 0.98, 0.005],
  ] as const)('%s', async (format, atLeast, atMost) => {
    const { agreement, kl } = await divergence(BUNDLED, { mode: 'exact' }, format);
    console.log(`kvasir-mini, ${format} pages: agreement ${agreement}, KL ${kl.toFixed(5)}`);
    expect(agreement).toBeGreaterThanOrEqual(atLeast);
    expect(kl).toBeLessThanOrEqual(atMost);
  });
});
