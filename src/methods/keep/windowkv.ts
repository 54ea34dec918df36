import { z } from 'zod';
import { defineMethod } from '../define.ts';
import { keepsAll, tokensKept } from '../shared/budget.ts';
import { withLast } from '../shared/keep.ts';
import { chunked, eviction, withBudget } from '../shared/options.ts';
import { topK } from '../shared/top-k.ts';
import type { AttentionSignal, KeepAction, ModelShape, PerHead } from '../types.ts';
import { fallingBudgets } from './falling.ts';

/** The last queries that score, by task, as in the public code. */
const LAST = { localise: 32, aggregate: 16 } as const;

/**
 * WindowKV (arXiv 2503.17922, section 3): runs of `size` neighbouring tokens (the paper's windows) stay or go as a whole, the
 * same in all heads of a layer. Only the first of `layers` neighbouring layers scores them, the others adopt its choice; where
 * the group mixes sliding and full attention, the first of each kind does. Groups of layers get budgets that fall by equal
 * steps. Where `layers` does not divide the model's, the last group is shorter and the mean budget over layers still holds.
 * The last tokens count within the budget, where the public code adds them to it, and what a group of the first layers cannot
 * use, as there are not so many tokens, goes to later ones.
 * The task, a classifier's answer in the paper, is an option. A layer holds what its budget says within `size` - 1 tokens.
 * At a later turn runs are of neighbouring entries that are left, not of text. Prompt end only.
 */
export const windowkv = defineMethod({
  name: 'windowkv',
  title: 'WindowKV',
  family: 'keep',
  summary:
    'Keeps or drops runs of eight neighbouring tokens as a whole, chosen once for a group of layers. Use it where what is kept should stay readable text, or scoring should cost little.',
  paper: {
    title: 'WindowKV: Task-Adaptive Group-Wise KV Cache Window Selection for Efficient LLM Inference',
    date: '2025-03',
    arxiv: '2503.17922',
  },
  claim: 'Comparable to the full cache on LongBench with 12 % of it.',
  options: withBudget(
    { budget: 2048 },
    {
      task: z
        .enum(['localise', 'aggregate'])
        .default('localise')
        .describe('localise: a run counts by its best tokens, for questions about a place; aggregate: by all of them'),
      window: z
        .int()
        .min(1)
        .max(1024)
        .optional()
        .describe('Last tokens: their queries score the others, and they always stay; 32 to localise, 16 to aggregate'),
      size: z.int().min(1).max(256).default(8).describe('Tokens of a run that stays or goes as a whole'),
      layers: z.int().min(1).default(8).describe('Neighbouring layers that share one choice'),
      beta: z
        .number()
        .gt(0)
        .default(14)
        .describe('How steep: the last layers keep budget x layers / beta beside the window'),
      ...eviction,
    },
  ),
  traits: { stage: 'keep', prefixStable: false, ragged: 'layers', sameLayers: true },
  create(options, model) {
    if (keepsAll(options)) return {};
    const { task, size, layers, beta, window = LAST[task] } = options;
    const score: AttentionSignal = { signal: 'attention', rows: window, reduce: 'sum', drop: window };
    const best = task === 'localise' ? Math.max(1, size >> 1) : size;
    const groups = Array.from({ length: Math.ceil(model.layers / layers) }, (_, g) =>
      Math.min(layers, model.layers - g * layers),
    );
    return {
      ...chunked(options),
      sense: layer => (leader(model, layer, layers) === layer ? [score] : []),
      decide(at) {
        const state = at.state(() => ({ chosen: [] as (Uint32Array | null)[] }));
        const first = leader(model, at.layer, layers);
        const held = at.entries(0);
        if (first === at.layer) {
          const candidates = Math.max(0, held - window);
          const mean = tokensKept(options, at, window) - window;
          const budgets = fallingBudgets(groups, mean, Math.floor((mean * layers) / beta), candidates);
          const kept = runsKept(at.signal(score), size, best, candidates, budgets[Math.floor(first / layers)]!);
          state.chosen[first] = kept && withLast(kept, Math.min(window, held), held);
        }
        // Layers of a group hold the same entries, as they have kept the same ones at every prompt.
        const entries = state.chosen[first];
        if (at.layer === model.layers - 1) state.chosen = [];
        return entries
          ? [{ do: 'keep', layer: at.layer, entries: Array(model.kvHeads).fill(entries) } as KeepAction]
          : [];
      },
    };
  },
});

/** The layer whose choice a layer takes: the first of its group with the same kind of attention. */
function leader({ layerWindow }: ModelShape, layer: number, size: number): number {
  let first = layer - (layer % size);
  while (layerWindow[first] !== layerWindow[layer]) first++;
  return first;
}

/** Entries [0, candidates) of the runs that stay, whole ones and the last; null where none has to go. */
function runsKept(heads: PerHead, size: number, best: number, candidates: number, budget: number): Uint32Array | null {
  const drop = Math.ceil((candidates - budget) / size);
  if (drop <= 0) return null;
  const scores = Float32Array.from({ length: Math.ceil(candidates / size) }, (_, run) => {
    const means = heads.map(head =>
      meanOfBest(head.subarray(run * size, Math.min(candidates, (run + 1) * size)), best),
    );
    return means.reduce((a, b) => a + b, 0) / heads.length;
  });
  const runs = topK(scores, scores.length - drop);
  return Uint32Array.from(
    [...runs].flatMap(run => Array.from({ length: size }, (_, i) => run * size + i)).filter(i => i < candidates),
  );
}

function meanOfBest(values: Float32Array, count: number): number {
  const best = values.slice().sort().subarray(-count);
  return best.reduce((a, b) => a + b, 0) / best.length;
}
