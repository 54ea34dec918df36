import { z } from '@hono/zod-openapi';
import { FORMAT_NAMES } from '../cache/types.ts';
import { isSegmentKind, MAX_LABEL_LENGTH, MAX_SEGMENTS, SEGMENT_KINDS } from '../engine/check-segments.ts';
import { MAX_STOP_LENGTH, MAX_STOPS, NUMBER_RANGES, type NumberRange } from '../engine/validate.ts';
import { stepSchema } from '../methods/describe.ts';
import { METHODS } from '../methods/index.ts';
import type { SegmentKind } from '../methods/types.ts';

/** OpenAI's fields that are refused, with what to say. */
export const UNSUPPORTED: Readonly<Record<string, string>> = {
  tools: 'tool calls are not supported yet',
  tool_choice: 'tool calls are not supported yet',
  parallel_tool_calls: 'tool calls are not supported yet',
  functions: 'tool calls are not supported yet',
  function_call: 'tool calls are not supported yet',
  tool_calls: 'tool calls are not supported yet',
  tool_call_id: 'tool calls are not supported yet',
  audio: 'audio is not supported',
  modalities: 'only text is supported',
  prediction: 'predicted outputs are not supported yet',
  reasoning_effort: 'reasoning models are not supported yet',
  verbosity: 'not supported',
  web_search_options: 'the server has no web access',
  metadata: 'nothing is stored',
  user: 'requests are not told apart by user',
  safety_identifier: 'requests are not told apart by user',
  prompt_cache_key: 'caches are not shared between requests yet',
  prompt_cache_retention: 'caches are not shared between requests yet',
  service_tier: 'there is one tier',
  best_of: 'not supported; use n',
  suffix: 'models here do not fill in the middle',
  name: 'names of participants are not supported; put them into the content',
  refusal: 'refusals are not supported',
};

const number = ({ min, max, integer, above }: NumberRange) => {
  const base = integer ? z.int() : z.number();
  return (above ? base.gt(min) : base.min(min)).max(max);
};
const text = z.string();
const stop = z.string().min(1).max(MAX_STOP_LENGTH);
const modelName = z.string().min(1).max(500).openapi({ description: 'One of /v1/models; loaded on demand.' });
const tokenIds = z.array(z.int().min(0)).min(1);

// Not an enum: an error in a part's enum would make its message's content neither a string nor a list, and say no more.
const segmentName = {
  kind: z
    .custom<SegmentKind>(isSegmentKind, { abort: false, error: `one of ${SEGMENT_KINDS.join(', ')}` })
    .openapi({ type: 'string', enum: [...SEGMENT_KINDS] }),
  label: text.max(MAX_LABEL_LENGTH).optional(),
};
const PartSegment = z.strictObject(segmentName).openapi('PartSegment', {
  description: 'Extension. Names the part as a segment of the prompt, for methods that ask for segments.',
});
const PromptSegment = z
  .strictObject({ ...segmentName, from: z.int().min(0), to: z.int().min(1) })
  .openapi('PromptSegment', { description: 'Tokens of a prompt of token ids, UTF-16 units of a string: [from, to).' });

const TextPart = z.strictObject({ type: z.literal('text'), text, segment: PartSegment.optional() });

export const Message = z
  .strictObject({
    role: z.enum(['system', 'developer', 'user', 'assistant']),
    content: z.union([text, z.array(TextPart).min(1)], { error: 'a string, or a list of {"type": "text", "text": …}' }),
  })
  .openapi('Message');

const logitBias = z
  .record(z.string().regex(/^\d{1,9}$/), z.number().min(-100).max(100), {
    error: issue => (issue.code === 'invalid_type' ? 'an object: token id -> number from -100 to 100' : undefined),
  })
  .refine(bias => Object.keys(bias).length <= 1024, { error: 'at most 1024 entries' });

/** Schemas in the document that no body is checked against as a whole: `parseRecipe` says better what is wrong. */
export const COMPONENTS = {
  RecipeStep: { oneOf: METHODS.map(stepSchema) },
  Recipe: {
    description:
      'What is done to the KV cache: text such as `snapkv(keep=0.25) + kivi(bits=2)`, a step, or a list of steps in the order in which they act. `full`: nothing.',
    anyOf: [
      { type: 'string' },
      { $ref: '#/components/schemas/RecipeStep' },
      { type: 'array', maxItems: 16, items: { $ref: '#/components/schemas/RecipeStep' } },
    ],
  },
};
const recipe = z.unknown().openapi({
  anyOf: [{ $ref: '#/components/schemas/Recipe' }],
  description: "Extension. Default: the model's recipe, `full` where it has none.",
});

/** What chat and text completions have in common. Names outside OpenAI's are the ones vLLM and llama.cpp use. */
const sampling = {
  model: modelName,
  max_tokens: number(NUMBER_RANGES.maxTokens).optional(),
  temperature: number(NUMBER_RANGES.temperature).optional().openapi({ description: '0 is greedy. Default 1.' }),
  top_p: number(NUMBER_RANGES.topP).optional(),
  top_k: number(NUMBER_RANGES.topK).optional().openapi({ description: 'Extension. 0 is off.' }),
  min_p: number(NUMBER_RANGES.minP)
    .optional()
    .openapi({ description: 'Extension. Keeps tokens this share as likely as the best.' }),
  repetition_penalty: number(NUMBER_RANGES.repetitionPenalty)
    .optional()
    .openapi({ description: 'Extension. 1 is off.' }),
  frequency_penalty: number(NUMBER_RANGES.frequencyPenalty).optional(),
  presence_penalty: number(NUMBER_RANGES.presencePenalty).optional(),
  logit_bias: logitBias.optional(),
  seed: number(NUMBER_RANGES.seed).optional(),
  n: number(NUMBER_RANGES.n).optional(),
  stop: z
    .union([stop, z.array(stop).max(MAX_STOPS)], {
      error: `a string, or a list of at most ${MAX_STOPS}, each of 1 to ${MAX_STOP_LENGTH} characters`,
    })
    .optional(),
  stream: z.boolean().optional(),
  stream_options: z.strictObject({ include_usage: z.boolean().optional() }).optional(),
  store: z.literal(false).optional().openapi({ description: 'Nothing is stored.' }),
  cache: z
    .enum(FORMAT_NAMES)
    .optional()
    .openapi({ description: 'Extension. How the KV cache of this request is held.' }),
  kv: recipe.optional(),
  prefill: z.enum(['token', 'layer']).optional().openapi({
    description: 'Extension. Order of prefill: tiles of tokens through all layers, or all tokens layer by layer.',
  }),
  ignore_eos: z.boolean().optional().openapi({ description: 'Extension. Do not end at end tokens.' }),
  return_token_ids: z.boolean().optional().openapi({ description: 'Extension. Adds `token_ids` to each choice.' }),
};

export const ChatRequest = z
  .strictObject({
    ...sampling,
    messages: z.array(Message).min(1),
    max_completion_tokens: number(NUMBER_RANGES.maxTokens).optional(),
    logprobs: z.boolean().optional(),
    top_logprobs: number(NUMBER_RANGES.logprobs).optional(),
    response_format: z.strictObject({ type: z.literal('text') }).optional(),
  })
  .openapi('ChatRequest');

export const CompletionRequest = z
  .strictObject({
    ...sampling,
    prompt: z.union([text, z.array(text).min(1).max(64), tokenIds, z.array(tokenIds).min(1).max(64)], {
      error: 'a string, a list of at most 64 strings, a list of token ids, or a list of at most 64 such lists',
    }),
    max_tokens: sampling.max_tokens.openapi({ description: "Default 16, as OpenAI's." }),
    logprobs: number(NUMBER_RANGES.logprobs).optional(),
    echo: z.literal(false).optional(),
    segments: z.array(PromptSegment).max(MAX_SEGMENTS).optional().openapi({
      description: 'Extension. Named parts of the one prompt: ascending, disjoint, none empty.',
    }),
  })
  .openapi('CompletionRequest');

export const TokenizeRequest = z
  .strictObject({
    model: modelName,
    prompt: text.optional(),
    messages: z.array(Message).min(1).optional(),
    add_special_tokens: z
      .boolean()
      .optional()
      .openapi({ description: 'Put BOS first where the model wants it. Default true.' }),
  })
  .openapi('TokenizeRequest');

export const DetokenizeRequest = z
  .strictObject({ model: modelName, tokens: z.array(z.int().min(0)) })
  .openapi('DetokenizeRequest');

export const LoadRequest = z.strictObject({ model: modelName }).openapi('LoadRequest');

export type ChatRequestBody = z.infer<typeof ChatRequest>;
export type CompletionRequestBody = z.infer<typeof CompletionRequest>;
export type MessageBody = z.infer<typeof Message>;
