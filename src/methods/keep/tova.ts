import { z } from 'zod';
import { defineMethod } from '../define.ts';
import { keepsAll, tokensKept } from '../shared/budget.ts';
import { attention } from '../shared/expressions.ts';
import { keepBest } from '../shared/keep.ts';
import { chunked, eviction, withBudget } from '../shared/options.ts';
import type { AttentionSignal } from '../types.ts';

/** One query: whether it is summed or averaged is the same. */
const lastRow: AttentionSignal = { signal: 'attention', rows: 1, reduce: 'sum', group: 'mean' };

/**
 * TOVA (arXiv 2401.06104, section 3.3): at the end of the prompt and after every step, what the newest query looks at least is
 * dropped; its attention is averaged over all heads of the layer, and all of them keep the same tokens. Nothing is protected
 * (`recent=1` protects the newest token, as kvpress does).
 */
export const tova = defineMethod({
  name: 'tova',
  title: 'TOVA',
  family: 'keep',
  summary:
    'Drops at every step the token that the newest query looks at least, the same in all heads of a layer. Use it for a cache of fixed size without any state.',
  paper: { title: 'Transformers are Multi-State RNNs', date: '2024-01', arxiv: '2401.06104', venue: 'EMNLP 2024' },
  claim: 'Nearly the full model with an eighth of its cache.',
  options: withBudget(
    { budget: 512 },
    { recent: z.int().min(0).max(1024).default(0).describe('Last tokens that are never dropped'), ...eviction },
  ),
  traits: { stage: 'keep', prefixStable: false, ragged: 'layers', drops: 'single' },
  create({ recent, evict, chunk, ...budget }, model) {
    if (keepsAll(budget)) return {};
    return {
      ...chunked({ evict, chunk }),
      sense: () => [lastRow],
      decide(at) {
        const heads = at.signal(lastRow);
        const mean = heads[0]!.map((_, i) => heads.reduce((sum, head) => sum + head[i]!, 0) / model.kvHeads);
        return keepBest(
          at,
          heads.map(() => mean),
          tokensKept(budget, at, recent),
          recent,
        );
      },
      most: tokens => tokensKept(budget, { seen: tokens }, recent),
      step(_, at) {
        const over = tokensKept(budget, at, recent);
        return { evict: { over, choose: 'lowest', value: attention('mean'), first: 0, last: recent, per: 'layer' } };
      },
    };
  },
});
