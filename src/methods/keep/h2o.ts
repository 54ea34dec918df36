import { z } from 'zod';
import { defineMethod } from '../define.ts';
import { accumulation } from '../shared/accumulated.ts';
import { keepsAll, tokensKept } from '../shared/budget.ts';
import { keepBest } from '../shared/keep.ts';
import { chunked, eviction, withBudget } from '../shared/options.ts';
import type { AttentionSignal } from '../types.ts';

const columnSums: AttentionSignal = { signal: 'attention', rows: 'all', reduce: 'sum', group: 'mean' };

/**
 * H2O (arXiv 2306.14048, section 4): the tokens with the largest attention summed over all queries so far (heavy hitters) stay,
 * and the recent ones; at the end of the prompt and after every step. The sum favours early tokens, which more queries see:
 * `average` divides by their number, as kvpress's observed attention does. Only what survived is looked at (the local
 * statistics of the paper).
 */
export const h2o = defineMethod({
  name: 'h2o',
  title: 'H2O',
  family: 'keep',
  summary:
    'Keeps heavy hitters, the tokens with the most attention so far, and recent ones, at every step. Use it for long generation with a fixed cache.',
  paper: {
    title: 'H2O: Heavy-Hitter Oracle for Efficient Generative Inference of Large Language Models',
    date: '2023-06',
    arxiv: '2306.14048',
    venue: 'NeurIPS 2023',
  },
  claim:
    'With 20 % heavy hitters, throughput up to 29x that of three inference systems, at the quality of the full cache.',
  options: withBudget(
    { keep: 0.2 },
    {
      recent: z.number().min(0).max(1).default(0.5).describe('Share of what is kept that goes to the last tokens'),
      average: z.boolean().default(false).describe('Divide a sum by the number of queries that saw the token'),
      ...eviction,
    },
  ),
  traits: { stage: 'keep', prefixStable: false, ragged: 'both', drops: 'single' },
  create({ recent, average, evict, chunk, ...budget }) {
    if (keepsAll(budget)) return {};
    const sums = accumulation(average);
    /** Entries in all, and how many of them are recent ones. */
    const limits = (at: { seen: number }) => {
      const over = tokensKept(budget, at);
      return { over, last: Math.floor(over * recent + 1e-9) };
    };
    return {
      ...chunked({ evict, chunk }),
      pages: sums.pages,
      sense: () => [columnSums],
      decide(at) {
        const { over, last } = limits(at);
        const { scores, actions } = sums.add(at, at.signal(columnSums), at.rows);
        return [...actions, ...keepBest(at, scores, over, last)];
      },
      most: tokens => tokensKept(budget, { seen: tokens }),
      step: (_, at) => ({
        ...sums.step,
        evict: { ...limits(at), choose: 'lowest', value: sums.value, first: 0, per: 'head' },
      }),
    };
  },
});
