import { z } from '@hono/zod-openapi';
import type { Context } from 'hono';
import { compareLive, type LiveEvent, MOST_RECIPES, MOST_TOKENS } from '../eval/live.ts';
import { parseRecipe, type RecipeInput } from '../methods/recipe.ts';
import type { Services } from './app.ts';
import { readBody } from './body.ts';
import { chatMessages } from './requests.ts';
import { Message } from './schemas.ts';
import { sseResponse } from './sse.ts';

export const CompareRequest = z
  .strictObject({
    model: z.string().min(1).max(500).openapi({ description: 'One of /v1/models; loaded on demand.' }),
    messages: z.array(Message).min(1),
    recipes: z
      .array(z.unknown().openapi({ anyOf: [{ $ref: '#/components/schemas/Recipe' }] }))
      .min(1)
      .max(MOST_RECIPES)
      .openapi({ description: 'What to set beside the full cache, which always runs first.' }),
    max_tokens: z.int().min(1).max(MOST_TOKENS).optional().openapi({ description: 'Tokens of an answer. Default 64.' }),
  })
  .openapi('CompareRequest');

const number = z.number().optional();
export const CompareEvent = z
  .object({
    type: z.enum(['begin', 'step', 'row']),
    prompt_tokens: number,
    recipes: z.array(z.string()).optional(),
    recipe: z.string().optional(),
    done: number.openapi({ description: 'Runs of the prompt that are done; of the one at work a part.' }),
    total: number,
    row: z
      .object({
        recipe: z.string(),
        error: z.string().optional().openapi({ description: 'Why there is nothing else.' }),
        answer: z.string().optional(),
        same: number.openapi({ description: "Characters of the answer that are those of the full cache's." }),
        kept: number.openapi({
          description: 'Entries a layer and KV head holds at the end of the prompt, averaged; bytes are of then, too.',
        }),
        kept_share: number,
        bytes: number,
        bytes_share: number,
        parked: number.openapi({ description: 'Bytes outside of the cache, in ordinary memory or a file.' }),
        peak: number,
        first_token_ms: number,
        tokens_per_second: number,
        agreement: number.openapi({
          description: "Of the full cache's answer, forced: share of tokens that are the likeliest here too.",
        }),
        lost: number.openapi({ description: 'How much less likely a token of that answer is here, in nats.' }),
      })
      .optional(),
  })
  .openapi('CompareEvent');

/** POST /v1/kvasir/compare: events while it runs, a row a recipe, the full cache first. */
export async function compare(c: Context, { engine, pool, active, sse }: Services): Promise<Response> {
  const body = await readBody(c, CompareRequest);
  // Refused here, before a model is loaded for the request.
  for (const [i, recipe] of body.recipes.entries()) parseRecipe(recipe, `recipes[${i}]`);
  const run = active.begin(c.req.raw.signal);
  const ask = {
    model: body.model,
    messages: chatMessages(body.messages),
    recipes: body.recipes as RecipeInput[],
    maxTokens: body.max_tokens ?? 64,
  };
  const events = async function* () {
    await pool.ensure(body.model, run.signal);
    for await (const event of compareLive(engine, ask, run.signal)) yield wire(event);
  };
  return sseResponse(events(), run, sse);
}

function wire(event: LiveEvent): z.infer<typeof CompareEvent> {
  if (event.type === 'begin') return { type: 'begin', prompt_tokens: event.promptTokens, recipes: [...event.recipes] };
  if (event.type === 'step') return event;
  const { keptShare, bytesShare, firstTokenMs, tokensPerSecond, ...same } = event.row;
  return {
    type: 'row',
    row: {
      ...same,
      kept_share: keptShare,
      bytes_share: bytesShare,
      first_token_ms: firstTokenMs,
      tokens_per_second: tokensPerSecond,
    },
  };
}
