import { z } from 'zod';
import { defineMethod } from '../define.ts';
import { accumulation } from '../shared/accumulated.ts';
import { keepsAll, tokensKept } from '../shared/budget.ts';
import { positions, withBudget } from '../shared/options.ts';
import type { AttentionSignal, CacheLayer, KeepAction, Traits } from '../types.ts';
import { sweep } from './sweep.ts';

interface State {
  /** By layer: [kvHeads] cursors after the prompt; null where it was not swept. */
  cursors: (number[] | null)[];
}

const traits: Traits = { stage: 'keep', prefixStable: false, ragged: 'both', drops: 'single' };
const renumbering: Traits = { ...traits, keysUnrotated: true, renumbers: true };

/**
 * TreeKV (arXiv 2501.04987, section 3): between the first tokens and the recent ones lies a managed part; when it overflows, of
 * two neighbours the one with the lower average attention goes, and the next pair is looked at next time. Each sweep thins
 * every neighbourhood once, so that tokens get sparser towards the past, smoothly. A prompt is swept block by block,
 * scored by the queries of its last block; what does not fill a block, token by token. Decoding goes on with the pair at which
 * the prompt's sweep stood; a later prompt is swept from the start again, with all that is held before it.
 * As in the paper tokens count by their place in the cache; `positions=kept` keeps the true ones.
 */
export const treekv = defineMethod({
  name: 'treekv',
  title: 'TreeKV',
  family: 'keep',
  summary:
    'Thins the past out smoothly, of two neighbours dropping the less looked-at one at each step. Use it for very long text at a fixed cache.',
  paper: {
    title: 'TreeKV: Smooth Key-Value Cache Compression with Tree Structures',
    date: '2025-01',
    arxiv: '2501.04987',
    venue: 'IJCAI 2025',
  },
  claim: 'Lower perplexity on PG19 and OpenWebText2 than the methods compared, at a cache 16x smaller than the text.',
  options: withBudget(
    { budget: 1024 },
    {
      sinks: z.int().min(0).max(1024).default(4).describe('First tokens that stay'),
      managed: z.number().gt(0).max(1).default(0.5).describe('Share of the budget that is swept; the rest is recent'),
      block: z.int().min(1).max(1024).default(64).describe('Tokens a block while a prompt is swept'),
      positions: positions('renumbered'),
    },
  ),
  traits: renumbering,
  traitsOf: options => (options.positions === 'kept' ? traits : renumbering),
  create({ sinks, managed, block, positions, ...budget }) {
    if (keepsAll(budget)) return {};
    const renumber = positions === 'renumbered';
    const lastBlock: AttentionSignal = { signal: 'attention', rows: block, reduce: 'sum', group: 'mean' };
    const sums = accumulation(true);
    const state = (at: CacheLayer) => at.state((): State => ({ cursors: [] }));
    /** Entries in all, and the last of them that are not swept. */
    const limits = (at: { seen: number }) => {
      const over = tokensKept(budget, at, sinks + 2);
      const swept = Math.min(over - sinks, Math.max(1, Math.floor(over * managed + 1e-9)));
      return { over, first: sinks, last: over - sinks - swept };
    };
    return {
      pages: { keysUnrotated: renumber, ...sums.pages },
      sense: () => [lastBlock],
      decide(at) {
        const { over, first, last } = limits(at);
        const { scores, actions } = sums.add(at, at.signal(lastBlock), block);
        const { cursors } = state(at);
        cursors[at.layer] = null;
        if (scores.every(head => head.length <= over)) return actions;
        const swept = scores.map(head => sweep(head.subarray(first, head.length - last), over - first - last, block));
        cursors[at.layer] = swept.map(({ cursor }) => cursor);
        const keep: KeepAction = {
          do: 'keep',
          layer: at.layer,
          entries: scores.map((head, h) => {
            const end = head.length - last;
            const survivors = swept[h]!.entries;
            return Uint32Array.from({ length: Math.min(over, head.length) }, (_, i) => {
              if (i < first) return i;
              return i < first + survivors.length ? first + survivors[i - first]! : end + i - first - survivors.length;
            });
          }),
        };
        return renumber ? [...actions, keep, { do: 'renumber', layer: at.layer }] : [...actions, keep];
      },
      most: tokens => limits({ seen: tokens }).over,
      step(layer, at) {
        const cursors = state(at).cursors[layer];
        const evict = { ...limits(at), choose: 'neighbours', value: sums.value, per: 'head' } as const;
        return { ...sums.step, evict: { ...evict, ...(cursors && { cursors }) }, renumber };
      },
    };
  },
});
