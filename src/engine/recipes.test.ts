import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { testPath } from '../../test/golden.ts';
import { openKernels, openLoaded } from '../../test/models.ts';
import { KvCache } from '../cache/cache.ts';
import type { KvasirError } from '../errors.ts';
import { collect } from '../library.ts';
import { createEngine } from './index.ts';
import { runForced } from './score.ts';
import type { EngineApi, GenerateRequest } from './types.ts';

const MiB = 2 ** 20;
const model = { name: 'tiny', path: testPath('models/qwen3'), mode: 'exact', deterministic: true, tile: 64 } as const;
const prompt = Array.from({ length: 300 }, (_, i) => 3 + ((i * 7919) % 300));
const base = { model: 'tiny', tokens: prompt, maxTokens: 20, temperature: 0, ignoreEnd: true } as const;
const RECIPES = [
  'snapkv(keep=0.4)',
  'h2o(keep=0.3)',
  'streaming-llm(budget=100)',
  'snapkv(budget=96, evict=chunk, chunk=128)',
  'fastkv(keep=0.4, layer=0)',
  'louiskv(budget=64, recent=32)',
];

let engine: EngineApi;
let empty = 0;
beforeAll(async () => {
  engine = createEngine({ threads: 2, cacheLimit: 64 * MiB, maxRunning: 8, maxWaiting: 8 });
  await engine.load(model);
  empty = (await engine.stats()).cacheBytes;
});
afterAll(() => engine.dispose());

const run = (request: Partial<GenerateRequest> = {}, on = engine) => collect(on.generate({ ...base, ...request }));
const held = async () => (await engine.stats()).cacheBytes - empty;

describe('requests under recipes', () => {
  test('answer together as they do alone, the full cache beside them', async () => {
    const alone = [];
    for (const kv of [...RECIPES, 'full']) alone.push((await run({ kv })).tokens);
    const together = await Promise.all([...RECIPES, 'full'].map(kv => run({ kv })));
    expect(together.map(answer => answer.tokens)).toEqual(alone);
    expect(await held()).toBe(0);
  });

  test('say what they kept, and hold and peak at less than the full cache', async () => {
    const full = (await run()).usage.cache;
    expect(full).toMatchObject({ recipe: 'full', kept: 319 });
    const { cache } = (await run({ kv: { method: 'snapkv', keep: 0.25 } })).usage;
    expect(cache.recipe).toBe('snapkv(keep=0.25)');
    // A quarter of the prompt, and the answer but for its last token.
    expect(cache.kept).toBe(75 + 19);
    expect(cache.bytes).toBeLessThan(0.55 * full.bytes);
    expect(cache.peak).toBeLessThan(0.85 * full.peak);
  });

  test('say what their bytes are for, and what lies outside the arena', async () => {
    const usage = async (kv: string) => {
      const { cache } = (await run({ kv, maxTokens: 70 })).usage;
      expect(Object.values(cache.items).reduce((sum, bytes) => sum + bytes, 0)).toBe(cache.bytes);
      return cache;
    };
    expect(await usage('full')).toMatchObject({ parked: 0, items: { encoded: 0, joint: 0, columns: 0 } });
    const encoded = await usage('kivi(residual=64)');
    expect(encoded.items.encoded).toBeGreaterThan(0);
    expect(encoded.items.states).toBeGreaterThan(0);
    const scored = await usage('h2o(keep=0.3)');
    expect(scored.items.columns).toBeGreaterThan(0);
    const away = await usage('louiskv(budget=64, recent=32)');
    // Keys and values of most of the prompt, in f32.
    expect(away.parked).toBeGreaterThan(200 * (await engine.models())[0]!.kvBytesPerToken.f32);
  });

  test('count what only some of n answers share once, and all of it', async () => {
    const { measure } = KvCache.prototype;
    const differences: number[] = [];
    const spy = vi.spyOn(KvCache.prototype, 'measure').mockImplementation(function (this: KvCache, sequences) {
      const together = measure.call(this, sequences);
      differences.push(this.stats().held - empty - together.held);
      return together;
    });
    try {
      // Each answer drops tokens of the prompt for itself, from pages that the others may still share.
      const ask = { kv: 'streaming-llm(budget=192, positions=kept)', maxTokens: 150, temperature: 2, seed: 3 };
      const { cache } = (await run({ ...ask, n: 3 })).usage;
      expect(cache.kept).toBe(192);
      expect(Object.values(cache.items).reduce((sum, bytes) => sum + bytes, 0)).toBe(cache.bytes);
      expect(differences).toEqual([0]);
    } finally {
      spy.mockRestore();
    }
  });

  test('n answers share the prompt and go on by themselves', async () => {
    const alone = (await run({ kv: 'h2o(keep=0.3)' })).tokens;
    const answers = new Map<number, number[]>();
    for await (const part of engine.generate({ ...base, kv: 'h2o(keep=0.3)', n: 3 }))
      answers.set(part.index, [...(answers.get(part.index) ?? []), ...part.tokens]);
    expect([...answers.values()]).toEqual([alone, alone, alone]);
  });

  test('what cannot be read is refused before anything runs', async () => {
    const error = await run({ kv: 'snapkv(keep=2)' }).then(
      () => expect.unreachable('it was accepted'),
      (reason: KvasirError) => reason,
    );
    expect(error).toMatchObject({ code: 'invalid_recipe', field: 'kv' });
    expect(error.message).toContain('keep');
    expect(await held()).toBe(0);
  });

  test('stopped on the way, leave nothing behind', async () => {
    for (const kv of RECIPES) {
      const stop = new AbortController();
      const answer = collect(engine.generate({ ...base, kv, maxTokens: 200 }, stop.signal));
      setTimeout(() => stop.abort(), 15);
      await expect(answer).rejects.toMatchObject({ code: 'aborted' });
    }
    await run({ maxTokens: 1 });
    expect(await held()).toBe(0);
  });

  test('50 of them leave the memory where it was', async () => {
    for (const kv of RECIPES) await run({ kv, maxTokens: 4 });
    const before = (await engine.stats()).cacheBytes;
    for (let i = 0; i < 50; i++) await run({ kv: RECIPES[i % RECIPES.length]!, maxTokens: 4 });
    expect((await engine.stats()).cacheBytes).toBe(before);
  });

  test('a prompt that meets a full cache beside others starts again when they are done', async () => {
    const tight = createEngine({ threads: 1, cacheLimit: 0.7 * MiB, maxRunning: 4, maxWaiting: 8 });
    try {
      await tight.load(model);
      const kv = 'snapkv(keep=0.4)';
      const alone = (await run({ kv }, tight)).tokens;
      const together = await Promise.all([run({ kv }, tight), run({ kv }, tight), run({ kv }, tight)]);
      expect(together.map(answer => answer.tokens)).toEqual([alone, alone, alone]);
    } finally {
      await tight.dispose();
    }
  });
});

describe('sessions under recipes', () => {
  const turn = async (session: string, tokens: readonly number[], kv: string) => {
    const answer = await run({ session, tokens, kv });
    return { answer, next: [...tokens, ...answer.tokens, 7, 8, 9] };
  };

  test.each(RECIPES)('%s goes on from what it kept', async kv => {
    const session = await engine.openSession('tiny');
    const first = await turn(session, prompt, kv);
    const second = await turn(session, first.next, kv);
    // All but the last token, which was written and not yet run.
    expect(second.answer.usage.cachedTokens).toBe(prompt.length + 19);
    expect(second.answer.usage.cache.kept).toBeLessThan(first.next.length);
    await engine.closeSession(session);
    expect(await held()).toBe(0);
  });

  test('another prompt, or a recipe that would undo what was done, starts anew and says why', async () => {
    const session = await engine.openSession('tiny');
    const first = await turn(session, prompt, 'snapkv(keep=0.4)');
    expect(first.answer.usage.whyNotCached).toBeUndefined();
    const other = await turn(session, [5, ...first.next.slice(1)], 'snapkv(keep=0.4)');
    expect(other.answer.usage).toMatchObject({
      cachedTokens: 0,
      whyNotCached: "the prompt leaves the session's text after 0 tokens, and snapkv(keep=0.4) keeps no prefix whole",
    });
    const changed = await turn(session, other.next, 'full');
    expect(changed.answer.usage).toMatchObject({
      cachedTokens: 0,
      whyNotCached: expect.stringMatching(
        /under snapkv\(keep=0.4\): what snapkv has done to the cache cannot be undone/,
      ),
    });
    await engine.closeSession(session);
  });

  test('from the full cache a recipe goes on; then one that keeps less, or does more after it', async () => {
    const kivi = ' + kivi(bits=4, residual=64)';
    const bytes: number[] = [];
    for (const more of ['', kivi]) {
      const session = await engine.openSession('tiny');
      let { next } = await turn(session, prompt, 'full');
      for (const kv of ['snapkv(keep=0.6)', 'snapkv(keep=0.4)', `snapkv(keep=0.4)${more}`]) {
        const { usage, tokens } = await run({ session, tokens: next, kv, maxTokens: 1 });
        expect(usage.cachedTokens).toBe(kv === 'snapkv(keep=0.6)' ? next.length - 4 : next.length - 3);
        expect(usage.whyNotCached).toBeUndefined();
        expect(usage.cache.recipe).toBe(kv);
        expect(usage.cache.kept).toBeLessThan(0.7 * next.length);
        bytes.push(usage.cache.bytes);
        next = [...next, ...tokens, 7, 8].slice(0, next.length + 3);
      }
      await engine.closeSession(session);
    }
    expect(bytes[4]).toBe(bytes[1]);
    expect(bytes[5]).toBeLessThan(bytes[2]!);
    const session = await engine.openSession('tiny');
    const { next } = await turn(session, prompt, 'full');
    // Columns that scores are added up in were not kept from the start.
    expect((await turn(session, next, 'h2o')).answer.usage).toMatchObject({
      cachedTokens: 0,
      whyNotCached: expect.stringMatching(/in pages that h2o cannot go on with/),
    });
    await engine.closeSession(session);
    expect(await held()).toBe(0);
  });

  test('where entries depend on what is before them alone, whole pages of a shared prefix are reused', async () => {
    const session = await engine.openSession('tiny');
    const kv = 'kivi(bits=4, residual=64)';
    const first = await turn(session, prompt, kv);
    const branched = [...prompt.slice(0, 150), ...first.next.slice(0, 100)];
    const again = await turn(session, branched, kv);
    expect(again.answer.usage).toMatchObject({
      cachedTokens: 128,
      whyNotCached: "the prompt leaves the session's text after 150 tokens",
    });
    expect(again.answer.usage.cache.kept).toBe(branched.length + again.answer.tokens.length - 1);
    const third = await turn(session, again.next, kv);
    expect(third.answer.usage.cachedTokens).toBe(again.next.length - 4);
    await engine.closeSession(session);
  });
});

test.each(['snapkv(keep=1)', 'snapkv(keep=1) + ems(keep=1)', 'full'])(
  '%s is the full cache by another name: tile by tile, without a state',
  async kv => {
    const { tokens, usage } = await run({ kv });
    const full = await run();
    expect(tokens).toEqual(full.tokens);
    expect(usage.cache).toEqual({ ...full.usage.cache, recipe: kv });
    const session = await engine.openSession('tiny');
    await run({ session, kv });
    // What two prompts share is reused, as no recipe that drops entries could.
    const { cachedTokens } = (await run({ session, kv: 'full', tokens: [...prompt.slice(0, 100), 3] })).usage;
    expect(cachedTokens).toBe(100);
    await engine.closeSession(session);
  },
);

test('the full cache senses nothing', async () => {
  const kernels = await openKernels(1);
  const loaded = await openLoaded(kernels, model.path);
  const sequence = loaded.cache.create({ owner: 'test', pages: { formatK: 'f32', formatV: 'f32' } });
  await runForced(loaded.forward, sequence, prompt, 'layer', 0, () => {});
  expect(Object.values(loaded.forward.sensor.counts).every(count => count === 0)).toBe(true);
  sequence.free();
  await loaded.dispose();
  await kernels.dispose();
});
