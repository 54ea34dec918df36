import { z } from 'zod';
import { defineMethod } from '../define.ts';
import { keepsAll, tokensKept } from '../shared/budget.ts';
import { withLast } from '../shared/keep.ts';
import { chunked, eviction, positions, withBudget } from '../shared/options.ts';
import type { Traits } from '../types.ts';

const traits: Traits = { stage: 'keep', prefixStable: false, ragged: 'none', drops: 'oldest' };
const renumbering: Traits = { ...traits, keysUnrotated: true, renumbers: true };

/**
 * StreamingLLM (arXiv 2309.17453, section 3.2): the first tokens (attention sinks) and the last ones stay, at the end of the
 * prompt and after every step: a step's query sees one entry more than stays, as in the authors' runs of perplexity (where they
 * generate, room is made before). No scores. As in the paper tokens count by their place in the cache, so that text may outgrow the
 * trained context; `positions=kept` keeps the true ones, as kvpress does.
 */
export const streamingLlm = defineMethod({
  name: 'streaming-llm',
  title: 'StreamingLLM',
  family: 'keep',
  summary:
    'Keeps the first tokens and the last ones. Use it for endless streams where only the recent text matters, and as the baseline of all that choose.',
  paper: {
    title: 'Efficient Streaming Language Models with Attention Sinks',
    date: '2023-09',
    arxiv: '2309.17453',
    venue: 'ICLR 2024',
  },
  claim: 'Stable language modelling over 4 million tokens and more, up to 22.2x faster than a recomputed window.',
  options: withBudget(
    { budget: 2004 },
    {
      sinks: z.int().min(0).max(1024).default(4).describe('First tokens that stay; they count in the budget'),
      positions: positions('renumbered'),
      ...eviction,
    },
  ),
  traits: renumbering,
  traitsOf: options => (options.positions === 'kept' ? traits : renumbering),
  create({ sinks, positions, evict, chunk, ...budget }) {
    if (keepsAll(budget)) return {};
    const renumber = positions === 'renumbered';
    const kept = (at: { seen: number }) => tokensKept(budget, at, sinks + 1);
    return {
      ...chunked({ evict, chunk }),
      pages: { keysUnrotated: renumber },
      decide(at) {
        const { layer, model } = at;
        const held = at.entries(0);
        if (held <= kept(at)) return [];
        const first = Uint32Array.from({ length: sinks }, (_, i) => i);
        const entries = withLast(first, kept(at) - sinks, held);
        const keep = { do: 'keep', layer, entries: Array(model.kvHeads).fill(entries) } as const;
        return renumber ? [keep, { do: 'renumber', layer }] : [keep];
      },
      most: tokens => kept({ seen: tokens }),
      step: (_, at) => ({
        evict: { over: kept(at), choose: 'oldest', first: sinks, last: 0, per: 'layer' },
        renumber,
      }),
    };
  },
});
