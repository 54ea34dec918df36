import { z } from 'zod';
import { PAGE_TOKENS } from '../../../kernels/abi.ts';
import type { ScalarFormat } from '../../cache/format.ts';
import { KvasirError } from '../../errors.ts';
import { defineMethod } from '../define.ts';
import { type KvquantProfile, parseKvquantProfile } from '../profiles.ts';
import type { CacheLayer, EncodeAction, ModelShape, SharedParams } from '../types.ts';
import { exactBlocks } from './due.ts';

const options = z.object({
  bits: z.literal([2, 3, 4]).default(3).describe('Bits of a code'),
  outliers: z
    .number()
    .min(0)
    .max(0.25)
    .optional()
    .describe('Share of elements stored exactly beside the codes: the one that the profile was made for'),
  sinks: z.int().min(0).default(1).describe('First tokens of the text that stay exact, rounded up to whole pages'),
});

/** Codebooks stand for what calibration normalised to this range. */
const RANGE = [-1, 1] as const;

/** Slots for outliers of keys, over the share that calibration leaves out: how many are beyond fixed ranges differs by page. */
const HEADROOM = 1.5;

/**
 * KVQuant (arXiv 2401.18079, section 3): keys before RoPE, per channel, with ranges found offline (`kvquant` profile); values
 * per token; a codebook a layer and tensor; elements outside the range stored beside the codes; at 2 bits codes are those of
 * the plain codebook and stand for the one that Q-Norm gives. Ranges of values are those of a token and KV head (the authors
 * take all heads of a token together), their outliers the share of a page whose absence narrows its tokens' ranges the most.
 * Keys have slots for 1.5 times the share (0.16 bits an element more at 1 %, 64 slots of 4096 elements in place of 41), since
 * text unlike the calibration's has more beyond its ranges; what finds no slot is clamped and counted (CacheStats.clamped).
 * The authors encode every token when it comes; here a token waits until its page is full. Sinks take a page in any case, so
 * the page stays exact as a whole.
 */
export const kvquant = defineMethod({
  name: 'kvquant',
  title: 'KVQuant',
  family: 'format',
  summary:
    'Quantizes keys before RoPE with calibrated ranges and codebooks, and stores outliers apart. Use it for the least loss at 2 to 4 bits once the model has been calibrated.',
  paper: {
    title: 'KVQuant: Towards 10 Million Context Length LLM Inference with KV Cache Quantization',
    date: '2024-01',
    arxiv: '2401.18079',
    venue: 'NeurIPS 2024',
  },
  claim: 'Less than 0.1 perplexity lost at 3 bits on WikiText-2 and C4 (LLaMA, Llama-2, Mistral).',
  options,
  traits: { stage: 'encode', prefixStable: true, keysUnrotated: true },
  profile: 'kvquant',
  create({ bits, outliers: asked, sinks }, model, given) {
    const profile = parseKvquantProfile(given, model);
    const { outliers } = profile;
    if (asked !== undefined && asked !== outliers) {
      const message = `kvquant: the profile's ranges leave out ${outliers} of the elements, not ${asked}.`;
      throw new KvasirError('invalid_request', message, { field: 'outliers', value: asked, allowed: [outliers] });
    }
    const book = ({ luts, borders }: KvquantProfile['layers'][number]['v']) => ({
      bits,
      lut: luts[bits],
      lutRange: RANGE,
      ...(bits === 2 && { borders: borders[2] }),
    });
    const formats = profile.layers.map(({ k, v }) => ({
      k: format({ ...book(k), along: 'token', scope: 'shared' }, Math.min(0.25, HEADROOM * outliers), 'range'),
      v: format({ ...book(v), along: 'channel' }, outliers, 'token'),
    }));
    const encode = (at: CacheLayer): EncodeAction[] => {
      const { layer } = at;
      const { k, v } = formats[layer]!;
      const actions: EncodeAction[] = [];
      for (let head = 0; head < model.kvHeads; head++) {
        const positions = at.positions(head);
        const first = positions.findIndex(position => position >= sinks);
        const from = first < 0 ? positions.length : Math.ceil(first / PAGE_TOKENS) * PAGE_TOKENS;
        const blocks = exactBlocks(at, head, from, positions.length);
        const sharedK = blocks.length > 0 ? keyParameters(profile, model, layer, head) : undefined;
        for (const [a, b] of blocks)
          actions.push({ do: 'encode', layer, head, from: a, to: b, k, v, sharedK: sharedK! });
      }
      return actions;
    };
    return { pages: { keysUnrotated: true }, decide: encode, filled: encode };
  },
});

function format(part: ScalarFormat['parts'][number], share: number, per: 'range' | 'token'): ScalarFormat {
  return { kind: 'scalar', parts: [part], ...(share > 0 && { outliers: { share, per } }) };
}

/** scale, then offset, of each channel of a KV head: they take [-1, 1] to [least, greatest]. */
function keyParameters({ layers }: KvquantProfile, model: ModelShape, layer: number, head: number): SharedParams {
  const { least, greatest } = layers[layer]!.k;
  const d = model.headDim;
  const values = new Float32Array(2 * d);
  for (let c = 0; c < d; c++) {
    const [low, high] = [least[head * d + c]!, greatest[head * d + c]!];
    values[c] = (high - low) / 2;
    values[d + c] = (high + low) / 2;
  }
  return { key: `kvquant-${layer}-${head}`, values };
}
