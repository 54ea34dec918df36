import type { GenerateOptions, GenerateRequest, PromptMessage, PromptPart } from '../engine/types.ts';
import { parseRecipe, type RecipeInput } from '../methods/recipe.ts';
import type { Segment } from '../methods/types.ts';
import { HttpError } from './errors.ts';
import type { ChatRequestBody, CompletionRequestBody, MessageBody } from './schemas.ts';

type Defined<T> = { [K in keyof T]: Exclude<T[K], undefined> };

/** Leaves out what is undefined: to the engine, an option that is there was set. */
function defined<T extends object>(options: T): Partial<Defined<T>> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as Partial<Defined<T>>;
}

/** Refused here, before a model is loaded for the request. */
function recipe(kv: unknown): RecipeInput | undefined {
  parseRecipe(kv);
  return kv as RecipeInput | undefined;
}

function commonOptions(body: ChatRequestBody | CompletionRequestBody) {
  if (body.stream_options && !body.stream) {
    throw new HttpError('invalid_request', 'stream_options is allowed only with "stream": true.', 'stream_options');
  }
  return {
    temperature: body.temperature ?? 1,
    topP: body.top_p,
    topK: body.top_k,
    minP: body.min_p,
    repetitionPenalty: body.repetition_penalty,
    frequencyPenalty: body.frequency_penalty,
    presencePenalty: body.presence_penalty,
    logitBias: body.logit_bias && Object.fromEntries(Object.entries(body.logit_bias).map(([id, b]) => [Number(id), b])),
    seed: body.seed,
    n: body.n,
    stop: typeof body.stop === 'string' ? [body.stop] : body.stop,
    cache: body.cache,
    kv: recipe(body.kv),
    prefill: body.prefill,
    ignoreEnd: body.ignore_eos,
  };
}

export function chatOptions(body: ChatRequestBody): GenerateOptions {
  const { max_tokens: old, max_completion_tokens: max, logprobs = false, top_logprobs: top } = body;
  if (old !== undefined && max !== undefined && old !== max) {
    throw new HttpError(
      'invalid_request',
      `max_tokens (${old}) and max_completion_tokens (${max}) differ; give one.`,
      'max_tokens',
    );
  }
  if (top !== undefined && !logprobs) {
    throw new HttpError('invalid_request', 'top_logprobs is allowed only with "logprobs": true.', 'top_logprobs');
  }
  return defined({ ...commonOptions(body), maxTokens: max ?? old, logprobs: logprobs ? (top ?? 0) : undefined });
}

export function completionOptions(body: CompletionRequestBody): GenerateOptions & Pick<GenerateRequest, 'segments'> {
  const { segments, prompt } = body;
  if (segments && completionPrompts(prompt).length > 1) {
    throw new HttpError('invalid_request', 'segments is allowed only with a single prompt.', 'segments');
  }
  const named = segments?.map(segment => defined(segment) as Segment);
  return defined({
    ...commonOptions(body),
    maxTokens: body.max_tokens ?? 16,
    logprobs: body.logprobs,
    segments: named,
  });
}

/** The prompts of a text completion, each as the engine takes it. */
export function completionPrompts(
  prompt: CompletionRequestBody['prompt'],
): ({ text: string } | { tokens: number[] })[] {
  if (typeof prompt === 'string') return [{ text: prompt }];
  if (isTokens(prompt)) return [{ tokens: prompt }];
  return prompt.map(one => (typeof one === 'string' ? { text: one } : { tokens: one }));
}

function isTokens(prompt: string[] | number[] | number[][]): prompt is number[] {
  return typeof prompt[0] === 'number';
}

export function chatMessages(messages: readonly MessageBody[]): PromptMessage[] {
  return messages.map(({ role, content }) => ({
    role: role === 'developer' ? 'system' : role,
    content: contentOf(content),
  }));
}

/** Parts none of which is named are one text. */
function contentOf(content: MessageBody['content']): PromptMessage['content'] {
  if (typeof content === 'string') return content;
  const parts = content.map(promptPart);
  return parts.some(({ segment }) => segment) ? parts : parts.map(({ text }) => text).join('');
}

function promptPart({ text, segment }: Exclude<MessageBody['content'], string>[number]): PromptPart {
  return segment ? { text, segment: defined(segment) as NonNullable<PromptPart['segment']> } : { text };
}
