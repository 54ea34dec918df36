import type { LoadedModel } from '../../engine/loaded-model.ts';
import { argmax } from '../../engine/sampler.ts';
import { memberOf } from '../../methods/composition.ts';
import { type CacheSetting, FULL } from '../cache-setting.ts';
import { Feed, type Pause } from '../feed.ts';
import { Divergence, type DivergenceResult } from '../meters/divergence.ts';
import { BINS, type ComparePrompt } from './prompt.ts';

/** What a recipe does to a prompt, and to what follows it. */
export interface Quality extends DivergenceResult {
  /** Entries of each layer and KV head after the prompt, [layers][kvHeads]. */
  readonly lengths: readonly (readonly number[])[];
  /** Bytes after the prompt, after the forced tokens, and the most at any moment. */
  readonly held: number;
  readonly heldAfter: number;
  readonly peak: number;
  readonly parked: number;
  /**
   * Share of each bin of the prompt that a layer and KV head still holds: two hex digits a bin (ff: all), BINS bins,
   * [layers][kvHeads]. null where entries were given new positions.
   */
  readonly map: readonly (readonly string[])[] | null;
  /** Its own greedy answer. */
  readonly answer: string;
  readonly answerTokens: number;
}

/** Predictions of the full f32 cache, and the tokens that all recipes are forced through. */
export interface Truth {
  readonly forced: readonly number[];
  readonly logits: readonly Float32Array[];
}

export async function truthOf(
  model: LoadedModel,
  { tokens, forced }: ComparePrompt,
  steps: number,
  pause?: Pause,
): Promise<Truth> {
  using feed = new Feed(model, FULL, pause);
  const logits: Float32Array[] = [];
  const note = (_: number, values: Float32Array) => void logits.push(values.slice());
  await feed.prompt(tokens, 'last', note);
  if (forced) {
    await feed.push(forced.slice(0, -1), 'all', note);
    return { forced, logits };
  }
  const written: number[] = [];
  for (let next = argmax(logits[0]!); written.length < steps; next = argmax(logits.at(-1)!)) {
    written.push(next);
    if (written.length === steps || model.tokenizer.endTokens.has(next)) break;
    await feed.push([next], 'last', note);
  }
  return { forced: written, logits };
}

export async function quality(
  model: LoadedModel,
  setting: CacheSetting,
  { tokens }: ComparePrompt,
  truth: Truth,
  steps: number,
  pause?: Pause,
): Promise<Quality> {
  using feed = new Feed(model, setting, pause);
  const sum = new Divergence();
  let at = 0;
  let first = -1;
  const compare = (_: number, values: Float32Array) => {
    if (at === 0) first = argmax(values);
    sum.add(truth.logits[at++]!, values);
  };
  await feed.prompt(tokens, 'last', compare);
  const { held, parked, tokens: entries } = feed.stats();
  const { layers, kvHeads } = model.shape;
  const lengths = Array.from({ length: layers }, (_, layer) =>
    Array.from(entries.subarray(layer * kvHeads, (layer + 1) * kvHeads)),
  );
  const map = renumbers(setting) ? null : keptMap(feed, layers, kvHeads, tokens.length);
  const answer = await greedyAnswer(model, feed, first, steps);
  await feed.push(truth.forced.slice(0, -1), 'all', compare);
  const after = feed.stats();
  return {
    ...sum.result(),
    lengths,
    held,
    heldAfter: after.held,
    peak: after.peak,
    parked,
    map,
    ...answer,
  };
}

async function greedyAnswer(model: LoadedModel, feed: Feed, first: number, steps: number) {
  const { tokenizer } = model;
  using writer = feed.fork();
  const written: number[] = [];
  for (let next = first; written.length < steps && !tokenizer.endTokens.has(next); ) {
    written.push(next);
    if (written.length === steps) break;
    await writer.push([next], 'last', (_, values) => {
      next = argmax(values);
    });
  }
  return { answer: tokenizer.decode(written), answerTokens: written.length };
}

function renumbers({ kv }: CacheSetting): boolean {
  return (kv ?? []).some(step => memberOf(step).traits.renumbers);
}

/** See Quality.map. Parked entries are not in the cache and count as not held. */
function keptMap({ sequence }: Feed, layers: number, kvHeads: number, count: number): string[][] {
  const edges = Array.from({ length: BINS + 1 }, (_, bin) => Math.round((bin * count) / BINS));
  return Array.from({ length: layers }, (_, layer) =>
    Array.from({ length: kvHeads }, (_, head) => {
      const held = new Float64Array(BINS);
      for (const position of sequence.positions(layer, head)) {
        let bin = Math.min(BINS - 1, Math.floor((position * BINS) / count));
        while (position < edges[bin]!) bin--;
        while (position >= edges[bin + 1]!) bin++;
        held[bin]!++;
      }
      return Array.from(held, (value, bin) => {
        const size = edges[bin + 1]! - edges[bin]!;
        return Math.round(size === 0 ? 0 : (255 * Math.min(value, size)) / size)
          .toString(16)
          .padStart(2, '0');
      }).join('');
    }),
  );
}

export interface Speed {
  readonly context: number;
  /** From the prompt's beginning to the first token's logits. */
  readonly firstTokenMs: number;
  /** Of each step of decoding. */
  readonly stepMs: readonly number[];
}

/** Steps timed a round; the first one after a prompt is left out. */
const TIMED_STEPS = 24;

/** One prompt and a burst of decoding, timed. */
export async function speed(
  model: LoadedModel,
  setting: CacheSetting,
  tokens: readonly number[],
  pause?: Pause,
): Promise<Speed> {
  using feed = new Feed(model, setting, pause);
  let next = 0;
  const take = (_: number, values: Float32Array) => {
    next = argmax(values);
  };
  const begin = performance.now();
  await feed.prompt(tokens, 'last', take);
  const firstTokenMs = performance.now() - begin;
  const stepMs: number[] = [];
  for (let step = 0; step <= TIMED_STEPS; step++) {
    const from = performance.now();
    await feed.push([next], 'last', take);
    if (step > 0) stepMs.push(performance.now() - from);
  }
  return { context: tokens.length, firstTokenMs, stepMs };
}
