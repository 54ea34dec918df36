import { expect, test } from 'vitest';
import type { Arena } from '../src/backend/cpu/arena.ts';
import { argmax } from '../src/engine/sampler.ts';
import { testPath } from './golden.ts';
import { openKernels, openLoaded } from './models.ts';

test.each(['f32', 'f16', 'int8'] as const)('a decode step within a page allocates nothing (%s)', async format => {
  const kernels = await openKernels();
  const memory = kernels.memory as Arena;
  const model = await openLoaded(kernels, testPath('models/llama'), { mode: 'fast' });
  const sequence = model.cache.create({ owner: 'test', pages: { formatK: format, formatV: format } });
  const tokens = [1];
  const step = async () => {
    const from = tokens.length - 1;
    sequence.prepareAppend(1);
    await model.forward.step(
      [{ sequence, tokens, from, rows: 1, position: from, logits: 'last' }],
      (_w, _r, logits) => {
        tokens.push(argmax(logits));
      },
    );
  };
  // The first step makes the arrays of a one-row block; each 64th takes a page a head.
  for (let i = 0; i < 65; i++) await step();
  const before = { allocations: memory.allocations, held: memory.held, views: model.forward.workspace.views };
  for (let i = 0; i < 63; i++) await step();
  expect({ allocations: memory.allocations, held: memory.held, views: model.forward.workspace.views }).toEqual(before);
  await step();
  expect(memory.allocations).toBeGreaterThan(before.allocations);
  sequence.free();
  await model.dispose();
  await kernels.dispose();
});
