import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { testPath } from '../../../test/golden.ts';
import { openKernels, openLoaded } from '../../../test/models.ts';
import type { Kernels } from '../../backend/types.ts';
import type { CacheSequence } from '../../cache/sequence.ts';
import type { AttentionSignal, PerHead, Policy } from '../../methods/types.ts';
import { LayerPrefill } from '../layer-prefill.ts';
import type { LoadedModel } from '../loaded-model.ts';
import { Program } from '../program/program.ts';
import { Run } from '../program/run.ts';
import { runForced } from '../score.ts';
import { embedPassages } from './passages.ts';
import { probe } from './probe.ts';

const OF_PROBE: AttentionSignal = { signal: 'attention', from: 'probe', rows: 1, reduce: 'sum' };
const OF_PROMPT: AttentionSignal = { signal: 'attention', rows: 'all', reduce: 'sum' };
const LAST: AttentionSignal = { signal: 'attention', rows: 1, reduce: 'sum' };

let kernels: Kernels;
let model: LoadedModel;

beforeAll(async () => {
  kernels = await openKernels();
  model = await openLoaded(kernels, testPath('models/llama'), { deterministic: true, tile: 16 });
});
afterAll(async () => {
  await model.dispose();
  await kernels.dispose();
});

function tokensOf(count: number, seed: number): number[] {
  return Array.from({ length: count }, (_, i) => (i * 7919 + seed * 104729) % model.info.vocab);
}

async function prompt(policy: Policy, tokens: readonly number[]) {
  const program = new Program('', [{ name: 'test', policy }], model.shape, false);
  const sequence = model.cache.create({ owner: 'test', pages: program.pages('f32') });
  const run = new Run(program, sequence, model.forward.recipes, 0);
  const prefill = new LayerPrefill(model.forward, sequence, tokens, 0, run);
  let logits = new Float32Array();
  try {
    while (!(await prefill.next()));
    await prefill.finish('last', (_work, _row, values) => {
      logits = values.slice();
    });
  } catch (error) {
    sequence.free();
    throw error;
  } finally {
    prefill.dispose();
  }
  return { sequence, logits };
}

function content(sequence: CacheSequence) {
  const { layers, kvHeads } = model.info;
  const views = Array.from({ length: layers * kvHeads }, (_, view) => {
    const [slot, head] = [Math.floor(view / kvHeads), view % kvHeads];
    return { ...sequence.read(slot, head), refs: sequence.refCount(slot, head), next: sequence.nextPosition(slot) };
  });
  return { views, position: sequence.position };
}

describe('rows that run beside a prompt', () => {
  test.each([
    [1, 1, undefined],
    [64, 40, undefined],
    [65, 63, 64],
    [150, 17, 33],
  ])('%i tokens, %i probe rows, chunk %s: nothing of them stays', async (rows, probed, chunk) => {
    const chunked = chunk ? { chunk } : {};
    const plain = await prompt({ ...chunked, sense: () => [OF_PROMPT], decide: () => [] }, tokensOf(rows, 1));
    let seen = 0;
    const beside = await prompt(
      {
        ...chunked,
        probe: () => tokensOf(probed, 2),
        sense: () => [OF_PROBE, OF_PROMPT],
        decide(at) {
          expect(at.signal(OF_PROBE)[0]).toHaveLength(at.entries(0));
          for (const p of at.signal(OF_PROBE)) expect(p.reduce((a, b) => a + b, 0)).toBeCloseTo(1, 4);
          for (const p of at.signal(OF_PROMPT)) expect(p.reduce((a, b) => a + b, 0)).toBeCloseTo(at.rows, 2);
          expect(at.entries(0)).toBe(at.seen);
          seen++;
          return [];
        },
      },
      tokensOf(rows, 1),
    );
    expect(seen).toBe(model.info.layers * (chunk ? Math.ceil(rows / chunk) : 1));
    expect(content(beside.sequence)).toEqual(content(plain.sequence));
    expect(beside.logits).toEqual(plain.logits);
    const next = tokensOf(20, 3);
    for (const { sequence } of [plain, beside]) await runForced(model.forward, sequence, next, 'token', 20, () => {});
    expect(content(beside.sequence)).toEqual(content(plain.sequence));
    plain.sequence.free();
    beside.sequence.free();
  });

  test('look at what is cached as rows that come next do, each other left out', async () => {
    const tokens = tokensOf(90, 4);
    const probed = tokensOf(21, 5);
    const found: PerHead[] = [];
    const policy: Policy = {
      probe: () => probed,
      sense: () => [OF_PROBE],
      decide(at) {
        found.push(at.signal(OF_PROBE));
        return [];
      },
    };
    const { sequence } = await prompt(policy, tokens);
    const answers = await probe(model.forward, sequence, probed, () => [LAST]);
    for (const [layer, heads] of found.entries()) {
      for (const [head, ours] of heads.entries()) {
        const all = answers[layer]!(LAST)[head]!.subarray(0, tokens.length);
        const sum = all.reduce((a, b) => a + b, 0);
        for (const [i, p] of ours.entries()) expect(p).toBeCloseTo(all[i]! / sum, 5);
      }
    }
    sequence.free();
  });

  test('give their memory back, also where something fails', async () => {
    const bytes = () => [kernels.memory.held, model.cache.stats().held];
    const once = async (decide: Policy['decide']) => {
      const made = await prompt(
        { probe: () => tokensOf(40, 2), sense: () => [OF_PROBE], decide: decide! },
        tokensOf(70, 1),
      );
      made.sequence.free();
    };
    await once(() => []);
    const before = bytes();
    await once(() => []);
    expect(bytes()).toEqual(before);
    const fails = () => {
      throw new Error('on purpose');
    };
    await expect(once(fails)).rejects.toThrow('on purpose');
    expect(bytes()).toEqual(before);
  });

  test('a method that writes none cannot ask for it', async () => {
    const policy: Policy = { sense: () => [OF_PROBE], decide: at => (at.signal(OF_PROBE) ? [] : []) };
    await expect(prompt(policy, tokensOf(5, 1))).rejects.toMatchObject({ code: 'invalid_request', field: 'signal' });
  });
});

test('passages are embedded by the mean of their tokens', async () => {
  const tokens = tokensOf(40, 1);
  const [whole, a, b] = await embedPassages(model.forward, tokens, [
    [0, 40],
    [3, 4],
    [3, 4],
  ]);
  expect(Math.hypot(...whole!)).toBeCloseTo(1, 5);
  expect(a).toEqual(b);
  const store = model.forward.workspace.rows;
  await model.forward.embed([{ tokens, from: 3, rows: 1 }], store, 0);
  const { f32 } = kernels.memory;
  const row = f32.slice(store.hidden / 4, store.hidden / 4 + model.info.hidden);
  const norm = Math.hypot(...row);
  for (const [i, x] of a!.entries()) expect(x).toBeCloseTo(row[i]! / norm, 6);
  const empty = embedPassages(model.forward, tokens, [[3, 3]]);
  await expect(empty).rejects.toMatchObject({ field: 'passages' });
});
