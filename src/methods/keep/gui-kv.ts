import { z } from 'zod';
import { defineMethod } from '../define.ts';
import { keepsAll, tokensKept } from '../shared/budget.ts';
import { keepBest } from '../shared/keep.ts';
import { chunked, eviction, group, pooling, window, withBudget } from '../shared/options.ts';
import { windowScore } from '../shared/window-score.ts';
import type { PerHead, PromptLayer, SignalRequest } from '../types.ts';
import { entriesWithin, redundant, saliency } from './frames.ts';

const HIDDEN = { signal: 'hidden-norm' } as const;

/**
 * GUI-KV (arXiv 2510.00536, section 4): SnapKV's scores, changed for prompts with images (segments of the kind `image`, which may
 * be any versions of a text). In the last image tokens with large hidden states gain, `alpha` in all; in those before it the
 * tokens whose keys the last image's first `rank` keys span best are dropped before others. Hidden states are those that enter
 * the layer, as the paper says (the public code takes them after the norm); heads of a group are reduced to one, where the public
 * code stores the first one's choice. An image of an earlier turn gains nothing: its hidden states are gone. A budget below
 * `window` keeps as many of the last tokens; all of the window's queries score all the same. Prompt end only.
 */
export const guiKv = defineMethod({
  name: 'gui-kv',
  title: 'GUI-KV',
  family: 'keep',
  summary:
    'Drops what an earlier picture of a screen shows like the last one, and keeps what stands out in the last. Use it for prompts with several versions of one thing, given as image segments.',
  paper: {
    title: 'GUI-KV: Efficient GUI Agents via KV Cache with Spatio-Temporal Awareness',
    date: '2025-10',
    arxiv: '2510.00536',
  },
  claim:
    'With five screenshots 38.9 % fewer operations a decoding step and 4.1 % more right steps than the full cache.',
  options: withBudget(
    { keep: 0.2 },
    {
      window: window(8),
      ...pooling('mean', 5),
      group: group('mean'),
      alpha: z
        .number()
        .min(0)
        .default(2)
        .describe('What large hidden states add to the scores of the last image, in all'),
      temperature: z.number().gt(0).default(3.5).describe('How evenly alpha is shared out; high: evenly'),
      rank: z.int().min(1).max(256).default(32).describe('Keys of the last image that span what counts as shown again'),
      basis: z
        .enum(['first', 'pivot'])
        .default('first')
        .describe('Which ones: the first, as published, or one by one that of which the others leave most'),
      ...eviction,
    },
  ),
  traits: { stage: 'keep', prefixStable: false, ragged: 'both' },
  create(options) {
    if (keepsAll(options)) return {};
    const { alpha, temperature, rank, basis: choose, window } = options;
    const score = windowScore(options, 'sum');
    const asked: readonly SignalRequest[] = alpha > 0 ? [score, HIDDEN] : [score];
    return {
      ...chunked(options),
      sense: () => asked,
      decide(at) {
        const kept = tokensKept(options, at);
        const images = at.segments.filter(({ kind }) => kind === 'image');
        const latest = images.at(-1);
        const scores = at.signal(score).map(values => values.slice());
        if (latest && alpha > 0) addSaliency(at, scores, saliency(at.signal(HIDDEN), at, latest, temperature), alpha);
        if (images.length > 1) {
          const basis = scores.map((_, head) => entriesWithin(at, head, images.slice(-1)));
          const members = scores.map((values, head) =>
            entriesWithin(at, head, images.slice(0, -1)).filter(entry => entry < values.length),
          );
          const residuals = at.signal({ signal: 'residual', of: 'k', basis, members, rank, choose });
          for (const [head, values] of scores.entries()) {
            const share = Math.max(0, 1 - kept / at.entries(head));
            for (const i of redundant(residuals[head]!, share)) {
              const entry = members[head]![i]!;
              // Below every other one, in the order of their scores among themselves.
              values[entry] = -1 / Math.max(0, values[entry]!);
            }
          }
        }
        // The window gives way to a budget that it does not fit.
        return keepBest(at, scores, kept, Math.min(window, kept));
      },
    };
  },
});

/** @param gains by position; they sum to 1 */
function addSaliency(at: PromptLayer, scores: PerHead, gains: ReadonlyMap<number, number>, alpha: number): void {
  for (const [head, values] of scores.entries()) {
    const positions = at.positions(head);
    for (let i = 0; i < values.length; i++) values[i]! += alpha * (gains.get(positions[i]!) ?? 0);
  }
}
