import { z } from 'zod';
import { defineMethod } from '../define.ts';
import { keepsAll, tokensKept } from '../shared/budget.ts';
import { attention, pooled } from '../shared/expressions.ts';
import { keepBest } from '../shared/keep.ts';
import { group, pooling, window, withBudget } from '../shared/options.ts';
import { groupedScores, pooledScores } from '../shared/pool.ts';
import type { AttentionSignal } from '../types.ts';
import { best, lnTotal, settle } from './cascade.ts';

interface State {
  /** By layer: ln of the preference. */
  preferences: number[];
  /** By layer: entries kept before the window, what the stages so far have left. */
  budgets: number[];
  /** By layer until the prompt ends: indicators of the entries before the window that are still held. */
  indicators: Float32Array[][];
}

/**
 * CAKE (arXiv 2503.12491, section 4): a layer's preference is the spread of its attention (entropy) times its shift over time
 * (variance over queries); layers share one total in proportion. It cascades: each layer that has run takes its part, and the
 * finished ones are trimmed again by the indicators stored with them, mean + gamma * variance. A share never grows
 * again, so the result is that of one trim with the final shares. While decoding, the entry that the newest query looks at
 * least goes (pooled over all entries, the window's too).
 * Unlike the public code, a layer is trimmed as soon as it exceeds the budget, not only beyond budget + window.
 */
export const cake = defineMethod({
  name: 'cake',
  title: 'CAKE',
  family: 'allocate',
  summary:
    'Divides one total over the layers by how spread and how restless their attention is, and keeps what was looked at much or changeably. Use it at small budgets.',
  paper: {
    title: 'CAKE: Cascading and Adaptive KV Cache Eviction with Layer Preferences',
    date: '2025-03',
    arxiv: '2503.12491',
    venue: 'ICLR 2025',
  },
  claim: 'Keeps the performance of the full cache with 3.2 % of it, and decodes over 10x faster at 128k tokens.',
  options: withBudget(
    { budget: 1024 },
    {
      gamma: z.number().min(0).default(200).describe('Weight of the variance in the indicator'),
      entropy: z.number().gt(0).default(1).describe('Temperature of the spread: it counts to the power 1 / entropy'),
      shift: z.number().gt(0).default(1).describe('Temperature of the shift: it counts to the power 1 / shift'),
      window: window(32),
      ...pooling('mean', 5),
      group: group('mean'),
    },
  ),
  traits: { stage: 'keep', prefixStable: false, ragged: 'both', drops: 'single', settlesLate: true },
  create(options, model) {
    if (keepsAll(options)) return {};
    const { window, gamma } = options;
    const last = model.layers - 1;
    const mean: AttentionSignal = { signal: 'attention', rows: window, reduce: 'mean', drop: window };
    const variance: AttentionSignal = { ...mean, reduce: 'variance' };
    const spread: AttentionSignal = {
      signal: 'attention',
      rows: window,
      reduce: 'entropy',
      drop: window,
      group: 'sum',
    };
    const shift: AttentionSignal = { ...spread, reduce: 'variance' };
    const state = (at: { state<T extends object>(init: () => T): T }) =>
      at.state((): State => ({ preferences: [], budgets: [], indicators: [] }));
    return {
      settles: () => last,
      sense: () => [mean, variance, spread, shift],
      decide(at) {
        const { layer } = at;
        const { preferences, budgets, indicators } = state(at);
        const means = at.signal(mean);
        const variances = at.signal(variance);
        // A maximum of sums is no sum of maxima: mean and variance meet before they are pooled and reduced over a group.
        const sums = means.map((head, h) => head.map((value, i) => value + gamma * variances[h]![i]!));
        const pooling = sums.map(head => pooledScores(head, options.pool, options.width));
        indicators[layer] = groupedScores(pooling, options.group, model.group);
        preferences[layer] = lnTotal(at.signal(spread)) / options.entropy + lnTotal(at.signal(shift)) / options.shift;
        const share = tokensKept(options, at, window) - window;
        // A finished layer has no more than the stage before left it.
        const room = indicators.slice(0, layer + 1).map(heads => Math.max(...heads.map(head => head.length)));
        const total = share * model.layers;
        const settled = settle(preferences.slice(0, layer + 1), total, room);
        const short = settled.reduce((a, b) => a + b, 0) < total;
        const actions = settled.flatMap((budget, l) => {
          // Where all fits, layers may grow to equal shares while decoding.
          budgets[l] = short ? Math.max(budget, share) : budget;
          const keep = keepBest(at, indicators[l]!, budget + window, window, l);
          if (keep.length > 0) indicators[l] = indicators[l]!.map(head => best(head, budget));
          return keep;
        });
        if (layer === last) indicators.length = 0;
        return actions;
      },
      // One layer may get nearly all of the total.
      most: tokens => (tokensKept(options, { seen: tokens }, window) - window) * model.layers + window,
      step: (layer, at) => ({
        evict: {
          over: state(at).budgets[layer]! + window,
          choose: 'lowest',
          value: pooled(options.pool, options.width, attention(options.group)),
          first: 0,
          last: window,
          per: 'head',
        },
      }),
    };
  },
});
