import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { generateText, streamText } from 'ai';
import OpenAI, { APIUserAbortError, BadRequestError, NotFoundError } from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { passkey } from '../../web/src/prompts.ts';
import { type EndToEnd, MISSING_MODEL, startEndToEnd, until } from './e2e.testing.ts';

const model = 'kvasir-mini';
const sum = [{ role: 'user' as const, content: 'What is 12 + 30?' }];
const story = [{ role: 'user' as const, content: 'Tell me a story about a fox.' }];

describe.skipIf(MISSING_MODEL !== '')(`real clients and the bundled model${MISSING_MODEL}`, () => {
  let real: EndToEnd;
  let openai: OpenAI;
  beforeAll(async () => {
    real = await startEndToEnd();
    openai = new OpenAI({ baseURL: `${real.server.url}/v1`, apiKey: 'unused', maxRetries: 0 });
  }, 60_000);
  afterAll(() => real?.[Symbol.asyncDispose]());

  const idle = async () => {
    const { running, waiting, models } = await real.engine.stats();
    return running === 0 && waiting === 0 && models.every(({ cache }) => cache.sequences === 0);
  };

  describe('the openai client', () => {
    test('lists the model, asks it, reads usage', async () => {
      const names: string[] = [];
      for await (const entry of openai.models.list()) names.push(entry.id);
      expect(names).toContain(model);
      expect((await openai.models.retrieve(model)).id).toBe(model);
      const answer = await openai.chat.completions.create({ model, messages: sum, temperature: 0 });
      expect(answer.choices[0]!.message.content).toContain('42');
      expect(answer.choices[0]!.finish_reason).toBe('stop');
      expect(answer.usage!.total_tokens).toBe(answer.usage!.prompt_tokens + answer.usage!.completion_tokens);
    });

    test('streams the same text, with usage and figures at the end', async () => {
      const ask = { model, messages: story, temperature: 0, max_tokens: 40 };
      const whole = await openai.chat.completions.create(ask);
      const stream = await openai.chat.completions.create({
        ...ask,
        stream: true,
        stream_options: { include_usage: true },
      });
      let text = '';
      let chunks = 0;
      let last: object = {};
      for await (const chunk of stream) {
        text += chunk.choices[0]?.delta.content ?? '';
        chunks++;
        last = chunk;
      }
      expect(text).toBe(whole.choices[0]!.message.content);
      expect(chunks).toBeGreaterThan(30);
      expect(last).toMatchObject({
        usage: { completion_tokens: 40 },
        kvasir: { timings: { decode_tokens_per_second: expect.any(Number) }, cache: { format: 'f32' } },
      });
    });

    test('aborts a stream: the work stops and its cache is freed', async () => {
      const stream = await openai.chat.completions.create({
        model, messages: story, max_tokens: 4000, stream: true, ...({ ignore_eos: true } as object),
      }); // biome-ignore format: one request
      let seen = 0;
      for await (const _ of stream) if (++seen === 5) stream.controller.abort();
      await until(idle, 'the engine is idle');
      const controller = new AbortController();
      const whole = openai.chat.completions.create(
        { model, messages: story, max_tokens: 4000, ...({ ignore_eos: true } as object) },
        { signal: controller.signal },
      );
      whole.catch(() => {});
      await until(async () => (await real.engine.stats()).running === 1, 'the request runs');
      controller.abort();
      await expect(whole).rejects.toBeInstanceOf(APIUserAbortError);
      await until(idle, 'the engine is idle again');
    });

    test('n, seed, stop, logprobs', async () => {
      const ask = { model, messages: story, n: 3, seed: 7, temperature: 1, max_tokens: 12 };
      const texts = async () => (await openai.chat.completions.create(ask)).choices.map(one => one.message.content);
      const first = await texts();
      expect(first).toHaveLength(3);
      expect(await texts()).toEqual(first);
      const stopped = await openai.chat.completions.create({ model, messages: sum, temperature: 0, stop: ['= '] });
      expect(stopped.choices[0]!.message.content).toMatch(/30 $/);
      const { choices } = await openai.chat.completions.create({
        model, messages: sum, temperature: 0, logprobs: true, top_logprobs: 3,
      }); // biome-ignore format: one request
      const content = choices[0]!.logprobs!.content!;
      // The end token is reported too, as the last.
      expect(content.map(token => token.token).join('')).toBe(`${choices[0]!.message.content}<|im_end|>`);
      for (const token of content) {
        expect(token.top_logprobs).toHaveLength(3);
        expect(token.top_logprobs[0]!.token).toBe(token.token);
        expect(token.logprob).toBeLessThanOrEqual(0);
      }
    });

    test('text completions of strings and of tokens agree', async () => {
      const prompt = 'Once upon a time, there was a';
      const ids = (await (
        await fetch(`${real.server.url}/tokenize`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ model, prompt }),
        })
      ).json()) as { tokens: number[]; count: number };
      expect(ids.count).toBe(ids.tokens.length);
      const texts = async (given: string | string[] | number[]) =>
        (await openai.completions.create({ model, prompt: given, temperature: 0, max_tokens: 8 })).choices.map(
          one => one.text,
        );
      const [fromText] = await texts(prompt);
      expect(await texts(ids.tokens)).toEqual([fromText]);
      expect(await texts([prompt, prompt])).toEqual([fromText, fromText]);
    });

    test('refusals arrive as its own error classes', async () => {
      const tools = openai.chat.completions.create({ model, messages: sum, tools: [] });
      await expect(tools).rejects.toBeInstanceOf(BadRequestError);
      await expect(tools).rejects.toMatchObject({ status: 400, code: 'unsupported', param: 'tools' });
      await expect(openai.chat.completions.create({ model: 'gpt-9', messages: sum })).rejects.toBeInstanceOf(
        NotFoundError,
      );
      const long = openai.chat.completions.create({
        model,
        messages: [{ role: 'user', content: passkey(12_000).text }],
      });
      await expect(long).rejects.toMatchObject({
        status: 400,
        code: 'context_length_exceeded',
        message: expect.stringContaining('8192'),
      });
      const token = openai.completions.create({ model, prompt: [9999] });
      await expect(token).rejects.toMatchObject({ status: 400, param: 'prompt[0]' });
      await until(idle, 'the engine is idle');
    });
  });

  test('each cache format finds a pass key, and holds fewer bytes', async () => {
    const { text, note } = passkey(1000, () => 0.4);
    const bytes: number[] = [];
    for (const cache of ['f32', 'f16', 'int8']) {
      const answer = await openai.chat.completions.create({
        model, messages: [{ role: 'user', content: text }], temperature: 0, ...({ cache } as object),
      }); // biome-ignore format: one request
      expect(answer.choices[0]!.message.content, cache).toContain(/\d+/.exec(note)![0]);
      const prompt = answer.usage!.prompt_tokens;
      expect(Math.abs(prompt - 1000)).toBeLessThan(60);
      bytes.push((answer as unknown as { kvasir: { cache: { bytes: number } } }).kvasir.cache.bytes);
    }
    expect(bytes[1]! / bytes[0]!).toBeLessThan(0.6);
    expect(bytes[2]! / bytes[1]!).toBeLessThan(0.75);
  });

  test('the server answers while the engine works', async () => {
    const { text } = passkey(3000);
    const answer = openai.chat.completions.create({
      model,
      messages: [{ role: 'user', content: text }],
      temperature: 0,
    });
    const waits: number[] = [];
    let done = false;
    void answer.finally(() => {
      done = true;
    });
    while (!done) {
      const begin = performance.now();
      await fetch(`${real.server.url}/health`);
      waits.push(performance.now() - begin);
      await new Promise(resolve => setTimeout(resolve, 20));
    }
    waits.sort((a, b) => a - b);
    expect(waits.length).toBeGreaterThan(5);
    expect(waits[Math.floor(waits.length / 2)]).toBeLessThan(100);
  });

  describe('the AI SDK', () => {
    const provider = () =>
      createOpenAICompatible({ name: 'kvasir', baseURL: `${real.server.url}/v1`, includeUsage: true });

    test('asks and streams', async () => {
      const whole = await generateText({ model: provider()(model), messages: sum, temperature: 0 });
      expect(whole.text).toContain('42');
      expect(whole.finishReason).toBe('stop');
      const stream = streamText({ model: provider()(model), messages: sum, temperature: 0 });
      let text = '';
      for await (const part of stream.textStream) text += part;
      expect(text).toBe(whole.text);
      expect((await stream.usage).outputTokens).toBe(whole.usage.outputTokens);
    });

    test('keeps a conversation', async () => {
      const messages = [
        { role: 'user' as const, content: 'My name is Otto and I live in Oslo.' },
        { role: 'assistant' as const, content: 'Nice to meet you, Otto!' },
        { role: 'user' as const, content: 'What is my name?' },
      ];
      expect((await generateText({ model: provider()(model), messages, temperature: 0 })).text).toContain('Otto');
    });

    test('aborts', async () => {
      const controller = new AbortController();
      const stream = streamText({
        model: provider()(model), messages: story, abortSignal: controller.signal, maxRetries: 0,
        maxOutputTokens: 4000, providerOptions: { kvasir: { ignore_eos: true } },
      }); // biome-ignore format: one request
      let seen = 0;
      for await (const part of stream.fullStream) {
        if (part.type === 'text-delta' && ++seen === 3) controller.abort();
      }
      await until(idle, 'the engine is idle');
    });
  });
});
