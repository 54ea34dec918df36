import { z } from 'zod';
import { PAGE_TOKENS } from '../../../kernels/abi.ts';
import type { ScalarFormat } from '../../cache/format.ts';
import { defineMethod } from '../define.ts';
import { buffer } from '../shared/options.ts';
import type { CacheLayer, EncodeAction } from '../types.ts';
import { channelGroup, exactBlocks } from './due.ts';

const options = z.object({
  bits: z.literal([2, 3, 4, 8]).default(2).describe('Bits of a code'),
  group: z.literal([16, 32, 64]).default(64).describe('Elements that share a scale and a minimum'),
  outliers: z
    .number()
    .min(0)
    .max(0.25)
    .default(0.02)
    .describe('Share of elements stored exactly beside the codes, 32 bits each; 0 is GEAR-L'),
  rank: z.int().min(0).max(16).default(2).describe('Rank of what repairs the error of a page; 0: none'),
  rounds: z.int().min(1).max(16).default(3).describe('Rounds of the power iteration'),
  buffer: buffer(PAGE_TOKENS),
});

/**
 * GEAR (arXiv 2403.05527, section 3): X = codes + low rank + sparse. Keys per channel and values per token as in KIVI; the
 * greatest and least elements of a key channel (of a value token) are stored beside the codes, and the error that is left
 * gets a low-rank pair a page. K and V both keep n mod `buffer` entries exact.
 * The share of outliers holds for the page of one KV head, rounded up to 8: 88 of 4096 elements of 64 channels at 2 %. Whole
 * elements a side of each vector come first; a share that is less than one (at 2 % and 64 elements it is 0.64) goes to the
 * vectors whose ranges narrow the most by it. The authors take 2 % of a token's values over all heads.
 * The prompt is encoded in pages of 64 entries as decoded tokens are, at their rank: the authors give the prompt one pair of
 * rank 4. Low rank gains more on short blocks.
 */
export const gear = defineMethod({
  name: 'gear',
  title: 'GEAR',
  family: 'format',
  summary:
    'Quantizes as KIVI does and repairs the error with a low-rank pair and a few exact elements a page. Use it where 2 bits alone lose too much.',
  paper: {
    title: 'GEAR: An Efficient KV Cache Compression Recipe for Near-Lossless Generative Inference of LLM',
    date: '2024-03',
    arxiv: '2403.05527',
  },
  claim: 'Near-lossless at 4 bits with up to 2.29x less peak memory; better than KIVI at 2 bits.',
  options,
  traits: { stage: 'encode', prefixStable: true },
  create({ bits, group, outliers: share, rank, rounds, buffer }, model) {
    const lowRank = rank > 0 ? { lowRank: { rank: Math.min(rank, model.headDim), rounds } } : {};
    const k: ScalarFormat = {
      kind: 'scalar',
      parts: [{ bits, along: 'token', group }],
      ...(share > 0 && { outliers: { share, per: 'channel' as const } }),
      ...lowRank,
    };
    const v: ScalarFormat = {
      kind: 'scalar',
      parts: [{ bits, along: 'channel', group: channelGroup('gear', group, model.headDim) }],
      ...(share > 0 && { outliers: { share, per: 'token' as const } }),
      ...lowRank,
    };
    const encode = (at: CacheLayer): EncodeAction[] => {
      const actions: EncodeAction[] = [];
      for (let head = 0; head < model.kvHeads; head++) {
        const n = at.entries(head);
        for (const [from, to] of exactBlocks(at, head, 0, n - (n % buffer))) {
          actions.push({ do: 'encode', layer: at.layer, head, from, to, k, v });
        }
      }
      return actions;
    };
    return { decide: encode, filled: encode };
  },
});
