import type { CacheSequence } from '../cache/sequence.ts';
import { KvasirError } from '../errors.ts';
import type { Forward } from './forward.ts';
import { LayerPrefill } from './layer-prefill.ts';
import type { LoadedModel } from './loaded-model.ts';
import { Run } from './program/run.ts';
import { argmax, logSumExp, topLogprobs } from './sampler.ts';
import type { LoadProgress, ScoreRequest, ScoreResult } from './types.ts';
import type { LogitSink, Work } from './work.ts';

/**
 * Forced decoding: runs prompt and continuation as one sequence and reads off how likely each continuation token was.
 * `exclusive` runs one unit of work at a time between the steps of other requests.
 */
export async function scoreTokens(
  model: LoadedModel,
  request: ScoreRequest,
  exclusive: <T>(run: () => Promise<T>) => Promise<T>,
  signal?: AbortSignal,
  onProgress?: (progress: LoadProgress) => void,
): Promise<ScoreResult> {
  const encode = (input: string | readonly number[], addBos: boolean) =>
    typeof input === 'string' ? model.tokenizer.encode(input, { addBos, parseSpecial: true }) : input;
  const prompt = encode(request.prompt, true);
  const continuation = encode(request.continuation, false);
  const tokens = [...prompt, ...continuation];
  const first = continuation.length > 0 && prompt.length > 0 ? prompt.length : 1;
  if (tokens.length < 2)
    throw new KvasirError('invalid_request', 'there is nothing to score', {
      field: 'continuation',
      value: tokens.length,
      allowed: 'prompt and continuation of at least two tokens together',
    });
  if (tokens.length > model.info.context)
    throw new KvasirError(
      'context_length_exceeded',
      `${tokens.length} tokens do not fit the context of ${model.info.context} tokens`,
      { field: 'continuation', value: tokens.length, allowed: `at most ${model.info.context} tokens` },
    );

  const count = tokens.length - first;
  const result = {
    tokens: tokens.slice(first),
    logprobs: new Float64Array(count),
    best: new Int32Array(count),
    top: [] as { token: number; logprob: number }[][],
  };
  const sink: LogitSink = (work, row, logits) => {
    const at = work.position + row + 1 - first;
    if (at < 0 || at >= count) return;
    result.logprobs[at] = logits[tokens[at + first]!]! - logSumExp(logits);
    result.best[at] = argmax(logits);
    result.top[at] = topLogprobs(logits, request.top ?? 0);
  };
  const format = request.cache ?? model.info.cache;
  const asked = model.program(request.kv);
  const program = asked?.idle ? null : asked;
  const pages = program ? program.pages(format) : { formatK: format, formatV: format };
  const sequence = model.cache.create({ pages, owner: 'score' });
  const units: Units = unit => {
    if (signal?.aborted) throw new KvasirError('aborted', 'the request was aborted');
    return exclusive(unit);
  };
  try {
    // The last token's logits predict what comes after: nobody asked.
    const given = tokens.slice(0, -1);
    const onTokens: OnTokens = done => onProgress?.({ fraction: done / given.length, what: 'score' });
    if (program) {
      const run = new Run(program, sequence, model.forward.recipes, request.seed ?? 0);
      await runWritten(model.forward, run, given, first, sink, units, onTokens);
    } else
      await runForced(model.forward, sequence, given, request.prefill ?? 'token', first - 1, sink, units, onTokens);
  } finally {
    sequence.free();
  }
  return result;
}

/** Runs one unit of work; units of one call never overlap. */
export type Units = <T>(unit: () => Promise<T>) => Promise<T>;

/** Told after each unit how many tokens have been run; a fraction of one in each layer counts as that. */
export type OnTokens = (done: number) => void;

/** Runs given tokens through an empty sequence and hands out the logits from index `firstLogit` on (earlier ones may come too). */
export async function runForced(
  forward: Forward,
  sequence: CacheSequence,
  tokens: readonly number[],
  order: 'token' | 'layer',
  firstLogit: number,
  sink: LogitSink,
  units: Units = unit => unit(),
  onTokens: OnTokens = () => {},
): Promise<void> {
  sequence.reserve(tokens.length);
  if (order === 'layer') {
    const prefill = new LayerPrefill(forward, sequence, tokens, 0);
    try {
      while (!(await units(() => prefill.next()))) onTokens(prefill.fraction * tokens.length);
      await units(() => prefill.finish('all', sink));
    } finally {
      prefill.dispose();
    }
    return;
  }
  const { tile } = forward.workspace;
  for (let from = 0; from < tokens.length; from += tile) {
    const rows = Math.min(tile, tokens.length - from);
    const logits = from + rows > firstLogit ? 'all' : 'none';
    await units(async () => {
      sequence.prepareAppend(rows);
      await forward.step([{ sequence, tokens, from, rows, position: from, logits }], sink);
    });
    onTokens(from + rows);
  }
}

/** Runs tokens under a recipe: the first `prompt` as a prompt, the others one by one as if they had been written. */
export async function runWritten(
  forward: Forward,
  run: Run,
  tokens: readonly number[],
  prompt: number,
  sink: LogitSink,
  units: Units = unit => unit(),
  onTokens: OnTokens = () => {},
): Promise<void> {
  const { sequence } = run;
  const prefill = new LayerPrefill(forward, sequence, tokens.slice(0, prompt), 0, run);
  try {
    while (!(await units(() => prefill.next()))) onTokens(prefill.fraction * prompt);
    await units(() => prefill.finish('last', sink));
  } finally {
    prefill.dispose();
  }
  const hooks = run.stepwise ? run : undefined;
  for (let from = prompt; from < tokens.length; from++) {
    await units(async () => {
      if (!hooks) sequence.prepareAppend(1);
      const work: Work = { sequence, tokens, from, rows: 1, position: from, logits: 'last', ...(hooks && { hooks }) };
      await forward.step([work], sink);
      run.afterStep();
    });
    onTokens(from + 1);
  }
}
