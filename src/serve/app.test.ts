import type { z } from '@hono/zod-openapi';
import { beforeEach, describe, expect, test } from 'vitest';
import { KvasirError } from '../errors.ts';
import { describeMethod } from '../methods/describe.ts';
import { METHODS } from '../methods/index.ts';
import { type AppOptions, createApp } from './app.ts';
import { EchoEngine, echoCatalogue } from './echo.testing.ts';
import type * as schemas from './schemas.ts';
import { MethodList } from './schemas.ts';

let engine: EchoEngine;
beforeEach(() => {
  engine = new EchoEngine();
});

function call(path: string, body?: unknown, init: RequestInit = {}, options: Partial<AppOptions> = {}) {
  const app = createApp(engine, { catalogue: echoCatalogue, ...options });
  const headers = {
    host: 'localhost',
    ...(body !== undefined && { 'content-type': 'application/json' }),
    ...init.headers,
  };
  return app.request(`http://localhost${path}`, {
    ...(body !== undefined && { method: 'POST', body: typeof body === 'string' ? body : JSON.stringify(body) }),
    ...init,
    headers,
  });
}

const chat = { model: 'echo', messages: [{ role: 'user', content: 'one two three' }] };
const CHAT = '/v1/chat/completions';
const TEXT = '/v1/completions';

type ChatChunk = z.infer<typeof schemas.ChatChunk>;
type TextChunk = z.infer<typeof schemas.TextCompletion>;

async function events<T = ChatChunk>(response: Response): Promise<T[]> {
  expect(response.headers.get('content-type')).toBe('text/event-stream; charset=utf-8');
  const lines = (await response.text()).split('\n\n').filter(line => line.startsWith('data: '));
  expect(lines.at(-1)).toBe('data: [DONE]');
  return lines.slice(0, -1).map(line => JSON.parse(line.slice(6)));
}

describe('chat completions', () => {
  test('answer whole, with usage and figures', async () => {
    const response = await call(CHAT, chat);
    expect(response.status).toBe(200);
    expect(await response.json()).toMatchObject({
      id: expect.stringMatching(/^chatcmpl-/),
      object: 'chat.completion',
      model: 'echo',
      choices: [
        {
          index: 0,
          message: { role: 'assistant', content: 'three two one', refusal: null },
          logprobs: null,
          finish_reason: 'stop',
        },
      ],
      usage: { prompt_tokens: 3, completion_tokens: 3, total_tokens: 6, prompt_tokens_details: { cached_tokens: 0 } },
      kvasir: {
        cache: { format: 'f32', recipe: 'full', kept: 6, bytes: 192, items: { exact: 192 }, parked: 0, peak: 384 },
        timings: { prefill_ms: 1 },
      },
    });
  });

  test('stream: role first, text, finish reason with the figures, [DONE]', async () => {
    const chunks = await events(await call(CHAT, { ...chat, stream: true }));
    expect(chunks.map(chunk => chunk.choices[0]!.delta)).toEqual([
      { role: 'assistant', content: '' },
      { content: 'three' },
      { content: ' two' },
      { content: ' one' },
    ]);
    expect(chunks.map(chunk => chunk.choices[0]!.finish_reason)).toEqual([null, null, null, 'stop']);
    expect(chunks.map(chunk => 'kvasir' in chunk)).toEqual([false, false, false, true]);
    expect(new Set(chunks.map(chunk => chunk.id)).size).toBe(1);
    expect(chunks.every(chunk => !('usage' in chunk))).toBe(true);
  });

  test('stream with usage: null on chunks, then one without choices', async () => {
    const chunks = await events(await call(CHAT, { ...chat, stream: true, stream_options: { include_usage: true } }));
    expect(chunks.slice(0, -1).every(chunk => chunk.usage === null && chunk.choices.length === 1)).toBe(true);
    expect(chunks.at(-1)).toMatchObject({
      choices: [],
      usage: { prompt_tokens: 3, completion_tokens: 3 },
      kvasir: { cache: {} },
    });
  });

  test('n answers keep their indices, each opened and finished once', async () => {
    const whole = await (await call(CHAT, { ...chat, n: 3 })).json();
    expect(
      whole.choices.map((one: { index: number; message: { content: string } }) => [one.index, one.message.content]),
    ).toEqual([0, 1, 2].map(i => [i, 'three two one']));
    const chunks = await events(await call(CHAT, { ...chat, n: 3, stream: true }));
    for (const index of [0, 1, 2]) {
      const mine = chunks.flatMap(chunk => chunk.choices).filter(choice => choice.index === index);
      expect(mine.map(choice => choice.delta.content ?? '').join('')).toBe('three two one');
      expect(mine.filter(choice => choice.delta.role)).toHaveLength(1);
      expect(mine.filter(choice => choice.finish_reason)).toHaveLength(1);
    }
    expect(chunks.filter(chunk => chunk.kvasir)).toHaveLength(1);
  });

  test('logprobs in the chat shape, impossible tokens as -9999', async () => {
    const { choices } = await (await call(CHAT, { ...chat, logprobs: true, top_logprobs: 2 })).json();
    expect(choices[0].logprobs.content).toHaveLength(3);
    expect(choices[0].logprobs.content[0]).toEqual({
      token: 'three',
      logprob: -0.5,
      bytes: [116, 104, 114, 101, 101],
      top_logprobs: [
        { token: 'three', logprob: -0.5, bytes: [116, 104, 114, 101, 101] },
        { token: '?', logprob: -9999, bytes: [63] },
      ],
    });
  });

  test('options reach the engine under its names', async () => {
    await call(CHAT, {
      ...chat,
      messages: [{ role: 'developer', content: [{ type: 'text', text: 'a' }, { type: 'text', text: 'b' }] }, ...chat.messages],
      temperature: 0.5, top_p: 0.9, top_k: 40, min_p: 0.05, repetition_penalty: 1.1, frequency_penalty: 0.1,
      presence_penalty: -0.1, logit_bias: { 7: -100 }, seed: 3, n: 1, stop: 'x', cache: 'int8', prefill: 'layer',
      kv: [{ method: 'snapkv', keep: 0.5, budget: null }],
      ignore_eos: true, max_completion_tokens: 5, logprobs: true, user: null, tools: null, store: false,
      response_format: { type: 'text' },
    }); // biome-ignore format: a list of fields
    expect(engine.seen[0]).toEqual({
      model: 'echo',
      messages: [{ role: 'system', content: 'ab' }, { role: 'user', content: 'one two three' }],
      temperature: 0.5, topP: 0.9, topK: 40, minP: 0.05, repetitionPenalty: 1.1, frequencyPenalty: 0.1,
      presencePenalty: -0.1, logitBias: { 7: -100 }, seed: 3, n: 1, stop: ['x'], cache: 'int8', prefill: 'layer',
      kv: [{ method: 'snapkv', keep: 0.5 }],
      ignoreEnd: true, maxTokens: 5, logprobs: 0,
    }); // biome-ignore format: a list of fields
  });

  test('unset options stay unset, but temperature is 1', async () => {
    await call(CHAT, chat);
    expect(engine.seen[0]).toEqual({ model: 'echo', messages: chat.messages, temperature: 1 });
  });

  test('a failure in the middle of a stream comes as an event, not as [DONE]', async () => {
    engine.failAfter = 2;
    const response = await call(CHAT, { ...chat, stream: true });
    expect(response.status).toBe(200);
    const text = await response.text();
    expect(text).toContain('"content":" two"');
    expect(text).toContain(
      'data: {"error":{"message":"the backend broke","type":"server_error","param":null,"code":"backend_failed"}}',
    );
    expect(text).not.toContain('[DONE]');
    expect(engine.running).toBe(0);
  });

  test('a refusal before the first token of a stream has its status', async () => {
    engine.failAfter = 0;
    engine.failure = new KvasirError('queue_full', '256 requests wait');
    const response = await call(CHAT, { ...chat, stream: true });
    expect(response.status).toBe(429);
    expect(response.headers.get('retry-after')).toBe('1');
    expect(await response.json()).toEqual({
      error: { message: '256 requests wait', type: 'rate_limit_error', param: null, code: 'queue_full' },
    });
  });

  test('headers go out before a late first token, with comments to keep the line open', async () => {
    engine.tokenMs = 60;
    const response = await call(CHAT, { ...chat, stream: true }, {}, { sse: { headersAfterMs: 5, keepAliveMs: 20 } });
    const text = await response.text();
    expect(text).toMatch(/^: waiting\n\n/);
    expect(text).toMatch(/data: \[DONE\]\n\n$/);
  });

  test('what nobody raised on purpose is an internal error without its text, and is reported', async () => {
    engine.failAfter = 0;
    engine.failure = new TypeError('secret path /home');
    const reported: unknown[] = [];
    const response = await call(CHAT, chat, {}, { onError: error => reported.push(error) });
    expect(response.status).toBe(500);
    expect(await response.text()).not.toContain('secret');
    expect(reported).toEqual([engine.failure]);
  });
});

describe('text completions', () => {
  test('a string; max_tokens is 16 by default', async () => {
    const response = await call(TEXT, { model: 'echo', prompt: 'a b', logprobs: 1 });
    const body = await response.json();
    expect(body).toMatchObject({ object: 'text_completion', choices: [{ text: 'b a', finish_reason: 'stop' }] });
    expect(body.choices[0].logprobs).toEqual({
      tokens: ['b', ' a'],
      token_logprobs: [-0.5, -0.5],
      top_logprobs: [{ b: -0.5 }, { ' a': -0.5 }],
      text_offset: [0, 1],
    });
    expect(engine.seen[0]).toMatchObject({ text: 'a b', maxTokens: 16, logprobs: 1 });
  });

  test('strings: answer j of prompt i is i * n + j; usage adds up', async () => {
    const body = await (await call(TEXT, { model: 'echo', prompt: ['a b', 'c d e'], n: 2 })).json();
    expect(body.choices.map((one: { text: string }) => one.text)).toEqual(['b a', 'b a', 'e d c', 'e d c']);
    expect(body.usage).toMatchObject({ prompt_tokens: 5, completion_tokens: 10 });
    const chunks = await events<TextChunk>(
      await call(TEXT, { model: 'echo', prompt: ['a b', 'c d e'], stream: true, return_token_ids: true }),
    );
    const second = chunks.flatMap(chunk => chunk.choices).filter(choice => choice.index === 1);
    expect(second.map(choice => choice.text).join('')).toBe('e d c');
    expect(second.flatMap(choice => choice.token_ids)).toEqual([0, 1, 2]);
    expect(chunks.filter(chunk => chunk.kvasir)).toHaveLength(1);
  });

  test('tokens, one list or several', async () => {
    await call(TEXT, { model: 'echo', prompt: [1, 2, 3] });
    await call(TEXT, { model: 'echo', prompt: [[4], [5, 6]] });
    expect(engine.seen.map(request => request.tokens)).toEqual([[1, 2, 3], [4], [5, 6]]);
  });

  test('offsets go on across the chunks of a stream', async () => {
    const chunks = await events<TextChunk>(
      await call(TEXT, { model: 'echo', prompt: 'aa bb cc', logprobs: 0, stream: true }),
    );
    expect(chunks.map(chunk => chunk.choices[0]!.logprobs!.text_offset[0])).toEqual([0, 2, 5]);
  });

  test('one prompt that fails ends the others', async () => {
    engine.context = 3;
    const response = await call(TEXT, { model: 'echo', prompt: ['a b', 'a b c d'] });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({
      error: { code: 'context_length_exceeded', param: 'prompt', message: expect.stringMatching(/4 tokens.*3/) },
    });
    expect(engine.running).toBe(0);
  });
});

describe('the other paths', () => {
  test('models: state and shape, without the path on disk', async () => {
    const before = await (await call('/v1/models')).json();
    expect(before.data.map((model: schemas.ModelBody) => [model.id, model.kvasir.state])).toEqual([
      ['echo', 'available'],
      ['broken', 'available'],
    ]);
    await call(CHAT, chat);
    const model = await (await call('/v1/models/echo')).json();
    expect(model).toMatchObject({
      id: 'echo',
      object: 'model',
      kvasir: { state: 'loaded', bundled: true, info: { context: 64, vocab: 1000 } },
    });
    expect(JSON.stringify(model)).not.toContain('nowhere');
  });

  test('load streams progress, then the model; ten at once load once', async () => {
    engine.loadMs = 30;
    const app = createApp(engine, { catalogue: echoCatalogue });
    const ask = (path: string, body: object) =>
      app.request(path, {
        method: 'POST',
        headers: { host: 'localhost', 'content-type': 'application/json' },
        body: JSON.stringify(body),
      });
    const [loaded] = await Promise.all([
      (async () => events<{ fraction: number }>(await ask('/load', { model: 'echo' })))(),
      ...Array.from({ length: 9 }, () => ask(CHAT, chat)),
    ]);
    expect(engine.loads).toBe(1);
    expect(loaded.at(-1)).toMatchObject({ fraction: 1, model: { id: 'echo', kvasir: { state: 'loaded' } } });
    expect(loaded.length).toBeGreaterThan(2);
    expect(await (await ask('/load', { model: 'broken' })).text()).toContain('"code":"bad_model_file"');
    expect((await ask('/load', { model: 'nobody' })).status).toBe(404);
  });

  test('tokenize, detokenize, health, stats', async () => {
    expect(await (await call('/tokenize', { model: 'echo', prompt: 'a bb' })).json()).toEqual({
      tokens: [1, 2],
      count: 2,
      max_model_len: 64,
    });
    expect(await (await call('/tokenize', { model: 'echo', messages: chat.messages })).json()).toMatchObject({
      tokens: [3, 3, 5],
    });
    expect(await (await call('/detokenize', { model: 'echo', tokens: [1, 2] })).json()).toEqual({ prompt: 'x xx' });
    expect(await (await call('/health')).json()).toEqual({ status: 'ok' });
    expect(await (await call('/stats')).json()).toMatchObject({ running: 0 });
  });

  test('openapi.json has every path and every extension', async () => {
    const document = await (await call('/openapi.json')).json();
    expect(document.openapi).toBe('3.1.0');
    expect(Object.keys(document.paths).sort()).toEqual(
      [
        '/detokenize',
        '/health',
        '/load',
        '/stats',
        '/tokenize',
        CHAT,
        TEXT,
        '/v1/models',
        '/v1/models/{id}',
        '/v1/kvasir/compare',
        '/v1/kvasir/methods',
      ].sort(),
    );
    const properties = Object.keys(document.components.schemas.ChatRequest.properties);
    for (const name of ['top_k', 'min_p', 'repetition_penalty', 'cache', 'kv', 'ignore_eos'])
      expect(properties).toContain(name);
  });

  test('the answer says which recipe ran', async () => {
    for (const kv of ['snapkv( keep = 0.5 )+kivi', '[{"method":"snapkv","keep":0.5},{"method":"kivi"}]']) {
      const body = await (await call(CHAT, { ...chat, kv })).json();
      expect(body.kvasir.cache.recipe).toBe('snapkv(keep=0.5) + kivi');
    }
  });

  test('methods, and their options in the document, are those of the registry', async () => {
    const list = await (await call('/v1/kvasir/methods')).json();
    const { data } = list;
    expect(data).toEqual(JSON.parse(JSON.stringify(METHODS.map(describeMethod))));
    expect(MethodList.safeParse(list).success).toBe(true);
    const { schemas } = (await (await call('/openapi.json')).json()).components;
    expect(schemas.ChatRequest.properties.kv.anyOf).toEqual([{ $ref: '#/components/schemas/Recipe' }]);
    const step = schemas.RecipeStep.oneOf.find((entry: { title: string }) => entry.title === 'SnapKV');
    expect(step.properties).toMatchObject({
      method: { const: 'snapkv' },
      keep: { type: 'number', exclusiveMinimum: 0, maximum: 1 },
      evict: { enum: ['prompt', 'chunk'], default: 'prompt' },
    });
  });

  test('every answer is isolated and says so', async () => {
    for (const path of ['/health', '/nowhere', '/v1/models']) {
      const { headers } = await call(path);
      expect(headers.get('cross-origin-opener-policy')).toBe('same-origin');
      expect(headers.get('cross-origin-embedder-policy')).toBe('require-corp');
      expect(headers.get('content-security-policy')).toContain("default-src 'none'");
    }
  });
});
