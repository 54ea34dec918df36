import type { Context } from 'hono';
import type { GeneratePart } from '../engine/types.ts';
import { textLogprobs } from './answer.ts';
import type { Services } from './app.ts';
import { readBody } from './body.ts';
import { merge } from './merge.ts';
import { completionOptions, completionPrompts } from './requests.ts';
import { answer, type Wire } from './respond.ts';
import { CompletionRequest } from './schemas.ts';

const wire: Wire = {
  idPrefix: 'cmpl',
  objects: { whole: 'text_completion', chunk: 'text_completion' },
  whole: ({ text, logprobs }) => ({ text, logprobs: logprobs.length ? textLogprobs(logprobs, 0) : null }),
  chunk: ({ text, logprobs }, offset) => ({
    text,
    logprobs: logprobs?.length ? textLogprobs(logprobs, offset) : null,
  }),
};

/** POST /v1/completions. Answer j of prompt i has index i * n + j. */
export async function completions(c: Context, services: Services): Promise<Response> {
  const body = await readBody(c, CompletionRequest);
  const options = { ...completionOptions(body), model: body.model };
  const prompts = completionPrompts(body.prompt);
  const n = body.n ?? 1;
  return answer(c, services, body, {
    wire,
    answers: prompts.length * n,
    generate: signal =>
      merge(prompts.map((prompt, i) => shifted(services.engine.generate({ ...options, ...prompt }, signal), i * n))),
  });
}

async function* shifted(parts: AsyncIterable<GeneratePart>, by: number): AsyncGenerator<GeneratePart> {
  for await (const part of parts) yield { ...part, index: part.index + by };
}
