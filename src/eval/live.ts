import type { EngineApi, GenerateRequest, PromptMessage, Usage } from '../engine/types.ts';
import { KvasirError } from '../errors.ts';
import { formatRecipe, parseRecipe, type RecipeInput } from '../methods/recipe.ts';

/** Most recipes of one comparison, the full cache not counted. */
export const MOST_RECIPES = 12;
export const MOST_TOKENS = 512;

/** One text under several recipes, beside the full cache. */
export interface LiveAsk {
  readonly model: string;
  readonly messages: readonly PromptMessage[];
  /** 1..MOST_RECIPES; the full f32 cache always runs first. */
  readonly recipes: readonly RecipeInput[];
  /** Tokens of an answer, 1..MOST_TOKENS. */
  readonly maxTokens: number;
}

export type LiveEvent =
  | { readonly type: 'begin'; readonly promptTokens: number; readonly recipes: readonly string[] }
  /** `done` of `total` runs of the prompt. */
  | { readonly type: 'step'; readonly recipe: string; readonly done: number; readonly total: number }
  | { readonly type: 'row'; readonly row: LiveRow };

export interface LiveRow {
  readonly recipe: string;
  /** Why there is nothing else. */
  readonly error?: string;
  readonly answer?: string;
  /** Characters of the answer that are those of the full cache's. */
  readonly same?: number;
  /** Entries a layer and KV head holds at the end, averaged; and as a share of the full cache's. */
  readonly kept?: number;
  readonly keptShare?: number;
  readonly bytes?: number;
  readonly bytesShare?: number;
  readonly peak?: number;
  readonly firstTokenMs?: number;
  readonly tokensPerSecond?: number;
  /** Of the full cache's answer, forced: share of tokens that are the likeliest here too. */
  readonly agreement?: number;
  /** and how much less likely a token of it is here, nats. */
  readonly lost?: number;
}

/**
 * Answers one prompt greedily under each recipe, then forces the full cache's answer through it. Runs one request at a time, so
 * that it can share an engine with others; leaving the loop stops it. A recipe that this model cannot run gets a row that says why.
 */
export async function* compareLive(
  engine: EngineApi,
  ask: LiveAsk,
  signal?: AbortSignal,
): AsyncGenerator<LiveEvent, void, void> {
  const recipes = check(ask).filter(recipe => recipe !== 'full');
  const { model, messages, maxTokens } = ask;
  const prompt = await engine.tokenize(model, messages);
  yield { type: 'begin', promptTokens: prompt.length, recipes: ['full', ...recipes] };
  const total = 2 * (recipes.length + 1);
  let done = 0;
  const step = (recipe: string): LiveEvent => ({ type: 'step', recipe, done: done++, total });

  const common = { model, messages, maxTokens, temperature: 0, cache: 'f32' } as const;
  yield step('full');
  const full = await answer(engine, { ...common, kv: 'full' }, signal);
  yield step('full');
  const truth = await forced(engine, { model, prompt, answer: full.tokens, kv: 'full' }, signal);
  yield { type: 'row', row: row('full', full, full, truth, truth) };

  for (const recipe of recipes) {
    yield step(recipe);
    try {
      const own = await answer(engine, { ...common, kv: recipe }, signal);
      yield step(recipe);
      const score = await forced(engine, { model, prompt, answer: full.tokens, kv: recipe }, signal);
      yield { type: 'row', row: row(recipe, own, full, score, truth) };
    } catch (error) {
      if (signal?.aborted || !(error instanceof KvasirError)) throw error;
      done = 2 * Math.ceil(done / 2);
      yield { type: 'row', row: { recipe, error: error.message } };
    }
  }
}

interface Answer {
  readonly text: string;
  readonly tokens: readonly number[];
  readonly usage: Usage;
}

async function answer(engine: EngineApi, request: GenerateRequest, signal?: AbortSignal): Promise<Answer> {
  let text = '';
  const tokens: number[] = [];
  let usage: Usage | undefined;
  for await (const part of engine.generate(request, signal)) {
    text += part.text;
    tokens.push(...part.tokens);
    usage = part.usage ?? usage;
  }
  return { text, tokens, usage: usage! };
}

interface Score {
  readonly best: ArrayLike<number>;
  readonly tokens: readonly number[];
  readonly logprobs: Float64Array;
}

async function forced(
  engine: EngineApi,
  { model, prompt, answer, kv }: { model: string; prompt: number[]; answer: readonly number[]; kv: string },
  signal?: AbortSignal,
): Promise<Score | null> {
  if (answer.length === 0) return null;
  return engine.score({ model, prompt, continuation: answer, kv, cache: 'f32' }, signal);
}

function row(recipe: string, own: Answer, full: Answer, score: Score | null, truth: Score | null): LiveRow {
  const { cache, timings } = own.usage;
  return {
    recipe,
    answer: own.text,
    same: commonLength(own.text, full.text),
    kept: cache.kept,
    keptShare: cache.kept / full.usage.cache.kept,
    bytes: cache.bytes,
    bytesShare: cache.bytes / full.usage.cache.bytes,
    peak: cache.peak,
    firstTokenMs: timings.firstTokenMs,
    tokensPerSecond: timings.decodeTokensPerSecond,
    ...(score && truth && { agreement: agreement(score, truth), lost: mean(truth.logprobs) - mean(score.logprobs) }),
  };
}

function agreement({ best }: Score, truth: Score): number {
  const same = Array.from(truth.best).filter((token, i) => token === best[i]);
  return same.length / truth.best.length;
}

const mean = (values: Float64Array): number => values.reduce((sum, value) => sum + value, 0) / values.length;

function commonLength(a: string, b: string): number {
  let i = 0;
  while (i < a.length && i < b.length && a[i] === b[i]) i++;
  return i;
}

/** @returns the recipes as text, each once */
function check({ recipes, maxTokens }: LiveAsk): string[] {
  if (!(Number.isInteger(maxTokens) && maxTokens >= 1 && maxTokens <= MOST_TOKENS))
    throw new KvasirError('invalid_request', 'the length of answers is out of range', {
      field: 'max_tokens',
      value: maxTokens,
      allowed: `a whole number from 1 to ${MOST_TOKENS}`,
    });
  if (recipes.length < 1 || recipes.length > MOST_RECIPES)
    throw new KvasirError('invalid_request', 'the number of recipes is out of range', {
      field: 'recipes',
      value: recipes.length,
      allowed: `1 to ${MOST_RECIPES} recipes`,
    });
  return [...new Set(recipes.map(recipe => formatRecipe(parseRecipe(recipe))))];
}
