import { z } from '@hono/zod-openapi';
import { FORMAT_NAMES } from '../cache/types.ts';
import { isSegmentKind, MAX_LABEL_LENGTH, MAX_SEGMENTS, SEGMENT_KINDS } from '../engine/check-segments.ts';
import { MAX_STOP_LENGTH, MAX_STOPS, NUMBER_RANGES, type NumberRange } from '../engine/validate.ts';
import { stepSchema } from '../methods/describe.ts';
import { METHODS } from '../methods/index.ts';
import type { SegmentKind } from '../methods/types.ts';

/**
 * Every request and response body of the server. A field that stands in no schema is refused by name (`unknown field`);
 * one of OpenAI's that has no meaning here yet stands in UNSUPPORTED and is refused with the reason.
 * A field that is null counts as absent.
 */

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

// Responses.

export const ErrorResponseBody = z
  .object({ error: z.object({ message: text, type: text, param: text.nullable(), code: text }) })
  .openapi('Error');

export const Usage = z
  .object({
    prompt_tokens: z.int(),
    completion_tokens: z.int(),
    total_tokens: z.int(),
    prompt_tokens_details: z.object({ cached_tokens: z.int() }),
  })
  .openapi('Usage');

export const Extension = z
  .object({
    timings: z.object({
      queue_ms: z.number(),
      prefill_ms: z.number(),
      first_token_ms: z.number(),
      decode_ms: z.number(),
      prefill_tokens_per_second: z.number(),
      decode_tokens_per_second: z.number(),
    }),
    cache: z.object({
      format: z.enum(FORMAT_NAMES),
      recipe: text.openapi({ description: 'In short text; `full` where nothing was done to the cache.' }),
      kept: z.number().openapi({ description: 'Entries a layer and KV head holds at the end, averaged.' }),
      bytes: z.int().openapi({ description: 'Held at the end; what several answers share counts once.' }),
      items: z
        .object({
          exact: z.int(),
          encoded: z.int(),
          joint: z.int(),
          columns: z.int(),
          positions: z.int(),
          references: z.int(),
          shared: z.int(),
          states: z.int(),
          tables: z.int(),
        })
        .openapi({ description: 'What `bytes` is made of.' }),
      parked: z.int().openapi({ description: 'Bytes of entries in ordinary memory or a file, beside `bytes`.' }),
      peak: z.int(),
    }),
  })
  .openapi('Kvasir', { description: 'On the response, or on the last chunk of a stream.' });

const bytes = z.array(z.int());
const alternative = z.object({ token: text, logprob: z.number(), bytes });
export const ChatLogprobs = z
  .object({ content: z.array(alternative.extend({ top_logprobs: z.array(alternative) })) })
  .openapi('ChatLogprobs');
export const TextLogprobs = z
  .object({
    tokens: z.array(text),
    token_logprobs: z.array(z.number()),
    top_logprobs: z.array(z.record(text, z.number())),
    text_offset: z.array(z.int()),
  })
  .openapi('TextLogprobs');

const finish = z.enum(['stop', 'length']).nullable();
const head = { id: text, created: z.int(), model: text, system_fingerprint: text };
const choice = { index: z.int(), finish_reason: finish, token_ids: z.array(z.int()).optional() };

export const ChatCompletion = z
  .object({
    ...head,
    object: z.literal('chat.completion'),
    choices: z.array(
      z.object({
        ...choice,
        message: z.object({ role: z.literal('assistant'), content: text, refusal: z.null() }),
        logprobs: ChatLogprobs.nullable(),
      }),
    ),
    usage: Usage,
    kvasir: Extension,
  })
  .openapi('ChatCompletion');

export const ChatChunk = z
  .object({
    ...head,
    object: z.literal('chat.completion.chunk'),
    choices: z.array(
      z.object({
        ...choice,
        delta: z.object({ role: z.literal('assistant').optional(), content: text.optional() }),
        logprobs: ChatLogprobs.nullable(),
      }),
    ),
    usage: Usage.nullable().optional(),
    kvasir: Extension.optional(),
  })
  .openapi('ChatChunk');

export const TextCompletion = z
  .object({
    ...head,
    object: z.literal('text_completion'),
    choices: z.array(z.object({ ...choice, text, logprobs: TextLogprobs.nullable() })),
    usage: Usage.nullable().optional(),
    kvasir: Extension.optional(),
  })
  .openapi('TextCompletion');

export const Model = z
  .object({
    id: text,
    object: z.literal('model'),
    created: z.int(),
    owned_by: text,
    kvasir: z.object({
      state: z.enum(['available', 'loading', 'loaded']),
      bundled: z.boolean(),
      bytes: z.int().openapi({ description: 'Size on disk.' }),
      loading: z.object({ fraction: z.number(), what: text }).optional(),
      info: z.looseObject({}).optional().openapi({ description: 'Shape, context, formats; while loaded.' }),
    }),
  })
  .openapi('Model');

export const ModelList = z
  .object({
    object: z.literal('list'),
    data: z.array(Model),
    kvasir: z.object({ pull: text.openapi({ description: 'A command that gets a better model.' }) }),
  })
  .openapi('ModelList');

export const MethodList = z
  .object({
    object: z.literal('list'),
    data: z.array(
      z.looseObject({
        name: text,
        title: text,
        family: text,
        summary: text,
        claim: text,
        profile: text.nullable().openapi({ description: 'The kind of profile of the model that it uses.' }),
        profileOptional: z.boolean().openapi({ description: 'It serves without that profile, too.' }),
        paper: z.looseObject({ title: text, date: text, arxiv: text, venue: text.optional() }).nullable(),
        options: z.array(z.looseObject({ name: text, type: text, allowed: text, description: text })),
        traits: z.looseObject({ stage: text, prefixStable: z.boolean() }),
        worksWith: z.array(text),
        worksAs: z.array(text),
        notWith: z.array(text),
      }),
    ),
    kvasir: z.object({
      measured: z.looseObject({}).nullable().openapi({
        description:
          "What methods did on the bundled model at their papers' settings and at budgets; null where unknown.",
      }),
    }),
  })
  .openapi('MethodList');

export const TokenizeResponse = z
  .object({ tokens: z.array(z.int()), count: z.int(), max_model_len: z.int() })
  .openapi('TokenizeResponse');

export const DetokenizeResponse = z.object({ prompt: text }).openapi('DetokenizeResponse');

export const LoadEvent = z
  .object({ fraction: z.number().optional(), what: text.optional(), model: Model.optional() })
  .openapi('LoadEvent');

export const Health = z.object({ status: z.enum(['ok', 'shutting_down']) }).openapi('Health');

export const Stats = z
  .looseObject({ running: z.int(), waiting: z.int(), weightBytes: z.int(), memoryLimit: z.int(), sessions: z.int() })
  .openapi('Stats', { description: "The engine's own figures; lists by layer and by owner included." });

export type ChatRequestBody = z.infer<typeof ChatRequest>;
export type CompletionRequestBody = z.infer<typeof CompletionRequest>;
export type MessageBody = z.infer<typeof Message>;
export type ModelBody = z.infer<typeof Model>;
