import { expect, test } from 'vitest';
import { testPath } from '../test/golden.ts';
import kvasir, { collect, createEngine, KvasirError, load } from './index.ts';

const PATH = testPath('models/qwen3');
const greedy = { maxTokens: 12, temperature: 0, ignoreEnd: true } as const;

test('chats, continues texts, scores and tokenizes', async () => {
  await using model = await load(PATH, { mode: 'exact' });
  expect(model.info).toMatchObject({ architecture: 'qwen3', mode: 'exact', hasChatTemplate: true });
  const answer = await collect(model.chat([{ role: 'user', content: 'Hello' }], greedy));
  expect(answer.tokens).toHaveLength(12);
  expect(answer.finishReason).toBe('length');
  const ids = await model.tokenize('Hello there');
  // A text gets the BOS token that this model wants.
  expect(await model.detokenize(ids)).toBe('<|endoftext|>Hello there');
  const continued = await collect(model.generate('Hello there', greedy));
  expect((await collect(model.generate(ids, greedy))).tokens).toEqual(continued.tokens);
  const scored = await model.score(ids, continued.tokens);
  expect([...scored.best]).toEqual(continued.tokens);
});

test('a session remembers and reuses its cache', async () => {
  await using model = await load(PATH, { mode: 'exact' });
  await using session = await model.session({ system: 'Be brief.' });
  const first = await collect(session.say('One', greedy));
  expect(first.usage.cachedTokens).toBe(0);
  for await (const part of session.say('Two', greedy)) if (part.tokens.length > 0) break;
  expect(session.messages.map(m => m.role)).toEqual(['system', 'user', 'assistant', 'user', 'assistant']);
  const third = await collect(session.say('Three', greedy));
  expect(third.usage.cachedTokens).toBeGreaterThan(first.usage.promptTokens - 1);
  session.reset();
  expect(session.messages).toHaveLength(1);
});

test('several models share an engine; `using` frees', async () => {
  const engine = createEngine();
  const first = await load(PATH, { engine, name: 'a' });
  {
    using second = await load(testPath('models/llama'), { engine, name: 'b' });
    expect(second.info.architecture).toBe('llama');
  }
  while ((await engine.models()).length > 1) await new Promise(resolve => setTimeout(resolve, 5));
  expect((await collect(first.generate('x', greedy))).tokens).toHaveLength(12);
  await engine.dispose();
});

test('says what is wrong', async () => {
  await expect(kvasir.load('no-such-model')).rejects.toMatchObject({ code: 'model_not_found', field: 'model' });
  await expect(load(PATH, { tile: 0 })).rejects.toMatchObject({ code: 'invalid_request', field: 'tile' });
  const model = await load(PATH);
  await model.dispose();
  await expect(collect(model.generate('x'))).rejects.toBeInstanceOf(KvasirError);
});
