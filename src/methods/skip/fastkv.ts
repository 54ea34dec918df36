import { z } from 'zod';
import { KvasirError } from '../../errors.ts';
import { defineMethod } from '../define.ts';
import { keepsAll, tokensKept } from '../shared/budget.ts';
import { keepBest, withLast } from '../shared/keep.ts';
import { pooling, window, withBudget } from '../shared/options.ts';
import { topK } from '../shared/top-k.ts';
import { windowScore } from '../shared/window-score.ts';
import type { RowsAction } from '../types.ts';

/**
 * FastKV (arXiv 2502.01068, section 4): up to one layer all tokens run and the cache keeps the best of each head; there the
 * best `rate` of the tokens are chosen, and the layers after it run those alone, at their true positions. Every layer keeps the
 * same number of entries.
 * The first prompt alone: a later turn is appended in full, and nothing of it is dropped.
 */
export const fastkv = defineMethod({
  name: 'fastkv',
  title: 'FastKV',
  family: 'skip',
  summary:
    'Runs the later half of the layers for the most looked-at tokens of the prompt only, and keeps a part of the cache. Use it to read long prompts faster.',
  paper: {
    title: 'FastKV: Decoupling of Context Reduction and KV Cache Compression for Prefill-Decoding Acceleration',
    date: '2025-02',
    arxiv: '2502.01068',
  },
  claim:
    'Up to 1.82x faster prefill and 2.87x faster decoding than the full cache, on par with methods for decoding alone.',
  options: withBudget(
    { keep: 0.1 },
    {
      rate: z.number().gt(0).max(1).default(0.2).describe('Share of the tokens that run on; never less than is kept'),
      layer: z
        .int()
        .min(0)
        .optional()
        .describe('Last layer (from 0) that runs all tokens; default: half of the layers'),
      window: window(8),
      ...pooling('max', 7),
    },
  ),
  traits: { stage: 'keep', prefixStable: false, ragged: 'both' },
  create(options, model) {
    if (keepsAll(options)) return {};
    const { window, rate } = options;
    const turn = options.layer ?? Math.max(0, Math.floor(model.layers / 2) - 1);
    if (turn >= model.layers) {
      throw new KvasirError('invalid_request', `fastkv: layer ${turn} is not one of the model's.`, {
        field: 'layer',
        value: turn,
        allowed: `0 to ${model.layers - 1}`,
      });
    }
    const score = windowScore({ ...options, group: 'sum' }, 'sum');
    return {
      sense: () => [score],
      decide(at) {
        const state = at.state(() => ({ tokens: 0 }));
        if (at.layer === 0) state.tokens = at.rows === at.seen ? at.rows : 0;
        if (state.tokens === 0) return [];
        const budget = tokensKept(options, at, window);
        const scores = at.signal(score);
        const keep = keepBest(at, scores, budget, window);
        const on = Math.max(budget, Math.floor(rate * state.tokens + 1e-9));
        if (at.layer !== turn || at.layer === model.layers - 1 || on >= at.rows) return keep;
        const total = scores[0]!.map((_, i) => scores.reduce((sum, head) => sum + head[i]!, 0));
        const rows: RowsAction = { do: 'rows', rows: withLast(topK(total, on - window), window, at.rows) };
        return [...keep, rows];
      },
    };
  },
});
