import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { testPath } from '../../test/golden.ts';
import { openKernels, openLoaded } from '../../test/models.ts';
import { force, Written } from '../../test/recipes.ts';
import type { Kernels } from '../backend/types.ts';
import { CacheSequence } from '../cache/sequence.ts';
import { collect } from '../library.ts';
import { METHODS } from '../methods/index.ts';
import { optionsOf } from '../methods/options.ts';
import type { Method } from '../methods/types.ts';
import { createEngine } from './index.ts';
import type { LoadedModel } from './loaded-model.ts';
import type { EngineApi, GenerateRequest } from './types.ts';

const path = testPath('models/qwen3');
const tokens = (n: number, seed: number) => Array.from({ length: n }, (_, i) => 3 + (((i + seed) * 7919) % 300));

describe('an answer longer than the context', () => {
  const CONTEXT = 128;
  const base = { model: 'tiny', tokens: tokens(100, 1), maxTokens: 400, temperature: 0, ignoreEnd: true } as const;
  let [short, long]: EngineApi[] = [];
  beforeAll(async () => {
    [short, long] = [createEngine({ threads: 1 }), createEngine({ threads: 1 })];
    const model = { name: 'tiny', path, mode: 'exact', deterministic: true } as const;
    await short.load({ ...model, context: CONTEXT });
    await long.load(model);
  });
  afterAll(async () => {
    await short!.dispose();
    await long!.dispose();
  });
  const run = (request: Partial<GenerateRequest>, on = short!) => collect(on.generate({ ...base, ...request }));

  test.each(['streaming-llm(budget=127)', 'streaming-llm(budget=40)', 'treekv(budget=64)'])(
    'goes on under %s, which renumbers what it keeps, and no position is beyond the context',
    async kv => {
      const { prepareAppend } = CacheSequence.prototype;
      let last = 0;
      const spy = vi.spyOn(CacheSequence.prototype, 'prepareAppend').mockImplementation(function (
        this: CacheSequence,
        rows,
        positions,
        fromSlot = 0,
        toSlot,
      ) {
        last = Math.max(last, this.nextPosition(fromSlot) + rows - 1);
        prepareAppend.call(this, rows, positions, fromSlot, toSlot);
      });
      try {
        const answer = await run({ kv });
        expect(answer.usage.completionTokens).toBe(400);
        // The prompt's last row, or the one before a drop.
        expect(last).toBe(kv === 'streaming-llm(budget=127)' ? CONTEXT - 1 : 99);
        expect(answer.tokens).toEqual((await run({ kv }, long)).tokens);
      } finally {
        spy.mockRestore();
      }
    },
  );

  test.each([
    ['full', base.tokens],
    ['streaming-llm(budget=128)', base.tokens],
    ['streaming-llm(keep=0.3)', base.tokens],
    ['streaming-llm(budget=40, positions=kept)', base.tokens],
    ['h2o(budget=40)', base.tokens],
    ['kivi', base.tokens],
    ['streaming-llm(budget=40)', tokens(CONTEXT, 1)],
  ])('is refused under %s where positions would be', async (kv, prompt) => {
    await expect(run({ kv, tokens: prompt })).rejects.toMatchObject({ code: 'context_length_exceeded' });
  });

  test('is not what a request without a length asks for', async () => {
    const { maxTokens: _, ...request } = base;
    const answer = await collect(short!.generate({ ...request, kv: 'streaming-llm(budget=40)' }));
    expect(answer.usage.completionTokens).toBe(CONTEXT - 100);
  });
});

describe('Policy.most', () => {
  let kernels: Kernels;
  let model: LoadedModel;
  beforeAll(async () => {
    kernels = await openKernels(2);
    model = await openLoaded(kernels, path, { deterministic: true });
    const layers = Array.from({ length: model.info.layers }, (_, layer) => {
      const more = layer % 2 ? 0.1 : -0.1;
      return { sum: [0.2 + more, 0.5 + 2 * more], average: [0.2 - more / 2, 0.5 - more] };
    });
    const { fingerprint } = model.info;
    model.setProfile('prefixkv', { kind: 'prefixkv', fingerprint, shares: [0.2, 0.5], layers });
  });
  afterAll(async () => {
    await model.dispose();
    await kernels.dispose();
  });

  const budgeted = (METHODS as readonly Method[]).filter(
    method =>
      (!method.profile || method.profileOptional) &&
      ['budget', 'keep'].every(name => optionsOf(method).some(option => option.name === name)),
  );
  const both = (name: string) => [`${name}(budget=65)`, `${name}(keep=0.3)`];
  const recipes = budgeted.flatMap(({ name }) => both(name));
  const bounded = ['h2o', 'streaming-llm', 'tova', 'treekv'].flatMap(both);
  const prefixkv = (options: string) => `prefixkv(${options})`;
  const uniform = (options: string) => prefixkv(`search=uniform, ${options}`);
  const [prompt, end] = [130, 210];

  /** @param reached some view holds the most of so many tokens: a share of all, or of the prompt's; null: it need not */
  test.each<[kv: string, reached: number | null]>([
    ...bounded.map((kv): [string, number] => [kv, prompt]),
    [uniform('budget=65'), end],
    [uniform('keep=0.3'), end],
    [uniform('keep=0.02, window=60'), null],
    ...both('cake').map((kv): [string, null] => [kv, null]),
    [prefixkv('keep=0.3'), end],
    [prefixkv('keep=0.3, average=true'), end],
  ])('of %s is what no view goes beyond while decoding', async (kv, reached) => {
    const { most } = model.program(kv)!.parts[0]!.policy;
    for (const length of reached === null ? [1, 20, 50, 61, prompt] : [prompt]) {
      using written = new Written(model, kv);
      await written.prompt(tokens(length, 2));
      const { slots, kvHeads } = model.cache.shape;
      let held = 0;
      for (const token of tokens(end - prompt, 3)) {
        await force(written, [token]);
        for (let slot = 0; slot < slots; slot++)
          for (let head = 0; head < kvHeads; head++) held = Math.max(held, written.sequence.entries(slot, head));
      }
      expect(held).toBeLessThanOrEqual(most!(length + end - prompt));
      if (reached !== null) expect(held).toBe(most!(reached));
    }
  });

  test('is known of these methods alone', () => {
    const known = recipes.filter(kv => model.program(kv)!.parts[0]!.policy.most);
    expect(known.sort()).toEqual([...bounded, ...both('cake')].sort());
    for (const kv of ['budget=65', 'search=prompt, keep=0.3', 'search=prompt, budget=65'].map(prefixkv))
      expect(model.program(kv)!.parts[0]!.policy.most).toBeUndefined();
  });
});
