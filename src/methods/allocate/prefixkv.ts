import { z } from 'zod';
import { defineMethod } from '../define.ts';
import { type PrefixProfile, parsePrefixProfile } from '../profiles.ts';
import { keepsAll } from '../shared/budget.ts';
import { keepBest } from '../shared/keep.ts';
import { type BudgetOptions, withBudget } from '../shared/options.ts';
import type { AttentionSignal, CacheLayer, KeepAction, PromptLayer, Traits } from '../types.ts';
import { best } from './cascade.ts';
import { cumulativeShares, layerShare, prefixes } from './prefix.ts';

export const columnSums: AttentionSignal = { signal: 'attention', rows: 'all', reduce: 'sum', group: 'mean' };
const traits: Traits = { stage: 'keep', prefixStable: false, ragged: 'layers', drops: 'oldest' };
/** Where entries go while decoding: so far from the end of what the prompt left. */
const FROM_END = 25;

interface State {
  /** By layer: share of the tokens seen that it keeps. */
  shares: number[];
  /** By layer while it is searched: importance of what is held, and cumulative shares of the importance of all. */
  importance: Float32Array[];
  curves: Float64Array[];
}

/**
 * PrefixKV (arXiv 2412.03409, section 4): an entry is as important as all the prompt's queries together find it, on average over
 * heads. Layers keep different numbers of entries, so that each keeps the same share of its importance: those with a
 * concentrated attention give room to the others. One set for all heads. How much a layer keeps comes from a profile
 * (`search=profile`), or is searched for this prompt: then layers share one total as they run, and finished ones are trimmed
 * again, for the share only falls with each layer that joins; the peak is that total and one whole layer.
 * While decoding, what exceeds a layer's share of the tokens seen goes from a fixed place, 25 before the end of what the prompt
 * left (the middle of a shorter cache): the first tokens and what the prompt found important stay, the text after it thins out.
 * A layer's part is rounded to the nearest entry, so that all layers together keep the total within half an entry each, and no
 * layer fewer than what always stays: the first entry and the last `window`, while decoding too. That is one as published; on
 * the bundled model at keep=0.4 the last 32 bring the KL from the full cache down from 0.233 to 0.145.
 */
export const prefixkv = defineMethod({
  name: 'prefixkv',
  title: 'PrefixKV',
  family: 'allocate',
  summary:
    'Keeps in each layer as many of the most looked-at tokens as have the same share of its attention. Use it at small budgets on models whose layers differ.',
  paper: {
    title:
      'PrefixKV: Adaptive Prefix KV Cache is What Vision Instruction-Following Models Need for Efficient Generation',
    date: '2024-12',
    arxiv: '2412.03409',
    venue: 'NeurIPS 2025',
  },
  claim: 'At 20 % of the cache perplexity 3.7 where the full cache has 3.2 and H2O 48 (LLaVA-1.5-7B).',
  options: withBudget(
    { keep: 0.2 },
    {
      search: z
        .enum(['profile', 'prompt', 'uniform'])
        .default('profile')
        .describe("What a layer keeps: by the model's profile, searched for each prompt, or in all layers the same"),
      window: z.int().min(1).max(1024).default(1).describe('Last tokens that always stay; 1 as published'),
      average: z.boolean().default(false).describe('Divide importance by the number of queries that saw the token'),
    },
  ),
  traits,
  traitsOf: ({ search }) => (search === 'prompt' ? { ...traits, settlesLate: true } : traits),
  profile: 'prefixkv',
  create(options, model, given) {
    if (keepsAll(options)) return {};
    const { search, average, window } = options;
    const stay = 1 + window;
    const fromEnd = Math.max(FROM_END, window);
    /** What a step leaves in a layer whatever its share: from a prompt shorter than `fromEnd` on, its first half too. */
    const least = window + Math.max(1, fromEnd >> 1);
    const profile = search === 'profile' ? parsePrefixProfile(given, model) : null;
    const last = model.layers - 1;
    const greatest = greatestCount(options, profile, model.layers);
    const state = (at: CacheLayer) => at.state((): State => ({ shares: [], importance: [], curves: [] }));
    return {
      ...(search === 'prompt' && { settles: () => last }),
      ...(greatest && { most: (tokens: number) => Math.max(least, greatest(tokens)) }),
      sense: () => [columnSums],
      decide(at) {
        const { layer } = at;
        const { shares, importance, curves } = state(at);
        const scores = importanceOf(at, average);
        /** Of all layers together; more than 1 where the budget exceeds what there is. */
        const share = options.keep ?? options.budget! / at.seen;
        if (search !== 'prompt') {
          shares[layer] = profile && share < 1 ? layerShare(profile, layer, share, average) : share;
          return keepShare(at, layer, protectEnds(scores, window), shares[layer]!, stay);
        }
        curves[layer] = cumulativeShares(scores);
        importance[layer] = protectEnds(scores, window);
        const found = prefixes(curves, share * at.seen * model.layers, stay);
        const actions = found.flatMap((count, l) => {
          shares[l] = share < 1 ? count / at.seen : share;
          const keep = keepShare(at, l, importance[l]!, shares[l]!, stay);
          if (keep.length > 0) {
            importance[l] = best(importance[l]!, keep[0]!.entries[0]!.length);
            curves[l] = curves[l]!.slice(0, importance[l]!.length);
          }
          return keep;
        });
        if (layer === last) importance.length = curves.length = 0;
        return actions;
      },
      step(layer, at) {
        const share = state(at).shares[layer]!;
        const entries = at.entries(0);
        return {
          evict: {
            over: options.keep === undefined ? Math.max(stay, Math.round(share * at.seen)) : { share },
            choose: 'oldest',
            first: entries > fromEnd ? entries - fromEnd : Math.max(1, entries >> 1),
            last: window,
            per: 'layer',
          },
        };
      },
    };
  },
});

/** f32 [entries]: what the queries of the prompt gave to each entry, on average over heads. */
export function importanceOf(at: PromptLayer, average: boolean): Float32Array {
  const heads = at.signal(columnSums);
  return heads[0]!.map((_, i) => {
    const sum = heads.reduce((total, head) => total + head[i]!, 0) / heads.length;
    return average ? sum / Math.min(at.rows, heads[0]!.length - i) : sum;
  });
}

/** Entries of the layer that keeps the most of so many tokens; null: it depends on the prompt. */
function greatestCount(
  { keep, budget, search, average }: BudgetOptions & { search: string; average: boolean },
  profile: PrefixProfile | null,
  layers: number,
): ((tokens: number) => number) | null {
  if (search === 'uniform') return tokens => (keep === undefined ? budget! : Math.round(keep * tokens));
  if (!profile || keep === undefined) return null;
  const shares = Array.from({ length: layers }, (_, layer) => layerShare(profile, layer, keep, average));
  return tokens => Math.round(Math.max(...shares) * tokens);
}

function protectEnds(scores: Float32Array, window: number): Float32Array {
  return scores.map((value, i) => (i === 0 || i >= scores.length - window ? Number.POSITIVE_INFINITY : value));
}

/** @param stay never fewer */
function keepShare(at: PromptLayer, layer: number, scores: Float32Array, share: number, stay: number): KeepAction[] {
  const count = Math.max(stay, Math.round(share * at.seen));
  return keepBest(at, Array(at.model.kvHeads).fill(scores), count, 0, layer);
}
