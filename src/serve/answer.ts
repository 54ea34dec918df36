import type { z } from '@hono/zod-openapi';
import type { ByteItems } from '../cache/types.ts';
import type { GeneratePart, TokenLogprob, Usage } from '../engine/types.ts';
import type { ChatLogprobs, Extension, TextLogprobs, Usage as UsageSchema } from './schemas.ts';

/** How the engine's figures look in a response. */

export function usageBody(usage: Usage): z.infer<typeof UsageSchema> {
  const { promptTokens, completionTokens, cachedTokens } = usage;
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
    prompt_tokens_details: { cached_tokens: cachedTokens },
  };
}

export function extensionBody({ timings, cache }: Usage): z.infer<typeof Extension> {
  return {
    timings: {
      queue_ms: round(timings.queueMs),
      prefill_ms: round(timings.prefillMs),
      first_token_ms: round(timings.firstTokenMs),
      decode_ms: round(timings.decodeMs),
      prefill_tokens_per_second: round(timings.prefillTokensPerSecond),
      decode_tokens_per_second: round(timings.decodeTokensPerSecond),
    },
    cache: { ...cache, items: { ...cache.items } },
  };
}

/** Several prompts of one request: tokens and bytes add up, times are the longest, rates follow from both. */
export function sumUsage(usages: readonly Usage[]): Usage {
  if (usages.length === 1) return usages[0]!;
  const sum = (pick: (usage: Usage) => number) => usages.reduce((total, usage) => total + pick(usage), 0);
  const longest = (pick: (usage: Usage) => number) => Math.max(...usages.map(pick));
  const prefillMs = longest(usage => usage.timings.prefillMs);
  const decodeMs = longest(usage => usage.timings.decodeMs);
  const promptTokens = sum(usage => usage.promptTokens);
  const completionTokens = sum(usage => usage.completionTokens);
  return {
    promptTokens,
    completionTokens,
    cachedTokens: sum(usage => usage.cachedTokens),
    timings: {
      queueMs: longest(usage => usage.timings.queueMs),
      firstTokenMs: longest(usage => usage.timings.firstTokenMs),
      prefillMs,
      decodeMs,
      prefillTokensPerSecond: prefillMs > 0 ? (promptTokens / prefillMs) * 1000 : 0,
      decodeTokensPerSecond: decodeMs > 0 ? (completionTokens / decodeMs) * 1000 : 0,
    },
    cache: {
      format: usages[0]!.cache.format,
      recipe: usages[0]!.cache.recipe,
      kept: sum(usage => usage.cache.kept) / usages.length,
      bytes: sum(usage => usage.cache.bytes),
      items: sumItems(usages.map(usage => usage.cache.items)),
      parked: sum(usage => usage.cache.parked),
      peak: sum(usage => usage.cache.peak),
    },
  };
}

function sumItems(all: readonly ByteItems[]): ByteItems {
  const names = Object.keys(all[0]!) as (keyof ByteItems)[];
  const sums = names.map(name => [name, all.reduce((sum, items) => sum + items[name], 0)]);
  return Object.fromEntries(sums) as ByteItems;
}

export function chatLogprobs(logprobs: readonly TokenLogprob[]): z.infer<typeof ChatLogprobs> {
  const entry = (token: { text: string; bytes: readonly number[]; logprob: number }) => ({
    token: token.text,
    logprob: finite(token.logprob),
    bytes: [...token.bytes],
  });
  return { content: logprobs.map(token => ({ ...entry(token), top_logprobs: token.top.map(entry) })) };
}

/** `offset`: characters of the answer before the first of these tokens. */
export function textLogprobs(logprobs: readonly TokenLogprob[], offset: number): z.infer<typeof TextLogprobs> {
  let at = offset;
  return {
    tokens: logprobs.map(token => token.text),
    token_logprobs: logprobs.map(token => finite(token.logprob)),
    top_logprobs: logprobs.map(token => Object.fromEntries(token.top.map(top => [top.text, finite(top.logprob)]))),
    text_offset: logprobs.map(token => {
      const start = at;
      at += token.text.length;
      return start;
    }),
  };
}

/** JSON has no -Infinity; OpenAI writes -9999 for what cannot be. */
function finite(logprob: number): number {
  return Number.isFinite(logprob) ? logprob : -9999;
}

function round(value: number): number {
  return Math.round(value * 1000) / 1000;
}

/** One of the n answers, put together from its parts. */
export interface Answer {
  text: string;
  tokens: number[];
  logprobs: TokenLogprob[];
  finishReason: GeneratePart['finishReason'] | null;
}

/** Reads all parts. Raises what the iteration raises. */
export async function collect(
  parts: AsyncIterable<GeneratePart>,
  answers: number,
): Promise<{ answers: Answer[]; usage: Usage }> {
  const all = Array.from(
    { length: answers },
    (): Answer => ({ text: '', tokens: [], logprobs: [], finishReason: null }),
  );
  const usages: Usage[] = [];
  for await (const part of parts) {
    const answer = all[part.index]!;
    answer.text += part.text;
    for (const token of part.tokens) answer.tokens.push(token);
    for (const logprob of part.logprobs ?? []) answer.logprobs.push(logprob);
    if (part.finishReason) answer.finishReason = part.finishReason;
    if (part.usage) usages.push(part.usage);
  }
  return { answers: all, usage: sumUsage(usages) };
}
