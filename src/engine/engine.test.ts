import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readGolden, testPath } from '../../test/golden.ts';
import type { KvasirError } from '../errors.ts';
import { collect } from '../library.ts';
import { createEngine, createEngineThread } from './index.ts';
import type { EngineApi, GeneratePart, GenerateRequest } from './types.ts';

const golden = readGolden('llama').prompts.get(65)!;
const cacheDir = mkdtempSync(join(tmpdir(), 'kvasir-engine-'));
const model = { name: 'tiny', path: testPath('models/llama'), mode: 'exact', deterministic: true, tile: 32 } as const;
const base = { model: 'tiny', tokens: golden.ids, maxTokens: 24, temperature: 0, ignoreEnd: true } as const;

let engine: EngineApi;
beforeAll(async () => {
  engine = createEngine({ threads: 2, cacheDir, cacheLimit: 64 * 2 ** 20, maxRunning: 4, maxWaiting: 8 });
  await engine.load(model);
  empty = (await engine.stats()).cacheBytes;
});
afterAll(async () => {
  await engine.dispose();
  rmSync(cacheDir, { recursive: true, force: true });
});

const run = (request: Partial<GenerateRequest> = {}, on = engine) => collect(on.generate({ ...base, ...request }));
/** Bytes beyond the tables that an empty cache holds. */
const held = async (on = engine) => (await on.stats()).cacheBytes - empty;
let empty = 0;

async function refusal(work: Promise<unknown>): Promise<KvasirError> {
  return work.then(
    () => expect.unreachable('it was accepted'),
    (error: KvasirError) => error,
  );
}

async function all(parts: AsyncIterable<GeneratePart>): Promise<GeneratePart[]> {
  const list: GeneratePart[] = [];
  for await (const part of parts) list.push(part);
  return list;
}

describe('answers', () => {
  test('greedy decoding follows the reference', async () => {
    const answer = await run({ maxTokens: 64 });
    expect(answer.tokens).toEqual(golden.greedy!.ids);
    expect(answer.finishReason).toBe('length');
    expect(answer.usage).toMatchObject({ promptTokens: 65, completionTokens: 64, cachedTokens: 0 });
    expect(answer.usage.cache.bytes).toBeGreaterThan(0);
    expect(answer.usage.cache.peak).toBeGreaterThanOrEqual(answer.usage.cache.bytes);
  });

  test('layer-major prefill gives the same answer', async () => {
    expect((await run({ prefill: 'layer' })).tokens).toEqual((await run()).tokens);
  });

  test('requests that run together answer as they do alone', async () => {
    const prompts = [1, 7, 40, 65].map(length => golden.ids.slice(0, length));
    const alone = [];
    for (const tokens of prompts) alone.push((await run({ tokens })).tokens);
    const together = await Promise.all(prompts.map((tokens, i) => run({ tokens, prefill: i % 2 ? 'layer' : 'token' })));
    expect(together.map(answer => answer.tokens)).toEqual(alone);
  });

  test('a seed repeats an answer; n answers differ from each other and share the prompt', async () => {
    const options = { temperature: 1.5, seed: 5 };
    expect((await run(options)).tokens).toEqual((await run(options)).tokens);
    const parts = await all(engine.generate({ ...base, ...options, n: 3 }));
    const answers = [0, 1, 2].map(index => parts.filter(p => p.index === index).flatMap(p => p.tokens));
    expect(new Set(answers.map(String)).size).toBe(3);
    expect(answers[0]).toEqual((await run(options)).tokens);
    expect(parts.filter(p => p.usage)).toHaveLength(1);
    expect(parts.at(-1)!.usage).toMatchObject({ promptTokens: 65, completionTokens: 72 });
    expect(parts.filter(p => p.finishReason)).toHaveLength(3);
  });

  test('log-probabilities are those of forced decoding', async () => {
    const parts = await all(engine.generate({ ...base, logprobs: 3 }));
    const listed = parts.flatMap(part => part.logprobs!);
    const scored = await engine.score({
      model: 'tiny',
      prompt: golden.ids,
      continuation: listed.map(l => l.token),
      top: 3,
    });
    expect(scored.tokens).toEqual(listed.map(l => l.token));
    for (const [i, entry] of listed.entries()) {
      expect(entry.logprob).toBeCloseTo(scored.logprobs[i]!, 5);
      expect(entry.top.map(t => t.token)).toEqual(scored.top[i]!.map(t => t.token));
      expect(entry.top[0]!.token).toBe(scored.best[i]);
    }
  });

  test('ends before a stop string that spans tokens, and shows none of it', async () => {
    const whole = (await run({ maxTokens: 40 })).text;
    const at = Math.floor(whole.length / 2);
    const stop = whole.slice(at, at + 3);
    const answer = await run({ maxTokens: 40, stop: [stop] });
    expect(answer.text).toBe(whole.slice(0, whole.indexOf(stop)));
    expect(answer.finishReason).toBe('stop');
  });

  test.each(['f16', 'int8'] as const)('pages in %s stay close to f32', async cache => {
    const tokens = (await run({ maxTokens: 40 })).tokens;
    const [full, packed] = await Promise.all(
      (['f32', cache] as const).map(format =>
        engine.score({ model: 'tiny', prompt: golden.ids, continuation: tokens, cache: format }),
      ),
    );
    const agree = packed!.best.filter((id, i) => id === full!.best[i]).length / tokens.length;
    expect(agree).toBeGreaterThanOrEqual(0.9);
    expect((await run({ cache })).usage.cache.bytes).toBeLessThan((await run()).usage.cache.bytes);
  });
});

describe('sessions', () => {
  test('reuse what a new prompt shares with the last, and answer as without', async () => {
    const session = await engine.openSession('tiny');
    const first = await run({ session });
    const longer = [...golden.ids, ...first.tokens, 9, 8, 7];
    const again = await run({ session, tokens: longer });
    // The last token of the first answer was never run.
    expect(again.usage.cachedTokens).toBe(golden.ids.length + first.tokens.length - 1);
    expect(again.tokens).toEqual((await run({ tokens: longer })).tokens);
    const other = [...golden.ids.slice(0, 30), 1, 2, 3];
    const branched = await run({ session, tokens: other });
    expect(branched.usage.cachedTokens).toBe(30);
    expect(branched.tokens).toEqual((await run({ tokens: other })).tokens);
    await engine.closeSession(session);
    expect(await held()).toBe(0);
  });

  test('take one request at a time', async () => {
    const session = await engine.openSession('tiny');
    const first = run({ session });
    expect((await refusal(run({ session }))).field).toBe('session');
    await first;
    await engine.closeSession(session);
  });

  test('may be used again as soon as an answer was left', async () => {
    const session = await engine.openSession('tiny');
    for (let i = 0; i < 5; i++)
      for await (const part of engine.generate({ ...base, session, maxTokens: 500 })) if (part.index === 0) break;
    expect((await run({ session })).tokens).toEqual((await run()).tokens);
    await engine.closeSession(session);
  });

  test('closing during an answer frees its cache at the end', async () => {
    const session = await engine.openSession('tiny');
    const answer = run({ session });
    await engine.closeSession(session);
    expect((await answer).tokens).toHaveLength(24);
    expect(await held()).toBe(0);
  });
});

describe('stopping', () => {
  test('leaving the loop frees the cache', async () => {
    for await (const part of engine.generate({ ...base, maxTokens: 1000 })) if (part.tokens.length > 0) break;
    await run({ maxTokens: 1 });
    expect(await engine.stats()).toMatchObject({ running: 0, waiting: 0, cacheBytes: empty });
  });

  test.each(['token', 'layer'] as const)('a signal stops a %s-major prompt and the answer', async prefill => {
    const before = AbortSignal.abort();
    expect((await refusal(all(engine.generate({ ...base, prefill }, before)))).code).toBe('aborted');
    const abort = new AbortController();
    setImmediate(() => abort.abort());
    const tokens = Array.from({ length: 1500 }, (_, i) => i % 300);
    expect((await refusal(all(engine.generate({ ...base, tokens, prefill }, abort.signal)))).code).toBe('aborted');
    await run({ maxTokens: 1 });
    expect(await held()).toBe(0);
  });

  test('100 generations leave the memory where it was', async () => {
    for (let i = 0; i < 100; i++)
      await run({
        maxTokens: 2 + (i % 5),
        n: 1 + (i % 3),
        tokens: golden.ids.slice(0, 1 + (i % 65)),
        cache: (['f32', 'f16', 'int8'] as const)[i % 3]!,
      });
    expect(await held()).toBe(0);
  });
});

describe('limits', () => {
  test('a request that can never fit is refused, one that fits later waits', async () => {
    const small = createEngine({ threads: 1, cacheDir, cacheLimit: 400_000, maxRunning: 4, maxWaiting: 2 });
    await small.load(model);
    const error = await refusal(run({ maxTokens: 1500 }, small));
    expect(error.code).toBe('kv_cache_full');
    const answers = await Promise.all([run({}, small), run({}, small)]);
    expect(answers[0]!.tokens).toEqual(answers[1]!.tokens);
    const full = await Promise.allSettled(Array.from({ length: 8 }, () => run({}, small)));
    const codes = full.map(result => (result.status === 'rejected' ? (result.reason as KvasirError).code : 'ok'));
    expect(codes).toContain('queue_full');
    expect(new Set(codes)).toEqual(new Set(['ok', 'queue_full']));
    await small.dispose();
  });

  test.each([
    [{ temperature: 3 }, 'temperature'],
    [{ topP: 0 }, 'topP'],
    [{ topK: 1.5 }, 'topK'],
    [{ n: 0 }, 'n'],
    [{ maxTokens: 0 }, 'maxTokens'],
    [{ maxTokens: 5000 }, 'maxTokens'],
    [{ stop: [''] }, 'stop.0'],
    [{ logprobs: 21 }, 'logprobs'],
    [{ logitBias: { 999: 1 } }, 'logitBias'],
    [{ tokens: [] }, 'tokens'],
    [{ tokens: [-1] }, 'tokens.0'],
    [{ tokens: [1e9] }, 'tokens.0'],
    [{ text: 'also' }, 'tokens'],
    [{ cache: 'q4' as 'f32' }, 'cache'],
    [{ prefill: 'both' as 'token' }, 'prefill'],
    [{ model: 'nobody' }, 'model'],
    [{ session: 'none' }, 'session'],
    [{ seed: Number.NaN }, 'seed'],
  ] as [Partial<GenerateRequest>, string][])('%o is refused, naming %s', async (request, field) => {
    const error = await refusal(run(request));
    expect(error.field).toBe(field);
    expect(error.allowed).toBeDefined();
    expect((await run({ maxTokens: 1 })).tokens).toHaveLength(1);
  });
});

describe('in a thread', () => {
  test('gives the same answers, typed errors, and stops when told', async () => {
    const remote = await createEngineThread({ threads: 2, cacheDir, cacheLimit: 64 * 2 ** 20 });
    const progress: number[] = [];
    await remote.load(model, ({ fraction }) => progress.push(fraction));
    expect((await run({}, remote)).tokens).toEqual((await run()).tokens);
    const error = await refusal(run({ temperature: 9 }, remote));
    expect(error).toMatchObject({ name: 'KvasirError', code: 'invalid_request', field: 'temperature', value: 9 });
    for await (const part of remote.generate({ ...base, maxTokens: 1500 })) if (part.index === 0) break;
    const abort = new AbortController();
    const slow = all(remote.generate({ ...base, maxTokens: 1500 }, abort.signal));
    abort.abort();
    expect((await refusal(slow)).code).toBe('aborted');
    await run({ maxTokens: 1 }, remote);
    expect(await held(remote)).toBe(0);
    await remote.dispose();
    expect((await refusal(remote.models())).code).toBe('disposed');
  });
});
