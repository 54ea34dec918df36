import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { testPath } from '../../test/golden.ts';
import { openKernels, openLoaded } from '../../test/models.ts';
import type { Kernels } from '../backend/types.ts';
import { KvasirError } from '../errors.ts';
import type { LoadedModel } from './loaded-model.ts';
import { Request } from './request.ts';
import { Session } from './session.ts';
import type { Usage } from './types.ts';

const tokens = (n: number, seed: number) => Array.from({ length: n }, (_, i) => 3 + (((i + seed) * 7919) % 300));
/** More than there is memory for: such a request waits while another runs, and is refused where none does. */
const ENDLESS = 2 ** 26;

let kernels: Kernels;
let model: LoadedModel;
beforeAll(async () => {
  kernels = await openKernels(2);
  model = await openLoaded(kernels, testPath('models/qwen3'), { deterministic: true, tile: 64 });
});
afterAll(async () => {
  await model.dispose();
  await kernels.dispose();
});
afterEach(() => expect(model.cache.stats().sequences).toBe(0));

interface Asked {
  prompt: readonly number[];
  maxTokens: number;
  session?: Session;
  kv?: string;
}

function enqueue({ prompt, maxTokens, session, kv = 'full' }: Asked) {
  const request = new Request({
    options: { model: 'test', tokens: prompt, temperature: 0, ignoreEnd: true },
    prompt,
    maxTokens,
    session: session ?? null,
    program: model.program(kv),
    seed: 1,
    onDrain: () => {},
  });
  model.scheduler.enqueue(request);
  if (session) session.request = request;
  const read = async () => {
    let usage: Usage | undefined;
    try {
      for (let part = await request.parts.next(); part; part = await request.parts.next()) usage = part.usage ?? usage;
    } catch (error) {
      return { usage, error: error as KvasirError };
    }
    return { usage, error: null };
  };
  return { request, end: read() };
}

async function run(asked: Asked) {
  const { end } = enqueue(asked);
  while (await model.scheduler.step()) await new Promise(setImmediate);
  return end;
}

/** A session after one turn, and what it holds then. */
async function opened(kv?: string) {
  const session = new Session('s', 'test');
  const first = { prompt: tokens(70, 1), maxTokens: 11, session, ...(kv && { kv }) };
  expect((await run(first)).error).toBeNull();
  return {
    session,
    held: { tokens: [...session.tokens], sequence: session.sequence, stats: session.sequence!.stats() },
  };
}

const holds = (session: Session) => ({
  tokens: session.tokens,
  sequence: session.sequence,
  stats: session.sequence!.stats(),
});

/** Steps of another request while one waits, which then meets its end. */
async function waits(asked: Asked, ends: (request: Request) => void) {
  const other = enqueue({ prompt: tokens(20, 5), maxTokens: 40 });
  await model.scheduler.step();
  const { request, end } = enqueue(asked);
  for (let step = 0; step < 3; step++) await model.scheduler.step();
  expect(model.scheduler).toMatchObject({ running: 1, waiting: 1 });
  ends(request);
  while (await model.scheduler.step()) await new Promise(setImmediate);
  await other.end;
  return end;
}

describe('the cache of a session whose request ends before it has run', () => {
  const abort = (request: Request) => {
    request.aborted = true;
  };
  const fail = () => model.scheduler.failAll(new KvasirError('backend_failed', 'a step broke off'));

  test.each([
    ['full', 'full', 'cancelled', abort],
    ['full', 'full', 'failing', fail],
    ['kivi', 'kivi', 'failing', fail],
    ['snapkv(keep=0.5)', 'snapkv(keep=0.5)', 'cancelled', abort],
    ['snapkv(keep=0.5)', 'snapkv(keep=0.5)', 'failing', fail],
    ['snapkv(keep=0.5)', 'full', 'cancelled', abort],
    ['full', 'snapkv(keep=0.5)', 'failing', fail],
  ])('filled under %s, asked under %s, %s, is as it was', async (kv, next, _, ends) => {
    const { session, held } = await opened(kv);
    const prompt = [...held.tokens, ...tokens(9, 7)];
    const { error } = await waits({ prompt, maxTokens: ENDLESS, session, kv: next }, ends);
    expect(error).not.toBeNull();
    expect(session.busy).toBe(false);
    expect(holds(session)).toEqual(held);
    const { usage } = await run({ prompt, maxTokens: 2, session, kv });
    expect(usage).toMatchObject({ cachedTokens: held.tokens.length });
    session.close();
  });

  test('is as it was though the prompt had left its text', async () => {
    const { session, held } = await opened();
    const prompt = [...held.tokens.slice(0, 66), ...tokens(9, 7)];
    await waits({ prompt, maxTokens: ENDLESS, session }, abort);
    expect(holds(session)).toEqual(held);
    session.close();
  });

  test('is left as far as the prompt shares it where nothing else runs and there is still no room', async () => {
    const { session, held } = await opened();
    const shared = held.tokens.slice(0, 66);
    const prompt = [...shared, ...tokens(9, 7)];
    const { error } = await run({ prompt, maxTokens: ENDLESS, session });
    expect(error).toMatchObject({ code: 'kv_cache_full' });
    expect(session.tokens).toEqual(shared);
    const { usage } = await run({ prompt, maxTokens: 2, session });
    expect(usage).toMatchObject({ cachedTokens: 66 });
    session.close();
  });

  test('goes when the session is closed meanwhile', async () => {
    const { session, held } = await opened();
    await waits({ prompt: [...held.tokens, 5], maxTokens: ENDLESS, session }, request => {
      session.close();
      request.aborted = true;
    });
    expect(session.sequence).toBeNull();
  });
});
