import { z } from '@hono/zod-openapi';
import { FORMAT_NAMES } from '../cache/types.ts';

const text = z.string();

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

export type ModelBody = z.infer<typeof Model>;
