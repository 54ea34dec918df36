import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { testPath } from '../../test/golden.ts';
import { openKernels, openLoaded } from '../../test/models.ts';
import type { Kernels } from '../backend/types.ts';
import type { CacheSequence } from '../cache/sequence.ts';
import { KvasirError } from '../errors.ts';
import { collect } from '../library.ts';
import type { Policy } from '../methods/types.ts';
import { createEngine } from './index.ts';
import type { LoadedModel } from './loaded-model.ts';
import { Program } from './program/program.ts';
import { Request } from './request.ts';
import { Scheduler } from './scheduler.ts';
import { Session } from './session.ts';
import type { StepHooks, Work } from './work.ts';

const path = testPath('models/qwen3');
const tokens = (n: number, seed: number) => Array.from({ length: n }, (_, i) => 3 + (((i + seed) * 7919) % 300));

let kernels: Kernels;
let model: LoadedModel;
beforeAll(async () => {
  kernels = await openKernels(2);
  model = await openLoaded(kernels, path, { deterministic: true, tile: 64 });
});
afterAll(async () => {
  await model.dispose();
  await kernels.dispose();
});
afterEach(() => {
  vi.restoreAllMocks();
  expect(model.cache.stats().sequences).toBe(0);
});

/** A recipe of one method that is made for a test. */
const program = (policy: Policy) => new Program('broken', [{ name: 'broken', policy }], model.shape, false);

interface Asked {
  prompt: readonly number[];
  maxTokens: number;
  policy?: Policy;
  session?: Session;
  n?: number;
}

function enqueue({ prompt, maxTokens, policy, session, n = 1 }: Asked) {
  const request = new Request({
    options: { model: 'test', tokens: prompt, temperature: 0, ignoreEnd: true, n },
    prompt,
    maxTokens,
    session: session ?? null,
    program: policy ? program(policy) : null,
    seed: 1,
    onDrain: () => {},
  });
  model.scheduler.enqueue(request);
  if (session) session.request = request;
  const read = async () => {
    const written: number[] = [];
    try {
      for (let part = await request.parts.next(); part; part = await request.parts.next()) written.push(...part.tokens);
    } catch (error) {
      return { written, error: error as KvasirError };
    }
    return { written, error: null };
  };
  return read();
}

/** Runs all requests to their ends. */
async function answers(...asked: Asked[]) {
  const all = Promise.all(asked.map(enqueue));
  while (await model.scheduler.step()) await new Promise(setImmediate);
  return all;
}

const full = () => new KvasirError('kv_cache_full', 'no room', { field: 'plan' });
const bystander = { prompt: tokens(20, 5), maxTokens: 100 };

describe('what fails in one request of a batch', () => {
  let alone: number[];
  beforeAll(async () => {
    alone = (await answers(bystander))[0]!.written;
    expect(alone).toHaveLength(100);
  });

  test('after a step, as a page is decided, ends that request alone', async () => {
    const policy: Policy = {
      filled() {
        throw full();
      },
    };
    const [failed, beside] = await answers({ prompt: tokens(40, 1), maxTokens: 80, policy }, bystander);
    expect(failed!.error).toMatchObject({ code: 'kv_cache_full' });
    // The last one's row filled the page.
    expect(failed!.written).toHaveLength(24);
    expect(beside).toEqual({ written: alone, error: null });
  });

  test('within a layer ends that request alone', async () => {
    // A column that no page has.
    const rule = { columns: [{ name: 'none', value: { of: 'column', name: 'none' } as never }] };
    const policy: Policy = { step: layer => (layer === 1 ? rule : null) };
    const [failed, beside] = await answers({ prompt: tokens(40, 1), maxTokens: 9, policy }, bystander);
    expect(failed!.error).not.toBeNull();
    expect(failed!.written).toHaveLength(1);
    expect(beside).toEqual({ written: alone, error: null });
  });

  test('in one of its answers ends the others of the same request too', async () => {
    let forks = 0;
    const policy: Policy = {
      filled() {
        if (forks++ === 4) throw full();
        return [];
      },
    };
    const [failed, beside] = await answers({ prompt: tokens(40, 1), maxTokens: 80, policy, n: 3 }, bystander);
    expect(failed!.error).toMatchObject({ code: 'kv_cache_full' });
    expect(beside!.written).toEqual(alone);
  });

  test('leaves its session without a cache, and others theirs', async () => {
    const [broken, sound] = [new Session('broken', 'test'), new Session('sound', 'test')];
    const policy: Policy = {
      filled() {
        throw full();
      },
    };
    await answers({ prompt: tokens(40, 1), maxTokens: 80, policy, session: broken }, { ...bystander, session: sound });
    expect([broken.sequence, broken.busy]).toEqual([null, false]);
    expect(broken.look([1, 2], 'f32', null)).toEqual({ kept: null, why: 'the request before broke off' });
    expect(sound.tokens).toEqual([...bystander.prompt, ...alone.slice(0, -1)]);
    sound.close();
  });
});

test('a step that breaks off as a whole ends its requests; a session keeps what all slots hold, and goes on rightly', async () => {
  const session = new Session('s', 'test');
  const first = { prompt: tokens(30, 2), maxTokens: 20, session };
  const finish = model.forward.finish.bind(model.forward);
  const spy = vi.spyOn(model.forward, 'finish');
  let steps = 0;
  // The rows of the eleventh step stand in the cache, their logits never come.
  spy.mockImplementation(async (...args) => {
    if (++steps === 11) throw new Error('the backend is gone');
    return finish(...args);
  });
  const [{ written, error }] = (await answers(first)) as [Awaited<ReturnType<typeof enqueue>>];
  expect(error).toMatchObject({ code: 'backend_failed' });
  expect(written).toHaveLength(10);
  expect(session.tokens).toEqual([...first.prompt, ...written]);
  spy.mockRestore();
  const prompt = [...first.prompt, ...written, 9, 8, 7];
  const [goesOn] = await answers({ prompt, maxTokens: 12, session });
  const [anew] = await answers({ prompt, maxTokens: 12 });
  expect(goesOn).toEqual(anew);
  session.close();
});

test('a session cuts a full cache whose slots differ back to what all of them hold', () => {
  const session = new Session('s', 'test');
  const sequence = model.cache.create({ owner: 's', pages: { formatK: 'f32', formatV: 'f32' } });
  sequence.prepareAppend(65);
  sequence.commit();
  sequence.prepareAppend(2);
  sequence.commitAppend(0);
  sequence.rollback();
  session.keep(sequence, tokens(67, 1), 'f32', null);
  const { slots } = model.cache.shape;
  expect(session.tokens).toEqual(tokens(65, 1));
  expect(Array.from({ length: slots }, (_, slot) => sequence.nextPosition(slot))).toEqual(Array(slots).fill(65));
  expect(Array.from({ length: slots }, (_, slot) => sequence.entries(slot, 0))).toEqual(Array(slots).fill(65));
  session.close();
});

describe('Forward.step', () => {
  const open = async (n: number, seed: number) => {
    const sequence = model.cache.create({ owner: 'test', pages: { formatK: 'f32', formatV: 'f32' } });
    sequence.prepareAppend(n);
    const work: Work = { sequence, tokens: tokens(n + 1, seed), from: 0, rows: n, position: 0, logits: 'none' };
    await model.forward.step([work], () => {});
    return { sequence, tokens: work.tokens };
  };
  const hooks = (at: (when: string, layer: number) => void): StepHooks => ({
    beforeAttention: layer => at('before', layer),
    afterAttention: layer => at('after', layer),
  });
  const work = ({ sequence, tokens }: { sequence: CacheSequence; tokens: ArrayLike<number> }, own: StepHooks): Work => {
    const from = tokens.length - 1;
    return { sequence, tokens, from, rows: 1, position: from, logits: 'last', hooks: own };
  };
  const step = async (works: readonly Work[]) => {
    const logits = new Map<Work, Float32Array>();
    const failed: Work[] = [];
    const sink = (of: Work, _row: number, values: Float32Array) => logits.set(of, values.slice());
    await model.forward.step(works, sink, of => failed.push(of));
    return { logits: works.map(of => logits.get(of)), failed };
  };

  test.each(['first', 'second', 'third'])('goes on without the %s of three works, wherever that fails', async which => {
    const lost = ['first', 'second', 'third'].indexOf(which);
    const opened = [await open(30, 1), await open(64, 2), await open(65, 3)];
    const quiet = hooks(() => {});
    const forks = () => opened.map(({ sequence, tokens }) => ({ sequence: sequence.fork(), tokens }));
    const whole = forks();
    const expected = await step(whole.map(at => work(at, quiet)));
    for (const when of ['before', 'after'])
      for (let layer = 0; layer < model.info.layers; layer++) {
        const tried = forks();
        const broken = hooks((at, of) => {
          if (at === when && of === layer) throw full();
        });
        const works = tried.map((at, n) => work(at, n === lost ? broken : quiet));
        const { logits, failed } = await step(works);
        expect(failed).toEqual([works[lost]]);
        expect(logits).toEqual(expected.logits.map((values, n) => (n === lost ? undefined : values)));
        for (const { sequence } of tried) sequence.free();
      }
    for (const { sequence } of [...opened, ...whole]) sequence.free();
  });

  test('without a word for failures raises them', async () => {
    const at = await open(3, 1);
    const broken = hooks(() => {
      throw full();
    });
    await expect(model.forward.step([work(at, broken)], () => {})).rejects.toMatchObject({ code: 'kv_cache_full' });
    at.sequence.free();
  });
});

describe('an engine', () => {
  const base = { model: 'tiny', tokens: tokens(20, 5), maxTokens: 10, temperature: 0, ignoreEnd: true } as const;

  test('that fails where no request is to blame ends all of them and serves the next', async () => {
    const engine = createEngine({ threads: 1, cacheLimit: 2 ** 24 });
    try {
      await engine.load({ name: 'tiny', path, mode: 'exact' });
      vi.spyOn(Scheduler.prototype, 'step').mockRejectedValueOnce(new TypeError('nobody knows'));
      const both = await Promise.allSettled([1, 2].map(() => collect(engine.generate(base))));
      for (const end of both) expect(end).toMatchObject({ status: 'rejected', reason: { code: 'backend_failed' } });
      expect((await collect(engine.generate(base))).tokens).toHaveLength(10);
    } finally {
      await engine.dispose();
    }
  });

  test('whose cache runs out under a recipe goes on serving', async () => {
    const engine = createEngine({ threads: 1, cacheLimit: 0.35 * 2 ** 20 });
    try {
      await engine.load({ name: 'tiny', path, mode: 'exact', deterministic: true });
      const alone = (await collect(engine.generate(base))).tokens;
      const kv = 'louiskv(budget=512, recent=32)';
      const runsOut = collect(engine.generate({ ...base, tokens: tokens(600, 2), maxTokens: 200, kv }));
      const beside = collect(engine.generate(base));
      await expect(runsOut).rejects.toMatchObject({ code: 'kv_cache_full' });
      expect((await beside).tokens).toEqual(alone);
      expect((await collect(engine.generate({ ...base, kv: 'full' }))).tokens).toEqual(alone);
    } finally {
      await engine.dispose();
    }
  });
});
