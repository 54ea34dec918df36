import { z } from 'zod';
import { defineMethod } from '../define.ts';
import { keepsAll, tokensKept } from '../shared/budget.ts';
import { keepBest } from '../shared/keep.ts';
import { chunked, eviction, group, pooling, window, withBudget } from '../shared/options.ts';
import { windowScore } from '../shared/window-score.ts';

/**
 * PyramidKV (arXiv 2406.02069, section 4): SnapKV's scores; what a layer keeps falls linearly with depth, and the mean over
 * layers is the budget (rounding down leaves a few entries unspent). Defaults are those of the authors' runs.
 */
export const pyramidkv = defineMethod({
  name: 'pyramidkv',
  title: 'PyramidKV',
  family: 'allocate',
  summary:
    'Keeps by the same scores as SnapKV, more tokens in the first layers than in the last. Use it at tight budgets with the question in the prompt.',
  paper: {
    title: 'PyramidKV: Dynamic KV Cache Compression based on Pyramidal Information Funneling',
    date: '2024-06',
    arxiv: '2406.02069',
  },
  claim: 'Matches the full cache on LongBench with 12 % of it.',
  options: withBudget(
    { budget: 2048 },
    {
      beta: z.number().min(1).default(20).describe('How steep: the last layer keeps budget / beta beside the window'),
      window: window(8),
      ...pooling('max', 7),
      group: group('mean'),
      ...eviction,
    },
  ),
  traits: { stage: 'keep', prefixStable: false, ragged: 'both' },
  create(options, model) {
    if (keepsAll(options)) return {};
    const { window, beta } = options;
    const score = windowScore(options);
    return {
      ...chunked(options),
      sense: () => [score],
      decide(at) {
        const budget = tokensKept(options, at, window);
        const kept = budget >= at.seen ? at.seen : window + layerBudget(at, budget - window, at.seen - window, beta);
        return keepBest(at, at.signal(score), kept, window);
      },
    };

    /** Entries that layer keeps of `candidates` before the window, `mean` on average. */
    function layerBudget({ layer }: { layer: number }, mean: number, candidates: number, beta: number): number {
      if (candidates + window < 2 * mean) return mean;
      let least = Math.floor(mean / beta);
      let most = 2 * mean - least;
      if (most >= candidates) {
        most = candidates;
        least = 2 * mean - most;
      }
      return most - layer * Math.floor((most - least) / Math.max(1, model.layers - 1));
    }
  },
});
