import { z } from 'zod';
import { defineMethod } from '../define.ts';
import { keepsAll, tokensKept } from '../shared/budget.ts';
import { chunked, eviction, withBudget } from '../shared/options.ts';
import { topK } from '../shared/top-k.ts';
import type { AttentionSignal, KeepAction, PromptLayer, RetrieveRule } from '../types.ts';

const share = (standard: number, which: string) =>
  z.number().gt(0).max(1).default(standard).describe(`Share of ${which} that a step reads`);

/**
 * MPCache (arXiv 2501.06807, section 4), its two selections in the clear. At the end of a prompt tokens that none of its last
 * queries looks at are dropped, the same in all heads. While decoding, each head reads runs of neighbouring tokens only, chosen
 * by a bound of q . k: coarse runs first, then the fine ones within them; the second layer of each pair takes over the choice
 * of the first (not in the first two layers).
 * The authors' thresholds per data set are a share here, and `max` is taken in each head before the mean over heads, where
 * theirs is of the mean; `sum` is the same either way. Scores are not pooled: an answer of several tokens loses those that no
 * query of the prompt looks at. Their linear bound (`linear`) saves work where comparisons are expensive, as in secure
 * computation, and is rougher.
 */
export const mpcache = defineMethod({
  name: 'mpcache',
  title: 'MPCache',
  family: 'keep',
  summary:
    'Drops tokens that the end of the prompt does not look at, then reads at each step only the runs of tokens that the query can care about. Use it where reading the cache is what costs.',
  paper: {
    title: 'MPCache: MPC-Friendly KV Cache Eviction for Efficient Private LLM Inference',
    date: '2025-01',
    arxiv: '2501.06807',
    venue: 'NeurIPS 2025',
  },
  claim: 'Decoding 1.8 to 2.01x faster in secure computation, with 5 % of the cache read at the quality of more.',
  options: withBudget(
    { keep: 0.4 },
    {
      observed: z
        .number()
        .gt(0)
        .max(1)
        .default(0.2)
        .describe('Share of the prompt, its end, whose queries score tokens'),
      reduce: z.enum(['max', 'sum']).default('max').describe('How the scores of those queries become one'),
      size: z.int().min(1).max(256).default(16).describe('Tokens of a fine run; a coarse one has twice as many'),
      coarse: share(0.5, 'coarse runs'),
      fine: share(0.2, 'fine runs'),
      linear: z
        .number()
        .min(0)
        .max(1)
        .optional()
        .describe('Weight of the greatest values in a linear bound (the paper: 0.6); default: the exact bound'),
      adopt: z.boolean().default(true).describe('The second layer of each pair reads what the first has chosen'),
      ...eviction,
    },
  ),
  traits: { stage: 'keep', prefixStable: false, ragged: 'layers', selects: true },
  create({ observed, reduce, size, coarse, fine, linear, adopt, evict, chunk, ...budget }, model) {
    const score: AttentionSignal = { signal: 'attention', rows: { last: observed, sampled: 0 }, reduce };
    const rule: RetrieveRule = {
      units: { size },
      score: { by: 'bounds', ...(linear !== undefined && { linear }) },
      per: 'head',
      choose: {
        by: 'levels',
        levels: [
          { units: 2, share: coarse },
          { units: 1, share: fine },
        ],
      },
      always: { first: 1, last: 1 },
    };
    const alike = (layer: number) => model.layerWindow[layer] === model.layerWindow[layer - 1];
    return {
      ...(!keepsAll(budget) && {
        ...chunked({ evict, chunk }),
        sense: () => [score],
        decide: (at: PromptLayer) => keepSame(at, at.signal(score), tokensKept(budget, at)),
      }),
      ...(coarse < 1 || fine < 1
        ? {
            retrieve: (layer: number) =>
              adopt && layer >= 3 && layer % 2 === 1 && alike(layer) ? { ...rule, adopt: layer - 1 } : rule,
          }
        : {}),
    };
  },
});

/** Keeps the same entries in all heads: those of the greatest mean score, the newest always. */
function keepSame(at: PromptLayer, scores: readonly Float32Array[], budget: number): KeepAction[] {
  const held = at.entries(0);
  if (budget >= held) return [];
  const mean = Float32Array.from({ length: held - 1 }, (_, entry) => scores.reduce((sum, of) => sum + of[entry]!, 0));
  const kept = Uint32Array.from([...topK(mean, budget - 1), held - 1]);
  return [{ do: 'keep', layer: at.layer, entries: Array(at.model.kvHeads).fill(kept) }];
}
