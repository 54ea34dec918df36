import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { testPath } from '../../../test/golden.ts';
import { openKernels, openLoaded } from '../../../test/models.ts';
import type { Kernels } from '../../backend/types.ts';
import type { CacheSequence } from '../../cache/sequence.ts';
import type { PageOptions } from '../../cache/types.ts';
import type { AttentionSignal, SignalRequest } from '../../methods/types.ts';
import type { LoadedModel } from '../loaded-model.ts';
import type { StepHooks } from '../work.ts';
import { probe } from './probe.ts';

const PAGES: PageOptions = { formatK: 'f32', formatV: 'f16', columns: ['score'] };
const SUM: AttentionSignal = { signal: 'attention', rows: 'all', reduce: 'sum' };
const LAST: AttentionSignal = { signal: 'attention', rows: 1, reduce: 'sum' };

let kernels: Kernels;
let model: LoadedModel;
let layers: number;

beforeAll(async () => {
  kernels = await openKernels();
  model = await openLoaded(kernels, testPath('models/llama'), { deterministic: true, tile: 16 });
  layers = model.info.layers;
});
afterAll(async () => {
  await model.dispose();
  await kernels.dispose();
});

function tokensOf(count: number, seed: number): number[] {
  return Array.from({ length: count }, (_, i) => (i * 7919 + seed * 104729) % model.info.vocab);
}

/** Runs tokens after what the sequence holds; logits of the last. */
async function run(sequence: CacheSequence, tokens: readonly number[], hooks?: StepHooks): Promise<Float32Array> {
  let logits = new Float32Array(0);
  for (let from = 0; from < tokens.length; from += 16) {
    const rows = Math.min(16, tokens.length - from);
    const position = sequence.position;
    if (!hooks) sequence.prepareAppend(rows);
    const work = { sequence, tokens, from, rows, position, logits: 'last', ...(hooks && { hooks }) } as const;
    await model.forward.step([work], (_work, _row, values) => {
      logits = values.slice();
    });
  }
  return logits;
}

async function sequenceOf(tokens: readonly number[]): Promise<CacheSequence> {
  const sequence = model.cache.create({ owner: 'test', pages: PAGES });
  await run(sequence, tokens);
  return sequence;
}

/** Everything that a sequence holds. */
function content(sequence: CacheSequence) {
  const { kvHeads } = model.info;
  const views = Array.from({ length: layers * kvHeads }, (_, view) => {
    const [slot, head] = [Math.floor(view / kvHeads), view % kvHeads];
    return { ...sequence.read(slot, head), refs: sequence.refCount(slot, head), next: sequence.nextPosition(slot) };
  });
  return { views, shifts: [...sequence.shifts()], position: sequence.position };
}

describe('probe rows', () => {
  test.each([
    [1, 1],
    [50, 5],
    [63, 1],
    [64, 40],
    [65, 100],
  ])('%i entries and %i rows: nothing of them stays', async (entries, rows) => {
    const sequence = await sequenceOf(tokensOf(entries, 1));
    sequence.setColumn(
      0,
      0,
      'score',
      Float32Array.from({ length: entries }, (_, i) => i + 0.5),
    );
    const twin = sequence.fork();
    const before = content(sequence);
    await probe(model.forward, sequence, tokensOf(rows, 2), () => [SUM, { signal: 'key-norm' }]);
    expect(content(sequence)).toEqual(before);
    const next = tokensOf(70, 3);
    expect(await run(sequence, next)).toEqual(await run(twin, next));
    expect(content(sequence)).toEqual(content(twin));
    sequence.free();
    twin.free();
  });

  test('give back all bytes, again and again', async () => {
    const sequence = await sequenceOf(tokensOf(60, 1));
    // The lists of references have grown and rotary tables been made after the first one.
    await probe(model.forward, sequence, tokensOf(30, 2), () => [SUM]);
    const before = { held: model.cache.stats().held, pages: model.cache.stats().pages, memory: kernels.memory.held };
    for (let i = 0; i < 5; i++) await probe(model.forward, sequence, tokensOf(30, i), () => [SUM, LAST]);
    const { held, pages } = model.cache.stats();
    expect({ held, pages, memory: kernels.memory.held }).toEqual(before);
    sequence.free();
  });

  test('look where rows that were really appended look', async () => {
    const prompt = tokensOf(80, 4);
    const probes = tokensOf(21, 5);
    const sequence = await sequenceOf(prompt);
    const answers = await probe(model.forward, sequence, probes, () => [LAST, SUM]);
    await run(sequence, probes.slice(0, -1));
    const looked: Float32Array[][] = [];
    const { forward } = model;
    await run(sequence, probes.slice(-1), {
      beforeAttention: () => {},
      afterAttention: (layer, query) => {
        const { values, offsets } = forward.sensor.step(sequence, layer, query, query.position);
        looked.push(Array.from(offsets, at => values.slice(at, at + 101)));
      },
    });
    expect(looked).toHaveLength(layers);
    for (const [layer, signal] of answers.entries()) {
      for (const [head, values] of signal(LAST).entries()) {
        expect(values).toHaveLength(101);
        for (const [i, p] of values.entries()) expect(p).toBeCloseTo(looked[layer]![head]![i]!, 5);
      }
      for (const sums of signal(SUM)) expect(sums.reduce((a, b) => a + b, 0)).toBeCloseTo(21, 3);
    }
    sequence.free();
  });

  test('are asked at each layer for what that layer wants, hidden rows too', async () => {
    const sequence = await sequenceOf(tokensOf(10, 1));
    const requests = (layer: number): SignalRequest[] => (layer === 1 ? [{ signal: 'hidden-norm' }] : []);
    const answers = await probe(model.forward, sequence, tokensOf(20, 2), requests);
    expect(answers).toHaveLength(layers);
    expect(answers[1]!({ signal: 'hidden-norm' })).toHaveLength(20);
    expect(() => answers[0]!({ signal: 'hidden-norm' })).toThrow('not asked for');
    sequence.free();
  });

  test('leave no trace where something fails on the way', async () => {
    const sequence = await sequenceOf(tokensOf(40, 1));
    const before = content(sequence);
    const memory = kernels.memory.held;
    const bad = { signal: 'attention', rows: 0, reduce: 'sum' } as const;
    const refused = { code: 'invalid_request', field: 'signal.rows' };
    await expect(probe(model.forward, sequence, tokensOf(30, 2), l => (l === 1 ? [bad] : []))).rejects.toMatchObject(
      refused,
    );
    expect(content(sequence)).toEqual(before);
    await expect(probe(model.forward, sequence, [], () => [])).rejects.toMatchObject({ field: 'tokens' });
    expect(kernels.memory.held).toBe(memory);
    sequence.free();
  });
});
