import { z } from 'zod';
import { defineMethod } from '../define.ts';
import { parseRazorProfile } from '../profiles.ts';
import type { CacheLayer, MergeAction, Traits } from '../types.ts';

const options = z.object({
  sinks: z.int().min(1).default(4).describe('First entries that a head without retrieval keeps'),
  divisor: z.number().min(1).default(5).describe('Such a head keeps the last seen / divisor entries'),
  minimum: z.int().min(1).default(256).describe('and at least so many (4000 in the paper, 256 in the public port)'),
  compensate: z.boolean().default(true).describe('Leave the mean of what is dropped in its place'),
});

const traits = {
  stage: 'keep',
  prefixStable: false,
  ragged: 'both',
  drops: 'oldest',
} as const satisfies Traits;

/**
 * RazorAttention (arXiv 2407.15891, section 3): heads that retrieve (`razor-attention` profile) keep everything. The others
 * keep the sinks and the last max(minimum, N / divisor) entries; the n entries between become one, mean K (after RoPE) and
 * mean V, whose score gets ln n added: it weighs as much as n equal entries. It stands at the place of the first of them,
 * after the sinks. While decoding, the oldest entry of the window goes into the means.
 * A second prompt goes on from the first: ln n lies in the column `bias`.
 */
export const razorAttention = defineMethod({
  name: 'razor-attention',
  title: 'RazorAttention',
  family: 'keep',
  summary:
    'Keeps the whole cache of the heads that look things up; all others keep sinks, a window and one entry for the rest. Use it where later questions are not known when the text is read.',
  paper: {
    title: 'RazorAttention: Efficient KV Cache Compression Through Retrieval Heads',
    date: '2024-07',
    arxiv: '2407.15891',
    venue: 'ICLR 2025',
  },
  claim: 'A cache smaller by over 70 % without a noticeable loss, whatever is asked later.',
  options,
  traits: { ...traits, keysRotated: true, needsExact: true },
  traitsOf: ({ compensate }) => (compensate ? { ...traits, keysRotated: true, needsExact: true } : traits),
  profile: 'razor-attention',
  create({ sinks, divisor, minimum, compensate }, model, given) {
    const { retrieval } = parseRazorProfile(given, model);
    const cut = retrieval.map(heads =>
      Array.from({ length: model.kvHeads }, (_, h) => h).filter(h => !heads.includes(h)),
    );
    const window = (at: CacheLayer) => Math.max(minimum, Math.floor(at.seen / divisor));
    /** The first entry that may be dropped, or the first that may go into the one before it. */
    const first = compensate ? sinks + 1 : sinks;
    return {
      pages: compensate ? { columns: ['bias'] } : {},
      decide(at) {
        const dropping = cut[at.layer]!.filter(head => at.entries(head) - window(at) > first);
        if (compensate) return dropping.map(head => compensation(at, head, sinks, at.entries(head) - window(at)));
        if (dropping.length === 0) return [];
        const entries = Array.from({ length: model.kvHeads }, (_, head) => {
          const all = Uint32Array.from({ length: at.entries(head) }, (_, i) => i);
          return dropping.includes(head) ? all.filter(i => i < sinks || i >= all.length - window(at)) : all;
        });
        return [{ do: 'keep', layer: at.layer, entries }];
      },
      step(layer, at) {
        const heads = cut[layer]!;
        if (heads.length === 0) return null;
        const over = first + window(at);
        return { evict: { over, choose: 'oldest', first, last: 0, per: 'head', heads, compensate } };
      },
    };
  },
});

/** Entries [from, to) into the first of them, which may stand for several already. */
function compensation(at: CacheLayer, head: number, from: number, to: number): MergeAction {
  const standsFor = Math.exp(at.column('bias', head)[from]!);
  const count = standsFor + to - from - 1;
  const members = Uint32Array.from({ length: to - from }, (_, i) => from + i);
  const weights = new Float32Array(to - from).fill(1 / count);
  weights[0] = standsFor / count;
  return {
    do: 'merge',
    layer: at.layer,
    head,
    targets: Uint32Array.of(from),
    starts: Uint32Array.of(0, members.length),
    members,
    weightsK: weights,
    weightsV: weights,
    bias: Float32Array.of(Math.log(count)),
  };
}
