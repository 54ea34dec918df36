import { z } from 'zod';
import { defineMethod } from '../define.ts';
import { keepsAll, tokensKept } from '../shared/budget.ts';
import { keepBest } from '../shared/keep.ts';
import { chunked, eviction, group, pooling, window, withBudget } from '../shared/options.ts';
import { topK } from '../shared/top-k.ts';
import { windowScore } from '../shared/window-score.ts';
import type { PerHead } from '../types.ts';

/**
 * Ada-KV (arXiv 2407.11550, section 3): SnapKV's scores, taken together over the heads of a layer: heads whose scores reach
 * into the layer's best get more of its budget, none less than `alpha` of an equal share. Heads end up with different lengths.
 */
export const adakv = defineMethod({
  name: 'adakv',
  title: 'Ada-KV',
  family: 'allocate',
  summary:
    'Keeps by the same scores as SnapKV and moves budget to the heads whose attention is spread. Use it wherever SnapKV fits.',
  paper: {
    title: 'Ada-KV: Optimizing KV Cache Eviction by Adaptive Budget Allocation for Efficient LLM Inference',
    date: '2024-07',
    arxiv: '2407.11550',
    venue: 'NeurIPS 2025',
  },
  claim:
    'Better than an equal budget a head for SnapKV and PyramidKV on 29 datasets, also without the question in view.',
  options: withBudget(
    { budget: 1024 },
    {
      alpha: z
        .number()
        .min(0)
        .max(1)
        .default(0.2)
        .describe('Share of the budget that is dealt out equally; 1 is SnapKV'),
      weighted: z
        .boolean()
        .default(false)
        .describe("Weigh a head's scores by the share of their sum that its best have"),
      window: window(32),
      ...pooling('max', 7),
      group: group('mean'),
      ...eviction,
    },
  ),
  traits: { stage: 'keep', prefixStable: false, ragged: 'both' },
  create(options) {
    if (keepsAll(options)) return {};
    const score = windowScore(options, 'mean', 'group');
    return {
      ...chunked(options),
      sense: () => [score],
      decide(at) {
        const scores = at.signal(score);
        const budget = tokensKept(options, at, options.window);
        const held = scores.reduce((sum, _, head) => sum + at.entries(head), 0);
        if (held <= budget * scores.length) return [];
        const share = budget - options.window;
        const weighed = options.weighted ? scores.map(head => weigh(head, share)) : scores;
        const floor = Math.floor(options.alpha * share + 1e-9);
        const budgets = hits(weighed, share).map(hit => options.window + mix(hit, 1 - options.alpha, floor));
        return keepBest(at, scores, budgets, options.window);
      },
    };
  },
});

/** hit * share + floor as the authors compute it: in f32, halves to the even neighbour. */
function mix(hit: number, share: number, floor: number): number {
  const x = Math.fround(Math.fround(hit * Math.fround(share)) + floor);
  const down = Math.floor(x);
  if (x - down === 0.5) return down + (down % 2);
  return Math.round(x);
}

/** How many of the layer's heads x `share` best entries lie in each head. */
function hits(scores: PerHead, share: number): number[] {
  const all = new Float32Array(scores.reduce((sum, { length }) => sum + length, 0));
  scores.reduce((at, head) => {
    all.set(head, at);
    return at + head.length;
  }, 0);
  const best = topK(all, scores.length * share);
  let start = 0;
  return scores.map(head => {
    const [from, to] = [start, start + head.length];
    start = to;
    return best.filter(i => i >= from && i < to).length;
  });
}

/** Scores times the share of their sum that the best of them have. */
function weigh(scores: Float32Array, share: number): Float32Array {
  const total = scores.reduce((a, b) => a + b, 0);
  const best = topK(scores, share).reduce((sum, i) => sum + scores[i]!, 0);
  return total > 0 ? scores.map(value => (value * best) / total) : scores;
}
