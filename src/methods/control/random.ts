import { z } from 'zod';
import { defineMethod } from '../define.ts';
import { keepsAll, tokensKept } from '../shared/budget.ts';
import { keepBest } from '../shared/keep.ts';
import { chunked, eviction, withBudget } from '../shared/options.ts';

/**
 * Keeps a random set of each head and layer, the last window and, if asked, the first tokens. The control: what random eviction
 * passes too is no evidence for a method.
 */
export const random = defineMethod({
  name: 'random',
  title: 'Random eviction',
  family: 'control',
  summary:
    'Keeps random tokens beside the last ones, other ones in each head and layer. The control: use it to see what a task asks of the cache at all.',
  paper: null,
  claim: '',
  options: withBudget(
    { keep: 0.25 },
    {
      window: z.int().min(1).max(1024).default(32).describe('Last tokens, which always stay'),
      sinks: z.int().min(0).max(1024).default(0).describe('First tokens, which always stay'),
      ...eviction,
    },
  ),
  traits: { stage: 'keep', prefixStable: false, ragged: 'both' },
  create({ window, sinks, evict, chunk, ...budget }, model) {
    if (keepsAll(budget)) return {};
    return {
      ...chunked({ evict, chunk }),
      decide(at) {
        const draw = at.random();
        const scores = Array.from({ length: model.kvHeads }, (_, head) =>
          Float32Array.from({ length: at.entries(head) }, (_, i) => (i < sinks ? 1 : draw())),
        );
        return keepBest(at, scores, tokensKept(budget, at, window + sinks), window);
      },
    };
  },
});
