import { z } from 'zod';
import type { ScalarFormat } from '../../cache/format.ts';
import { defineMethod } from '../define.ts';
import { wholePages } from '../shared/options.ts';
import type { CacheLayer, EncodeAction } from '../types.ts';
import { channelGroup, floorPages } from './due.ts';
import { encodeDue } from './tails.ts';

const options = z.object({
  bits: z
    .literal([1, 2, 3, 4, 8])
    .default(2)
    .describe('Bits of a code; the authors advise 4 for models with grouped queries'),
  group: z.literal([16, 32, 64]).default(32).describe('Elements that share a scale and a minimum'),
  residual: wholePages(128, 'Entries at the end that stay exact'),
});

/**
 * KIVI (arXiv 2402.02750, section 3): keys quantized per channel (groups of tokens), values per token (groups of channels).
 *   K  of n entries the first n - (n mod R) are encoded
 *   V  all but the last R are (rounded down to whole pages)
 * Blocks are never encoded again, so that codes do not depend on how the prompt was cut. Entries are counted by view: what
 * another method dropped does not count.
 */
export const kivi = defineMethod({
  name: 'kivi',
  title: 'KIVI',
  family: 'format',
  summary:
    'Stores keys in 2 bits along channels and values in 2 bits along tokens; the newest entries stay exact. Use it where every token may matter and memory is short.',
  paper: {
    title: 'KIVI: A Tuning-Free Asymmetric 2bit Quantization for KV Cache',
    date: '2024-02',
    arxiv: '2402.02750',
    venue: 'ICML 2024',
  },
  claim: '2 bits keep quality on Llama-2, Falcon and Mistral at 2.6x less peak memory, weights included.',
  options,
  traits: { stage: 'encode', prefixStable: true },
  create({ bits, group, residual }, model) {
    const k: ScalarFormat = { kind: 'scalar', parts: [{ bits, along: 'token', group }] };
    const channels = channelGroup('kivi', group, model.headDim);
    const v: ScalarFormat = { kind: 'scalar', parts: [{ bits, along: 'channel', group: channels }] };
    const encode = (at: CacheLayer): EncodeAction[] =>
      encodeDue(at, { k, v }, n => ({ k: n - (n % residual), v: floorPages(Math.max(0, n - residual)) }));
    return { decide: encode, filled: encode };
  },
});
