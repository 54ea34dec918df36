import type { Context } from 'hono';
import { chatLogprobs } from './answer.ts';
import type { Services } from './app.ts';
import { readBody } from './body.ts';
import { chatMessages, chatOptions } from './requests.ts';
import { answer, type Wire } from './respond.ts';
import { ChatRequest } from './schemas.ts';

const wire: Wire = {
  idPrefix: 'chatcmpl',
  objects: { whole: 'chat.completion', chunk: 'chat.completion.chunk' },
  whole: ({ text, logprobs }) => ({
    message: { role: 'assistant', content: text, refusal: null },
    logprobs: logprobs.length ? chatLogprobs(logprobs) : null,
  }),
  chunk: ({ text, logprobs }) => ({
    delta: text === '' ? {} : { content: text },
    logprobs: logprobs?.length ? chatLogprobs(logprobs) : null,
  }),
  opening: () => ({ delta: { role: 'assistant', content: '' }, logprobs: null }),
};

/** POST /v1/chat/completions */
export async function chat(c: Context, services: Services): Promise<Response> {
  const body = await readBody(c, ChatRequest);
  const request = { ...chatOptions(body), model: body.model, messages: chatMessages(body.messages) };
  return answer(c, services, body, {
    wire,
    answers: body.n ?? 1,
    generate: signal => services.engine.generate(request, signal),
  });
}
