import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { LoadedModel } from '../../engine/loaded-model.ts';
import { cacheSetting, FULL } from '../cache-setting.ts';
import { BUNDLED, TINY, tokenizerOf } from '../eval.testing.ts';
import type { Feed } from '../feed.ts';
import { openModelForEval } from '../open.node.ts';
import { type EncodedSession, encodeSession } from './encode.ts';
import { generateSession } from './generate.ts';
import { type Played, type PlayOptions, play } from './play.ts';
import { findScbenchTask } from './tasks/index.ts';
import type { ScbenchSession } from './types.ts';

let opened: Awaited<ReturnType<typeof openModelForEval>>;
let model: LoadedModel;
let session: ScbenchSession;
let encoded: EncodedSession;
/** The full cache in both modes. */
let turns: Played;
let requests: Played;
beforeAll(async () => {
  opened = await openModelForEval({ name: 'kvasir-mini', path: BUNDLED }, { threads: 1, cacheDir: '' });
  model = opened.model;
  session = sessionOf('kv');
  encoded = encodeSession(model.tokenizer, session, true);
  turns = await play(model, FULL, encoded, options());
  requests = await play(model, FULL, encoded, options({ mode: 'multi-request' }));
});
afterAll(() => opened[Symbol.asyncDispose]());

function sessionOf(task: string, index = 0, phrasing: 'training' | 'natural' = 'training'): ScbenchSession {
  const count = (text: string) => model.tokenizer.encode(text, { addBos: false, parseSpecial: false }).length;
  return generateSession(findScbenchTask(task), { split: 'tune', length: 320, seed: 0, index }, { phrasing, count });
}

const options = (changes: Partial<PlayOptions> = {}): PlayOptions => ({
  mode: 'multi-turn',
  transcript: 'reference',
  write: [20, 20, 20, 20, 20],
  ...changes,
});
const right = (played: Played) =>
  played.turns.map((turn, i) => model.tokenizer.decode(turn.written) === session.turns[i]!.reference);

describe('encoding', () => {
  test('a conversation is what the chat template makes of it', () => {
    const messages = session.turns.flatMap(({ input, reference }, i) => [
      { role: 'user', content: i === 0 ? `${session.context}\n\n${input}` : input },
      { role: 'assistant', content: reference },
    ]);
    const whole = model.tokenizer.encode(model.tokenizer.renderChat(messages, { addGenerationPrompt: false }));
    const ids = [...encoded.context];
    for (const { inTurn, reference } of encoded.turns) ids.push(...inTurn, ...reference, encoded.end!);
    expect(ids).toEqual(whole.slice(0, ids.length));
    expect(ids.length).toBeGreaterThan(whole.length - 3);
  });

  test('a request is the context and one question, and the context is the same for all', () => {
    for (const [i, { input }] of session.turns.entries()) {
      const content = `${session.context}\n\n${input}`;
      const whole = model.tokenizer.renderChat([{ role: 'user', content }], { addGenerationPrompt: true });
      expect([...encoded.context, ...encoded.turns[i]!.alone]).toEqual(model.tokenizer.encode(whole));
    }
    expect(encoded.turns[0]!.alone).toEqual(encoded.turns[0]!.inTurn);
    expect(model.tokenizer.decode(encoded.context)).not.toContain(session.turns[0]!.input);
  });

  test('without a chat template it is plain text, and answers are led to', async () => {
    const plain = await tokenizerOf(TINY);
    const natural = sessionOf('mf', 0, 'natural');
    const { context, turns, end } = encodeSession(plain, natural, false);
    expect(end).toBe(null);
    expect(plain.decode([...context, ...turns[0]!.alone])).toBe(
      `${natural.context}\n\n${natural.turns[0]!.input}\n\n${natural.turns[0]!.lead}`,
    );
    expect(plain.decode(turns[1]!.inTurn)).toBe(`\n\n${natural.turns[1]!.input}\n\n${natural.turns[1]!.lead}`);
  });
});

describe('the full cache', () => {
  test('answers in both modes alike, and the first turn is the first request', () => {
    expect(right(turns)).toEqual([true, true, true, true, true]);
    expect(right(requests)).toEqual(right(turns));
    const [a, b] = [turns.turns[0]!.logits, requests.turns[0]!.logits];
    expect(a.length).toBe(encoded.turns[0]!.reference.length + 1);
    for (const [i, logits] of a.entries())
      for (const [id, value] of logits.entries()) expect(Math.abs(value - b[i]![id]!)).toBeLessThan(0.02);
  });

  test('says how many tokens were there already, and how many were run', () => {
    const counts = (played: Played) => played.turns.map(({ reused, run }) => [reused, run]);
    const { context, turns: asked } = encoded;
    const expected: number[][] = [[0, context.length + asked[0]!.inTurn.length]];
    for (let i = 1; i < asked.length; i++)
      expected.push([
        expected[i - 1]![0]! + expected[i - 1]![1]!,
        asked[i - 1]!.reference.length + 1 + asked[i]!.inTurn.length,
      ]);
    expect(counts(turns)).toEqual(expected);
    expect(counts(requests)).toEqual(asked.map(({ alone }) => [context.length, alone.length]));
    expect(requests.context).toMatchObject({ tokens: context.length, recipeMs: 0, parked: 0, kept: context.length });
    // A later request finds no more in the cache than the first.
    expect(new Set(requests.turns.map(turn => turn.held)).size).toBe(1);
    expect(model.cache.stats()).toMatchObject({ pages: 0, sequences: 0 });
  });

  test('own answers that are the references make the same conversation; others another', async () => {
    const own = await play(model, FULL, encoded, options({ transcript: 'own' }));
    expect(own.turns.map(turn => turn.written)).toEqual(turns.turns.map(turn => turn.written));
    const last = (played: Played) => played.turns.at(-1)!.logits[0]!;
    const distance = (a: Float32Array, b: Float32Array) => Math.max(...a.map((value, id) => Math.abs(value - b[id]!)));
    expect(distance(last(own), last(turns))).toBeLessThan(0.05);
    const written = turns.turns.map(() => encoded.turns[1]!.alone.slice(0, 9));
    const given = await play(model, FULL, encoded, options({ transcript: written, write: [0, 0, 0, 0, 0] }));
    expect(distance(last(given), last(turns))).toBeGreaterThan(0.5);
  });
});

describe('recipes', () => {
  const bytes = (feed: Feed) => {
    const hash = createHash('sha256');
    const { slots, kvHeads } = model.cache.shape;
    for (let slot = 0; slot < slots; slot++)
      for (let head = 0; head < kvHeads; head++) {
        const { k, v, positions } = feed.sequence.read(slot, head);
        for (const plane of [k, v, positions])
          hash.update(new Uint8Array(plane.buffer, plane.byteOffset, plane.byteLength));
      }
    return hash.digest('hex');
  };

  test.each(['full', 'snapkv(keep=0.25) + kivi(bits=2)', 'streaming-llm(keep=0.25)', 'h2o', 'louiskv(budget=96)'])(
    '%s: the cache of the context is the same bytes before and after every request',
    async recipe => {
      const seen: string[] = [];
      const small = options({ mode: 'multi-request', write: [1, 1, 1, 1, 1] });
      await play(model, cacheSetting(recipe), encoded, small, context => void seen.push(bytes(context)));
      expect(seen.length).toBe(6);
      expect(new Set(seen).size).toBe(1);
    },
  );

  test('snapkv keeps what the first question looks at, and loses what later ones do', async () => {
    const snapkv = cacheSetting('snapkv(keep=0.3, width=15)');
    const played = await play(model, snapkv, encoded, options());
    const [first, ...later] = right(played);
    expect(first).toBe(true);
    expect(later.filter(Boolean).length).toBeLessThan(3);
    // It was compressed, and the recipe took its time.
    const { recipeMs, prefillMs, held } = played.context;
    expect(held / turns.context.held).toBeLessThan(0.5);
    expect(recipeMs).toBeGreaterThan(0);
    expect(recipeMs).toBeLessThan(prefillMs);
    // In requests, the question is not known when the context is compressed.
    const asked = await play(model, snapkv, encoded, options({ mode: 'multi-request' }));
    expect(right(asked).filter(Boolean).length).toBeLessThan(4);
  });

  test('a format loses nothing in either mode', async () => {
    for (const mode of ['multi-turn', 'multi-request'] as const)
      expect(right(await play(model, cacheSetting('kivi(bits=4)'), encoded, options({ mode })))).toEqual(
        session.turns.map(() => true),
      );
  });

  test('what is fetched from outside of the cache is counted', async () => {
    const small = options({ mode: 'multi-request', write: [1, 1, 1, 1, 1] });
    const { context, turns: asked } = await play(model, cacheSetting('louiskv(budget=96)'), encoded, small);
    expect(context.parked).toBeGreaterThan(0);
    expect(asked[0]!.fetched).toBeGreaterThan(0);
  });

  test.each(['multi-turn', 'multi-request'] as const)('next to no budget: chance, %s', async mode => {
    const played = await play(model, cacheSetting('streaming-llm(budget=1, sinks=0)'), encoded, options({ mode }));
    for (const [i, { written }] of played.turns.entries())
      expect(model.tokenizer.decode(written)).not.toContain(session.turns[i]!.answer[0]);
  });

  test('a stop on the way frees the cache', async () => {
    const pause = async () => {
      if (model.cache.stats().sequences > 1) throw new Error('stopped');
    };
    for (const mode of ['multi-turn', 'multi-request'] as const)
      await expect(play(model, cacheSetting('h2o'), encoded, options({ mode, pause }))).rejects.toThrowError('stopped');
    expect(model.cache.stats()).toMatchObject({ pages: 0, sequences: 0 });
  });
});
