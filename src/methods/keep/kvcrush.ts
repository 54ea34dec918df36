import { z } from 'zod';
import { defineMethod } from '../define.ts';
import { keepsAll, tokensKept } from '../shared/budget.ts';
import { withLast } from '../shared/keep.ts';
import { chunked, eviction, group, pooling, window, withBudget } from '../shared/options.ts';
import { topK } from '../shared/top-k.ts';
import { windowScore } from '../shared/window-score.ts';
import type { AttentionSignal, PromptLayer, Traits } from '../types.ts';
import { ANCHORS, anchorOf, distances, withStandIns } from './crush.ts';

const traits: Traits = { stage: 'keep', prefixStable: false, ragged: 'both' };

/**
 * KVCrush (arXiv 2503.00022, section 3): the best by SnapKV's scores stay, and a part of the budget goes to tokens that stand
 * for those that do not: sorted by how far their signatures are from an anchor, they are taken at even steps.
 *
 * `form=heads`, the paper's: a token's signature has a bit for each head of the layer, 1 where that head would keep it. Each KV
 * head keeps its own best, as in SnapKV, and chooses among the tokens that it would drop; bits are matched by
 * position, and a head that does not hold a token any more has 0. `representatives=0` is SnapKV.
 * `form=blocks`, that of OpenVINO: blocks of neighbouring tokens stay or go, the same in all heads; a block's signature has a
 * bit for each of its tokens, 1 for the better half of all. Tokens that fill no block stay, beside the budget if they must.
 * OpenVINO also keeps the first 32 and the last 128 tokens, pools each score with those after it, and evicts while decoding
 * too; here nothing protects the start, `window` the end (128 is theirs), and scores are pooled on both sides.
 */
export const kvcrush = defineMethod({
  name: 'kvcrush',
  title: 'KVCrush',
  family: 'keep',
  summary:
    'Keeps the best tokens by the same scores as SnapKV, and a few of the others that stand for the rest. Use it where SnapKV fits and more should be left of what it drops.',
  paper: {
    title: 'KVCrush: Key value cache size-reduction using similarity in head-behaviour',
    date: '2025-02',
    arxiv: '2503.00022',
    venue: 'ACML 2025',
  },
  claim: 'A cache 4x smaller on LongBench at less than 1 % loss of accuracy, for under 0.5 % of the latency.',
  options: withBudget(
    { budget: 1024 },
    {
      representatives: z
        .number()
        .min(0)
        .max(1)
        .default(0.05)
        .describe('Share of what is kept before the window that stands for what is dropped; 0 is SnapKV'),
      form: z
        .enum(['heads', 'blocks'])
        .default('heads')
        .describe(
          'heads: tokens with a bit a head, as in the paper; blocks: blocks with a bit a token, as in OpenVINO',
        ),
      bits: z.enum(['query', 'kv']).default('query').describe('form=heads: a bit for each query head or each KV head'),
      block: z.int().min(1).max(1024).default(32).describe('form=blocks: tokens of a block'),
      anchor: z.enum(ANCHORS).default('random').describe('The signature that others are held against'),
      window: window(32),
      ...pooling('max', 7),
      group: group('mean'),
      ...eviction,
    },
  ),
  traits,
  traitsOf: ({ form }) => (form === 'blocks' ? { ...traits, ragged: 'layers' } : traits),
  create(options, model) {
    if (keepsAll(options)) return {};
    const { window, block, anchor } = options;
    const score = windowScore(options);
    const { group: _, ...each } = score;
    const heads: AttentionSignal = options.bits === 'kv' ? score : each;
    const share = (room: number) => Math.round(options.representatives * room);
    return {
      ...chunked(options),
      sense: () => (options.form === 'blocks' ? [score] : [score, heads]),
      decide(at) {
        const budget = tokensKept(options, at, window);
        if (at.signal(score).every((_, head) => at.entries(head) <= budget)) return [];
        const entries = options.form === 'blocks' ? ofBlocks(at, budget) : ofHeads(at, budget - window);
        return [{ do: 'keep', layer: at.layer, entries }];
      },
    };

    function ofHeads(at: PromptLayer, room: number): Uint32Array[] {
      const scores = at.signal(score);
      const marking = at.signal(heads);
      const bits = marking.length;
      const positions = scores.map((_, head) => at.positions(head));
      const marks = new Uint8Array(at.seen * bits);
      marking.forEach((values, bit) => {
        const held = positions[Math.floor((bit * model.kvHeads) / bits)]!;
        for (const i of topK(values, room - share(room))) marks[held[i]! * bits + bit] = 1;
      });
      const drawn = anchorOf('random', marks, bits, at.random());
      return scores.map((values, head) => {
        const held = positions[head]!;
        const signatures = new Uint8Array(values.length * bits);
        for (let i = 0; i < values.length; i++)
          signatures.set(marks.subarray(held[i]! * bits, (held[i]! + 1) * bits), i * bits);
        const against = anchor === 'random' ? drawn : anchorOf(anchor, signatures, bits);
        const chosen = withStandIns(values, distances(signatures, against), room, share(room));
        return withLast(chosen, held.length - values.length, held.length);
      });
    }

    function ofBlocks(at: PromptLayer, budget: number): Uint32Array[] {
      const scores = at.signal(score);
      const total = scores[0]!.map((_, i) => scores.reduce((sum, head) => sum + head[i]!, 0));
      const blocks = Math.floor(total.length / block);
      const whole = total.subarray(0, blocks * block);
      const stays = at.entries(0) - whole.length;
      const room = Math.max(0, Math.floor((budget - stays) / block));
      const sums = new Float32Array(blocks);
      for (let i = 0; i < whole.length; i++) sums[Math.floor(i / block)]! += whole[i]!;
      const signatures = new Uint8Array(whole.length);
      for (const i of topK(whole, Math.floor(whole.length / 2))) signatures[i] = 1;
      const against = anchorOf(anchor, signatures, block, at.random());
      const chosen = withStandIns(sums, distances(signatures, against), room, share(room));
      const kept = Uint32Array.from([...chosen].flatMap(b => Array.from({ length: block }, (_, i) => b * block + i)));
      const entries = withLast(kept, stays, at.entries(0));
      return scores.map(() => entries);
    }
  },
});
