import { beforeAll, describe, expect, test } from 'vitest';
import { type AppOptions, createApp } from './app.ts';
import { EchoEngine, echoCatalogue } from './echo.testing.ts';

const CHAT = '/v1/chat/completions';
const TEXT = '/v1/completions';
const messages = [{ role: 'user', content: 'hi' }];

interface Case {
  what: string;
  path?: string;
  method?: string;
  /** Merged into a sound chat request; a string or bytes go as they are. */
  body?: object | string | Uint8Array;
  headers?: Record<string, string>;
  options?: Partial<AppOptions>;
  status?: number;
  code?: string;
  param?: string | null;
  message: RegExp;
}

const bad = (what: string, body: object, param: string, message: RegExp): Case => ({ what, body, param, message });
const unsupported = (field: string, value: unknown): Case => ({
  what: `${field}, not supported`,
  body: { [field]: value },
  code: 'unsupported',
  param: field,
  message: new RegExp(`^${field}: .+`),
});

const CASES: Case[] = [
  { what: 'broken JSON', body: '{"model": ', param: null, message: /not valid JSON/ },
  { what: 'an empty body', body: '', param: null, message: /not valid JSON/ },
  { what: 'a list as body', body: '[1]', param: null, message: /must be a JSON object; got \[1\]/ },
  { what: 'null as body', body: 'null', param: null, message: /must be a JSON object; got null/ },
  { what: 'bytes that are no UTF-8', body: Uint8Array.of(0x22, 0xff, 0x22), param: null, message: /UTF-8/ },
  {
    what: 'a form as body',
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    status: 415,
    code: 'unsupported_media_type',
    message: /application\/json; got application\/x-www-form-urlencoded/,
  },
  bad('no model', { model: undefined }, 'model', /model is required: a string/),
  bad('model of a wrong type', { model: 3 }, 'model', /must be a string; got 3/),
  { what: 'an unknown model', body: { model: 'gpt-9' }, status: 404, code: 'model_not_found', param: 'model', message: /gpt-9.*echo, broken/ },
  { what: 'an unknown model by id', path: '/v1/models/gpt-9', method: 'GET', status: 404, code: 'model_not_found', param: 'model', message: /gpt-9/ },
  { what: 'a model that does not load', body: { model: 'broken' }, status: 500, code: 'bad_model_file', message: /wrong magic/ },
  bad('no messages', { messages: undefined }, 'messages', /required: a list/),
  bad('messages: none', { messages: [] }, 'messages', /at least 1/),
  bad('messages: a string', { messages: 'hi' }, 'messages', /a list; got "hi"/),
  bad('a message that is no object', { messages: ['hi'] }, 'messages[0]', /an object; got "hi"/),
  bad('a role that is none', { messages: [{ role: 'tool', content: '' }] }, 'messages[0].role', /"system" or .*; got "tool"/),
  bad('no content', { messages: [{ role: 'user', content: null }] }, 'messages[0].content', /required: a string/),
  bad('an image', { messages: [{ role: 'user', content: [{ type: 'image_url', image_url: {} }] }] }, 'messages[0].content', /image_url/),
  bad('a part of an unknown kind', { messages: [{ role: 'user', content: [{ type: 'text', text: 'a', segment: { kind: 'page' } }] }] }, 'messages[0].content[0].segment.kind', /one of system, turn, document, image, text; got "page"/),
  bad('a part without a kind', { messages: [{ role: 'user', content: [{ type: 'text', text: 'a', segment: {} }] }] }, 'messages[0].content[0].segment.kind', /required: one of system/),
  bad('a label that is too long', { messages: [{ role: 'user', content: [{ type: 'text', text: 'a', segment: { kind: 'image', label: 'x'.repeat(201) } }] }] }, 'messages[0].content[0].segment.label', /at most 200/),
  { what: 'segments of a chat', body: { segments: [] }, code: 'unsupported', param: 'segments', message: /unknown field/ },
  { what: 'a tool call in a message', body: { messages: [{ role: 'assistant', content: '', tool_calls: [] }] }, code: 'unsupported', param: 'messages[0].tool_calls', message: /tool calls/ },
  bad('temperature: text', { temperature: 'hot' }, 'temperature', /a number; got "hot"/),
  bad('temperature: below', { temperature: -0.1 }, 'temperature', /at least 0; got -0.1/),
  bad('temperature: above', { temperature: 2.1 }, 'temperature', /at most 2; got 2.1/),
  bad('top_p: 0', { top_p: 0 }, 'top_p', /more than 0; got 0/),
  bad('top_k: a fraction', { top_k: 1.5 }, 'top_k', /a whole number; got 1.5/),
  bad('min_p: above', { min_p: 1.5 }, 'min_p', /at most 1/),
  bad('repetition_penalty: 0', { repetition_penalty: 0 }, 'repetition_penalty', /more than 0/),
  bad('frequency_penalty: above', { frequency_penalty: 3 }, 'frequency_penalty', /at most 2/),
  bad('presence_penalty: below', { presence_penalty: -3 }, 'presence_penalty', /at least -2/),
  bad('max_tokens: 0', { max_tokens: 0 }, 'max_tokens', /at least 1; got 0/),
  bad('max_completion_tokens: text', { max_completion_tokens: '9' }, 'max_completion_tokens', /a number; got "9"/),
  bad('two budgets', { max_tokens: 4, max_completion_tokens: 5 }, 'max_tokens', /\(4\).*\(5\) differ/),
  bad('n: 17', { n: 17 }, 'n', /at most 16; got 17/),
  bad('seed: a fraction', { seed: 0.5 }, 'seed', /a whole number/),
  bad('stop: 17 strings', { stop: Array(17).fill('x') }, 'stop', /at most 16/),
  bad('stop: empty', { stop: '' }, 'stop', /at least 1/),
  bad('stop: a number', { stop: 3 }, 'stop', /a string, or a list/),
  bad('logit_bias: above', { logit_bias: { 5: 101 } }, 'logit_bias.5', /at most 100; got 101/),
  bad('logit_bias: a word', { logit_bias: { the: 1 } }, 'logit_bias.the', /a token id/),
  bad('logit_bias: a list', { logit_bias: [1] }, 'logit_bias', /an object/),
  bad('logprobs: a number', { logprobs: 3 }, 'logprobs', /true or false; got 3/),
  bad('top_logprobs: 21', { logprobs: true, top_logprobs: 21 }, 'top_logprobs', /at most 20/),
  bad('top_logprobs alone', { top_logprobs: 2 }, 'top_logprobs', /"logprobs": true/),
  bad('stream: text', { stream: 'yes' }, 'stream', /true or false/),
  bad('stream_options without stream', { stream_options: { include_usage: true } }, 'stream_options', /"stream": true/),
  bad('cache: int2', { cache: 'int2' }, 'cache', /"f32" or "f16" or "int8"; got "int2"/),
  bad('store: true', { store: true }, 'store', /must be false; got true/),
  bad('response_format: json_object', { response_format: { type: 'json_object' } }, 'response_format.type', /"text"; got "json_object"/),
  { what: 'an unknown field', body: { temprature: 1 }, code: 'unsupported', param: 'temprature', message: /temprature: unknown field/ },
  { what: 'an unknown field within one', body: { stream: true, stream_options: { x: 1 } }, code: 'unsupported', param: 'stream_options.x', message: /unknown field/ },
  { what: '__proto__', body: `{"model":"echo","messages":[{"role":"user","content":"hi"}],"__proto__":{"n":3}}`, code: 'unsupported', param: '__proto__', message: /unknown field/ },
  ...(
    [
      ['tools', [{ type: 'function' }]], ['tool_choice', 'auto'], ['functions', []], ['function_call', 'auto'],
      ['audio', {}], ['modalities', ['text']], ['metadata', {}], ['user', 'u'], ['reasoning_effort', 'low'],
      ['service_tier', 'auto'], ['parallel_tool_calls', true], ['prediction', {}], ['web_search_options', {}],
    ] as const
  ).map(([field, value]) => unsupported(field, value)), // biome-ignore format: a table
  { what: 'a prompt beyond the context', body: { messages: [{ role: 'user', content: 'w '.repeat(70) }] }, code: 'context_length_exceeded', param: 'messages', message: /70 tokens.*64/ },
  { what: 'the same, streamed', body: { stream: true, messages: [{ role: 'user', content: 'w '.repeat(70) }] }, code: 'context_length_exceeded', param: 'messages', message: /70 tokens.*64/ },
  { what: 'a body over the limit', body: { messages: [{ role: 'user', content: 'x'.repeat(3000) }] }, options: { bodyLimit: 2000 }, status: 413, code: 'body_too_large', message: /allowed: 2000 bytes/ },
  { what: 'no prompt', path: TEXT, body: '{"model":"echo"}', param: 'prompt', message: /required/ },
  { what: 'prompt: none', path: TEXT, body: '{"model":"echo","prompt":[]}', param: 'prompt', message: /a string, a list/ },
  { what: 'prompt: mixed', path: TEXT, body: '{"model":"echo","prompt":[1,"a"]}', param: 'prompt', message: /got \[1,"a"\]/ },
  { what: 'prompt: 65 strings', path: TEXT, body: JSON.stringify({ model: 'echo', prompt: Array(65).fill('a') }), param: 'prompt', message: /at most 64/ },
  { what: 'a negative token', path: TEXT, body: '{"model":"echo","prompt":[-1]}', param: 'prompt[0]', message: /at least 0; got -1/ },
  { what: 'segments of several prompts', path: TEXT, body: '{"model":"echo","prompt":["a","b"],"segments":[{"kind":"text","from":0,"to":1}]}', param: 'segments', message: /a single prompt/ },
  { what: 'a segment of an unknown kind', path: TEXT, body: '{"model":"echo","prompt":"a","segments":[{"kind":"page","from":0,"to":1}]}', param: 'segments[0].kind', message: /one of system/ },
  { what: 'a segment without an end', path: TEXT, body: '{"model":"echo","prompt":"a","segments":[{"kind":"text","from":0}]}', param: 'segments[0].to', message: /required/ },
  { what: 'a segment before the prompt', path: TEXT, body: '{"model":"echo","prompt":"a","segments":[{"kind":"text","from":-1,"to":1}]}', param: 'segments[0].from', message: /at least 0; got -1/ },
  { what: 'echo', path: TEXT, body: '{"model":"echo","prompt":"a","echo":true}', param: 'echo', message: /must be false; got true/ },
  { what: 'best_of', path: TEXT, body: '{"model":"echo","prompt":"a","best_of":2}', code: 'unsupported', param: 'best_of', message: /use n/ },
  { what: 'suffix', path: TEXT, body: '{"model":"echo","prompt":"a","suffix":"b"}', code: 'unsupported', param: 'suffix', message: /middle/ },
  { what: 'text logprobs: true', path: TEXT, body: '{"model":"echo","prompt":"a","logprobs":true}', param: 'logprobs', message: /a number; got true/ },
  { what: 'tokenize both', path: '/tokenize', body: JSON.stringify({ model: 'echo', prompt: 'a', messages }), param: 'prompt', message: /exactly one/ },
  { what: 'tokenize neither', path: '/tokenize', body: '{"model":"echo"}', param: 'prompt', message: /exactly one/ },
  { what: 'detokenize text', path: '/detokenize', body: '{"model":"echo","tokens":"a"}', param: 'tokens', message: /a list; got "a"/ },
  { what: 'an unknown path', path: '/v1/embeddings', status: 404, code: 'not_found', message: /POST \/v1\/embeddings/ },
  { what: 'a wrong method', method: 'GET', status: 405, code: 'method_not_allowed', message: /takes POST; got GET/ },
  { what: 'a foreign Host', headers: { host: 'evil.example' }, status: 403, code: 'host_not_allowed', message: /evil\.example/ },
  { what: 'a Host that begins like ours', headers: { host: 'localhost.evil.example:8080' }, status: 403, code: 'host_not_allowed', message: /evil/ },
  { what: 'a Host with a user', headers: { host: 'localhost@evil.example' }, status: 403, code: 'host_not_allowed', message: /evil/ },
  { what: 'no Host', headers: { host: '' }, status: 403, code: 'host_not_allowed', message: /""/ },
  { what: 'a foreign Origin', headers: { origin: 'https://evil.example' }, status: 403, code: 'origin_not_allowed', message: /evil\.example/ },
  { what: 'the Origin of a file', headers: { origin: 'null' }, status: 403, code: 'origin_not_allowed', message: /null/ },
  { what: 'no key', options: { apiKey: 's3cret' }, status: 401, code: 'invalid_api_key', message: /Authorization: Bearer/ },
  { what: 'a wrong key', options: { apiKey: 's3cret' }, headers: { authorization: 'Bearer s3cre' }, status: 401, code: 'invalid_api_key', message: /wrong/ },
  { what: 'a key of another scheme', options: { apiKey: 's3cret' }, headers: { authorization: 'Basic s3cret' }, status: 401, code: 'invalid_api_key', message: /required/ },
]; // biome-ignore format: a table

describe('refusals', () => {
  const engine = new EchoEngine();
  beforeAll(async () => {
    await engine.load({ name: 'echo', path: '' });
  });

  test.each(CASES)('$what', async ({ path = CHAT, method = 'POST', body = {}, headers, options, ...expected }) => {
    const app = createApp(engine, { catalogue: echoCatalogue, ...options });
    const raw =
      typeof body === 'string' || body instanceof Uint8Array
        ? body
        : JSON.stringify({ model: 'echo', messages, ...body });
    const response = await app.request(`http://localhost${path}`, {
      method,
      headers: { host: 'localhost:8080', 'content-type': 'application/json', ...headers },
      ...(method === 'POST' && { body: raw as BodyInit }),
    });
    const { error } = (await response.json()) as { error: Record<string, unknown> };
    expect(error.message).toMatch(expected.message);
    expect(response.status).toBe(expected.status ?? 400);
    expect(error.code).toBe(expected.code ?? 'invalid_request');
    if (expected.param !== undefined) expect(error.param).toBe(expected.param);
    expect(Object.keys(error).sort()).toEqual(['code', 'message', 'param', 'type']);

    const sound = await createApp(engine, { catalogue: echoCatalogue }).request(
      'http://localhost/v1/chat/completions',
      {
        method: 'POST',
        headers: { host: '127.0.0.1', 'content-type': 'application/json' },
        body: JSON.stringify({ model: 'echo', messages }),
      },
    );
    expect(sound.status).toBe(200);
  });

  test('what is allowed passes: own hosts and origins, the right key, health without a key', async () => {
    const open = createApp(engine, { catalogue: echoCatalogue });
    for (const host of ['localhost', 'LOCALHOST:1', '127.0.0.1:8080', '[::1]:8080']) {
      const headers = { host, origin: `http://${host}` };
      expect((await open.request('http://localhost/v1/models', { headers })).status, host).toBe(200);
    }
    const crossPort = await open.request('http://localhost/v1/models', {
      headers: { host: 'localhost:8080', origin: 'http://localhost:5173' },
    });
    expect(crossPort.headers.get('access-control-allow-origin')).toBe('http://localhost:5173');
    const keyed = createApp(engine, { catalogue: echoCatalogue, apiKey: 's3cret', loopback: false });
    const headers = { host: 'far.example', authorization: 'Bearer s3cret' };
    expect((await keyed.request('http://far.example/v1/models', { headers })).status).toBe(200);
    expect((await keyed.request('http://far.example/health')).status).toBe(200);
    expect((await keyed.request('http://far.example/v1/models')).status).toBe(401);
    expect((await keyed.request('http://far.example/%761/models')).status).not.toBe(200);
  });
});
