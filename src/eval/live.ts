import type { EngineApi, GenerateRequest, PromptMessage, Usage } from '../engine/types.ts';
import { KvasirError } from '../errors.ts';
import { formatRecipe, parseRecipe, type RecipeInput } from '../methods/recipe.ts';

/** Most recipes of one comparison, the full cache not counted. */
export const MOST_RECIPES = 12;
export const MOST_TOKENS = 512;
/** Methods that draw draw alike when they answer and when they are scored. */
const SEED = 0;

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
  /** `done` of `total` runs of the prompt; of the one at work a part. */
  | { readonly type: 'step'; readonly recipe: string; readonly done: number; readonly total: number }
  | { readonly type: 'row'; readonly row: LiveRow };

export interface LiveRow {
  readonly recipe: string;
  /** Why there is nothing else. */
  readonly error?: string;
  readonly answer?: string;
  /** Characters of the answer that are those of the full cache's. */
  readonly same?: number;
  /** At the end of the prompt: entries a layer and KV head holds, averaged; and as a share of the full cache's. */
  readonly kept?: number;
  readonly keptShare?: number;
  readonly bytes?: number;
  readonly bytesShare?: number;
  /** Bytes outside of the cache. */
  readonly parked?: number;
  /** At any moment, the answer's included. */
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
  const left = new AbortController();
  const stop = AbortSignal.any([left.signal, ...(signal ? [signal] : [])]);

  /** Both runs of the recipe that has number `i`. */
  const measure = async function* (recipe: string, i: number, answered?: readonly number[]) {
    const at = (done: number): LiveEvent => ({ type: 'step', recipe, done, total });
    const ask = {
      model,
      messages,
      maxTokens,
      kv: recipe,
      temperature: 0,
      seed: SEED,
      cache: 'f32',
      progress: true,
    } as const;
    yield at(2 * i);
    const own = yield* onTheWay(
      report => answer(engine, ask, report, stop),
      part => at(2 * i + part),
    );
    yield at(2 * i + 1);
    const given = { model, prompt, answer: answered ?? own.tokens, kv: recipe };
    const score = yield* onTheWay(
      report => forced(engine, given, report, stop),
      part => at(2 * i + 1 + part),
    );
    return { own, score };
  };

  try {
    const full = yield* measure('full', 0);
    yield { type: 'row', row: row('full', full.own, full.own, full.score, full.score) };
    for (const [i, recipe] of recipes.entries()) {
      try {
        const { own, score } = yield* measure(recipe, i + 1, full.own.tokens);
        yield { type: 'row', row: row(recipe, own, full.own, score, full.score) };
      } catch (error) {
        if (stop.aborted || !(error instanceof KvasirError)) throw error;
        yield { type: 'row', row: { recipe, error: error.message } };
      }
    }
  } finally {
    left.abort();
  }
}

type Report = (fraction: number) => void;

/** Steps of a run that are worth an event. */
const LEAST_STEP = 0.02;

/** Gives events while `run` runs, as it reports how far it is, and its result at the end. */
async function* onTheWay<T>(
  run: (report: Report) => Promise<T>,
  event: (fraction: number) => LiveEvent,
): AsyncGenerator<LiveEvent, T, void> {
  const state = { fraction: 0, settled: false, wake: () => {} };
  const result = run(fraction => {
    state.fraction = fraction;
    state.wake();
  }).finally(() => {
    state.settled = true;
    state.wake();
  });
  // Whoever leaves the loop never asks for it.
  result.catch(() => {});
  for (let told = 0; !state.settled; ) {
    const { fraction } = state;
    if (fraction < 1 && fraction >= told + LEAST_STEP) {
      told = fraction;
      yield event(fraction);
    } else
      await new Promise<void>(resolve => {
        state.wake = resolve;
      });
  }
  return result;
}

interface Answer {
  readonly text: string;
  readonly tokens: readonly number[];
  readonly usage: Usage;
  /** What the cache held at the end of the prompt. */
  readonly cache: Usage['cache'];
}

/** Prompt and answer count as half of a run each. */
async function answer(
  engine: EngineApi,
  request: GenerateRequest & { readonly maxTokens: number },
  report: Report,
  signal: AbortSignal,
): Promise<Answer> {
  let text = '';
  const tokens: number[] = [];
  let usage: Usage | undefined;
  let cache: Usage['cache'] | undefined;
  for await (const part of engine.generate(request, signal)) {
    text += part.text;
    tokens.push(...part.tokens);
    usage = part.usage ?? usage;
    cache = part.prompt?.cache ?? cache;
    report(part.prompt ? part.prompt.fraction / 2 : (1 + tokens.length / request.maxTokens) / 2);
  }
  return { text, tokens, usage: usage!, cache: cache ?? usage!.cache };
}

interface Score {
  readonly best: ArrayLike<number>;
  readonly tokens: readonly number[];
  readonly logprobs: Float64Array;
}

async function forced(
  engine: EngineApi,
  { model, prompt, answer, kv }: { model: string; prompt: number[]; answer: readonly number[]; kv: string },
  report: Report,
  signal: AbortSignal,
): Promise<Score | null> {
  if (answer.length === 0) return null;
  const request = { model, prompt, continuation: answer, kv, seed: SEED, cache: 'f32' } as const;
  return engine.score(request, signal, ({ fraction }) => report(fraction));
}

function row(recipe: string, own: Answer, full: Answer, score: Score | null, truth: Score | null): LiveRow {
  const { cache } = own;
  const { timings } = own.usage;
  return {
    recipe,
    answer: own.text,
    same: commonLength(own.text, full.text),
    kept: cache.kept,
    keptShare: cache.kept / full.cache.kept,
    bytes: cache.bytes,
    bytesShare: cache.bytes / full.cache.bytes,
    parked: cache.parked,
    peak: own.usage.cache.peak,
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
  return [...new Set(recipes.map((recipe, i) => formatRecipe(parseRecipe(recipe, `recipes[${i}]`))))];
}
