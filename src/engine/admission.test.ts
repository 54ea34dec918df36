import { expect, test } from 'vitest';
import { testPath } from '../../test/golden.ts';
import type { KvasirError } from '../errors.ts';
import { collect } from '../library.ts';
import { createEngine } from './index.ts';
import type { GenerateRequest } from './types.ts';

const tokens = (n: number, seed: number) => Array.from({ length: n }, (_, i) => 3 + (((i + seed) * 7919) % 300));
const base = { model: 'tiny', temperature: 0, ignoreEnd: true } as const;
type Ask = Pick<GenerateRequest, 'tokens' | 'maxTokens'> & Partial<GenerateRequest>;

async function tight(cacheLimit: number) {
  const engine = createEngine({ threads: 1, cacheLimit });
  await engine.load({ name: 'tiny', path: testPath('models/qwen3'), mode: 'exact', deterministic: true });
  const run = (ask: Ask) => collect(engine.generate({ ...base, ...ask }));
  const refusal = (ask: Ask) =>
    run(ask).then(
      () => expect.unreachable('it was accepted'),
      (error: KvasirError) => error,
    );
  return { engine, run, refusal };
}

/** About the least limit, in bytes, at which a request is admitted: less than a page more. */
async function leastLimit(ask: Ask): Promise<number> {
  const limit = 20_000;
  const { engine, refusal } = await tight(limit);
  try {
    const [, needed, free] = /needs (\d+) more bytes .* (-?\d+) of/.exec((await refusal(ask)).message)!;
    // The lists of references, which the refusal does not count.
    return limit + Number(needed) - Number(free) + 8_000;
  } finally {
    await engine.dispose();
  }
}

test('a recipe that encodes pages runs where its rows would not fit exact, and others come after it', async () => {
  const ask = { tokens: tokens(64, 1), maxTokens: 200 };
  const limit = (await leastLimit(ask)) * 0.75;
  const { engine, run, refusal } = await tight(limit);
  try {
    expect(await refusal(ask)).toMatchObject({ code: 'kv_cache_full', field: 'tokens' });
    const small = { tokens: tokens(10, 3), maxTokens: 10 };
    const alone = await run(small);
    const ended: string[] = [];
    const first = run({ ...ask, kv: 'kivi(residual=64)' }).finally(() => ended.push('first'));
    const second = run(small).finally(() => ended.push('second'));
    const { usage } = await first;
    expect(usage.completionTokens).toBe(200);
    expect(usage.cache.peak).toBeLessThan(limit);
    expect((await second).tokens).toEqual(alone.tokens);
    expect(ended).toEqual(['first', 'second']);
  } finally {
    await engine.dispose();
  }
});

test('a recipe that drops at every step runs on where the text would not fit', async () => {
  const ask = { tokens: tokens(40, 1), maxTokens: 700 };
  const { engine, run, refusal } = await tight((await leastLimit(ask)) / 2);
  try {
    expect(await refusal(ask)).toMatchObject({ code: 'kv_cache_full', field: 'tokens' });
    const { usage } = await run({ ...ask, kv: 'streaming-llm(budget=64)' });
    expect(usage).toMatchObject({ completionTokens: 700, cache: { kept: 64 } });
  } finally {
    await engine.dispose();
  }
});

test.each(['streaming-llm(budget=65)', 'h2o(budget=65)', 'prefixkv(search=uniform, budget=65)'])(
  '%s is admitted by what its views hold: two run together where one full cache of the text would not fit',
  async kv => {
    const ask = { tokens: tokens(40, 1), maxTokens: 900 };
    const { engine, run, refusal } = await tight((await leastLimit(ask)) * 0.9);
    try {
      expect(await refusal(ask)).toMatchObject({ code: 'kv_cache_full', field: 'tokens' });
      const alone = await run({ ...ask, kv });
      const ended: string[] = [];
      const long = run({ ...ask, kv }).finally(() => ended.push('long'));
      const short = run({ ...ask, maxTokens: 300, kv }).finally(() => ended.push('short'));
      const full = run({ ...ask, maxTokens: 20 }).finally(() => ended.push('full'));
      expect((await long).tokens).toEqual(alone.tokens);
      expect((await short).tokens).toEqual(alone.tokens.slice(0, 300));
      await full;
      expect(ended).toEqual(['full', 'short', 'long']);
    } finally {
      await engine.dispose();
    }
  },
  60_000,
);

test.each([
  [3, 'full', 65],
  [16, 'full', 64],
  [3, 'snapkv(keep=0.5)', 65],
])('each of %i answers has its share of the promise, kv %s, after %i tokens', async (n, kv, length) => {
  const ask = { tokens: tokens(length, 1), maxTokens: 130, n, kv };
  const { engine, run } = await tight(await leastLimit({ ...ask, kv: 'full' }));
  try {
    const { usage } = await run(ask);
    expect(usage.completionTokens).toBe(n * 130);
  } finally {
    await engine.dispose();
  }
});

test('a request that had to wait goes on from the cache of its session, and says why where it cannot', async () => {
  const other = { tokens: tokens(20, 5), maxTokens: 400 };
  const { engine, run } = await tight(await leastLimit({ ...other, maxTokens: 400 + 3 * 64 }));
  try {
    const session = await engine.openSession('tiny');
    const turn = async (ask: Ask) => {
      const ended: string[] = [];
      const running = run(other).finally(() => ended.push('other'));
      const { usage } = await run({ ...ask, session }).finally(() => ended.push('turn'));
      await running;
      expect(ended).toEqual(['other', 'turn']);
      return usage;
    };
    const first = await run({ tokens: tokens(70, 1), maxTokens: 11, session });
    const text = [...tokens(70, 1), ...first.tokens];
    expect(await turn({ tokens: [...text, 5], maxTokens: 100 })).toMatchObject({ cachedTokens: 80 });
    const kv = 'snapkv(keep=0.5)';
    const branch = { tokens: [...text.slice(0, 60), 9, 8], maxTokens: 100 };
    expect(await turn(branch)).toMatchObject({
      cachedTokens: 60,
      whyNotCached: expect.stringContaining('the prompt leaves the session'),
    });
    expect((await turn({ ...branch, kv })).whyNotCached).toBeUndefined();
    expect(await turn(branch)).toMatchObject({
      cachedTokens: 0,
      whyNotCached: expect.stringContaining(`filled under ${kv}`),
    });
  } finally {
    await engine.dispose();
  }
});
