import { expect, test } from 'vitest';
import type { Arena } from '../src/backend/cpu/arena.ts';
import { argmax } from '../src/engine/sampler.ts';
import { testPath } from './golden.ts';
import { openKernels, openLoaded } from './models.ts';
import { force, Written } from './recipes.ts';

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

/** How many arrays of floats of more than a few values are made meanwhile. */
async function arraysMade(work: () => Promise<unknown>): Promise<number> {
  const { Float32Array: original } = globalThis;
  let made = 0;
  globalThis.Float32Array = new Proxy(original, {
    construct(target, given, of) {
      if (given.length === 1 && given[0] > 16) made++;
      return Reflect.construct(target, given, of === globalThis.Float32Array ? target : of);
    },
  });
  try {
    await work();
  } finally {
    globalThis.Float32Array = original;
  }
  return made;
}

test.each([
  'h2o(budget=96)',
  'tova(budget=96)',
  'cake(budget=96)',
  'treekv(budget=96, positions=kept)',
  'streaming-llm(budget=96, positions=kept)',
])('under %s steps take memory for pages that fill up alone, and make no arrays', async kv => {
  const kernels = await openKernels();
  const memory = kernels.memory as Arena;
  const model = await openLoaded(kernels, testPath('models/qwen3'), { mode: 'exact' });
  const tokens = (count: number) => Array.from({ length: count }, (_, i) => 3 + ((i * 7919) % 200));
  {
    using written = new Written(model, kv);
    await written.prompt(tokens(300));
    await force(written, tokens(300));
    const before = { footprint: memory.footprint, views: model.forward.workspace.views };
    const { allocations } = memory;
    const steps = 320;
    const made = await arraysMade(() => force(written, tokens(steps)));
    expect(made).toBeLessThan(steps / 10);
    expect({ footprint: memory.footprint, views: model.forward.workspace.views }).toEqual(before);
    // A page and its positions every 64 steps, and again where a view is packed.
    const { slots, kvHeads } = model.cache.shape;
    expect(memory.allocations - allocations).toBeLessThan((6 * steps * slots * kvHeads) / 64);
  }
  await model.dispose();
  await kernels.dispose();
});
