import { z } from 'zod';
import { defineMethod } from '../define.ts';
import { keepsAll, tokensKept } from '../shared/budget.ts';
import { chunked, eviction, withBudget } from '../shared/options.ts';
import { topK } from '../shared/top-k.ts';
import type { AttentionSignal, KeepAction, PromptLayer, RetrieveRule, Traits } from '../types.ts';

const traits: Traits = { stage: 'keep', prefixStable: false, ragged: 'layers', selects: true };
const share = (standard: number, which: string) =>
  z.number().gt(0).max(1).default(standard).describe(`Share of ${which} that a step reads`);

/**
 * MPCache (arXiv 2501.06807, section 4), its two selections in the clear. At the end of a prompt tokens that none of its last
 * queries looks at are dropped, the same in all heads. While decoding, each head reads runs of neighbouring tokens only, chosen
 * by a bound of q . k: coarse runs first, then the fine ones within them; the second layer of each pair takes over the choice
 * of the first (not in the first two layers), and with it what the first has kept, so that a run is the same tokens in both.
 * On the bundled model, whose neighbouring layers choose half of their runs alike (the paper: 80 %), that costs: KL 0.128 from
 * the full cache, 0.096 where each layer keeps and chooses for itself (`adopt=false`). The paper observes 10 % above 24k tokens, and reads 12 % of the fine runs where layers share.
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
      adopt: z
        .boolean()
        .default(true)
        .describe('The second layer of each pair keeps and reads what the first has chosen'),
      ...eviction,
    },
  ),
  traits,
  traitsOf: options =>
    options.adopt && reads(options) && !keepsAll(options) ? { ...traits, sameLayers: true } : traits,
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
    const selects = reads({ coarse, fine });
    const adopts = (layer: number) => adopt && selects && layer >= 3 && layer % 2 === 1 && alike(layer);
    return {
      ...(!keepsAll(budget) && {
        ...chunked({ evict, chunk }),
        sense: (layer: number) => (adopts(layer) ? [] : [score]),
        decide(at: PromptLayer): KeepAction[] {
          // Layers of a pair hold the same entries, as they have kept the same ones at every prompt.
          const state = at.state(() => ({ kept: null as Uint32Array | null }));
          if (!adopts(at.layer)) state.kept = bestOf(at, at.signal(score), tokensKept(budget, at));
          const { kept } = state;
          // Nothing of a prompt outlives it.
          if (at.layer === model.layers - 1) state.kept = null;
          return kept ? [{ do: 'keep', layer: at.layer, entries: Array(model.kvHeads).fill(kept) }] : [];
        },
      }),
      ...(selects && { retrieve: (layer: number) => (adopts(layer) ? { ...rule, adopt: layer - 1 } : rule) }),
    };
  },
});

/** Do steps of decoding read less than all? */
const reads = ({ coarse, fine }: { readonly coarse: number; readonly fine: number }) => coarse < 1 || fine < 1;

/** Entries that all heads keep: those of the greatest mean score, the newest always; null where none has to go. */
function bestOf(at: PromptLayer, scores: readonly Float32Array[], budget: number): Uint32Array | null {
  const held = at.entries(0);
  if (budget >= held) return null;
  const mean = Float32Array.from({ length: held - 1 }, (_, entry) => scores.reduce((sum, of) => sum + of[entry]!, 0));
  return Uint32Array.from([...topK(mean, budget - 1), held - 1]);
}
