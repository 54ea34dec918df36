import { z } from 'zod';
import { PAGE_TOKENS } from '../../../kernels/abi.ts';
import type { ScalarFormat, ScalarPart } from '../../cache/format.ts';
import { KvasirError } from '../../errors.ts';
import { defineMethod } from '../define.ts';
import { buffer } from '../shared/options.ts';
import { topK } from '../shared/top-k.ts';
import type { AttentionSignal, CacheLayer, EncodeAction, PromptLayer, RangeSignal } from '../types.ts';
import { exactBlocks } from './due.ts';

const options = z.object({
  bitsK: z
    .literal([1.25, 1.5, 2])
    .default(1.5)
    .describe(
      'Bits of a key code: 1.5 and 1.25 give 2 bits to that share above 1 of the channels, 1 bit to the others',
    ),
  bitsV: z.literal([1.58, 2]).default(1.58).describe('Bits of a value code; 1.58: three steps, held in 2 bits'),
  normal: z
    .enum(['mean', 'sign', 'hadamard'])
    .default('mean')
    .describe('Codes of 1 bit: signs around the mean of a group, plain signs, or signs after a Hadamard transform'),
  threshold: z
    .number()
    .gt(0)
    .lt(1)
    .default(0.5)
    .describe(
      'Values below this share of the mean magnitude of their group become 0; 0.7 loses less of normal numbers',
    ),
  group: z.literal([16, 32, 64]).default(32).describe('Tokens that share the parameters of a channel'),
  buffer: buffer(128),
  protect: z
    .number()
    .min(0)
    .max(1)
    .default(0)
    .describe('Share of the prompt, in pages, whose values get 2 bits: those that its last tokens look at most'),
  window: z.int().min(1).max(1024).default(32).describe('Last tokens of the prompt whose attention protects'),
});

/** By layer and KV head: channels with 2 bits, once they are settled. */
interface State {
  readonly wide: Record<string, readonly number[]>;
}

const RANGES: RangeSignal = { signal: 'ranges', of: 'k' };

/**
 * VidKV (arXiv 2503.16257, section 3): keys and values per channel, in groups of tokens.
 *   K  the channels of the widest range keep 2 bits, the others one; chosen once a sequence, layer and KV head, when the prompt
 *      is first encoded. The authors' code chooses anew at every flush, for all heads of a layer alike.
 *      The 1-bit codes are the mean of a group less and plus its mean deviation, for two parameters a group. The authors take
 *      signs of a Fourier transform across the channels, which is `normal=hadamard` here (real, so half the codes; needs a
 *      power of two of 1-bit channels): better than plain signs where channels share an offset, worse after RoPE.
 *   V  -1, 0 or 1 times the mean magnitude of what is not 0 (the authors compute a scale and do not use it)
 * What is held is 2 bits a ternary code, and parameters: 2.5 bits a value, 2.5 (mean) or 2.25 bits a key at 1.5 bits in groups
 * of 32. The first n - (n mod buffer) of n entries are encoded, each once.
 * `protect` stands for the authors' semantic protection, which needs an image: text has none, so the pages of the prompt count
 * that its last `window` tokens look at most, whole pages by their mean. Every view has page layouts of its own, of which a
 * cache can hold 8192: about 8192 / (layers * KV heads) sequences at once.
 */
export const vidkv = defineMethod({
  name: 'vidkv',
  title: 'VidKV',
  family: 'format',
  summary:
    'Stores keys in 1 or 2 bits by channel and values in three steps. Use it for long runs of tokens that change slowly, such as frames, or where memory counts most.',
  paper: {
    title: 'Plug-and-Play 1.x-Bit KV Cache Quantization for Video Large Language Models',
    date: '2025-03',
    arxiv: '2503.16257',
  },
  claim:
    'Almost no loss on six video benchmarks with keys in 1.5 bits and values in 1.58 (LLaVA-OneVision, Qwen2.5-VL).',
  options,
  traits: { stage: 'encode', prefixStable: false },
  traitsOf: ({ bitsK, protect }) => ({
    stage: 'encode',
    prefixStable: bitsK === 2 && protect === 0,
    ...(protect > 0 && { needsPrompt: true }),
  }),
  create({ bitsK, bitsV, normal, threshold, group, buffer, protect, window }, model) {
    const wide = Math.round((bitsK - 1) * model.headDim);
    checkTransform(normal, bitsK, model.headDim - wide);
    const two: ScalarFormat = scalar({ bits: 2, along: 'token', group });
    const v = bitsV === 2 ? two : scalar({ bits: 2, along: 'token', group, range: 'ternary', threshold });
    const attention: AttentionSignal = { signal: 'attention', rows: window, reduce: 'mean', group: 'mean' };
    const formatK = (channels: readonly number[] | undefined) =>
      bitsK === 2 ? two : mixed(channels!, normal, group, model.headDim);
    const state = (at: CacheLayer) => at.state<State>(() => ({ wide: {} }));

    const encode = (at: CacheLayer, saliency?: (head: number) => Float32Array): EncodeAction[] => {
      const known = state(at).wide;
      return Array.from({ length: model.kvHeads }, (_, head) => {
        const n = at.entries(head);
        const blocks = exactBlocks(at, head, 0, n - (n % buffer));
        if (blocks.length === 0) return [];
        const k = formatK(known[`${at.layer}.${head}`]);
        const common = { do: 'encode', layer: at.layer, head, k } as const;
        if (!saliency) return blocks.map(([from, to]) => ({ ...common, from, to, v }));
        return runs(blocks, protectedPages(blocks, saliency(head), protect)).map(({ from, to, chosen }) => ({
          ...common,
          ...{ from, to, v: chosen ? two : v },
        }));
      }).flat();
    };

    /** Channels are settled by the first prompt that something is encoded of, else by the last one before that. */
    const settle = (at: PromptLayer) => {
      const known = state(at).wide;
      const heads = Array.from({ length: model.kvHeads }, (_, head) => head);
      const encoded = heads.some(head => {
        const exact = at.exact(head).reduce((sum, [from, to]) => sum + to - from, 0);
        return exact < at.entries(head);
      });
      if (encoded && `${at.layer}.0` in known) return;
      for (const [head, ranges] of at.signal(RANGES).entries())
        known[`${at.layer}.${head}`] = widest(ranges, model.headDim, wide);
    };

    return {
      sense: () => [...(bitsK === 2 ? [] : [RANGES]), ...(protect > 0 && bitsV !== 2 ? [attention] : [])],
      decide(at) {
        if (bitsK !== 2) settle(at);
        return protect > 0 && bitsV !== 2 ? encode(at, head => at.signal(attention)[head]!) : encode(at);
      },
      filled: at => encode(at),
    };
  },
});

function scalar(...parts: ScalarPart[]): ScalarFormat {
  return { kind: 'scalar', parts };
}

/** Keys: `wide` channels in 2 bits, the others in one. */
function mixed(wide: readonly number[], normal: 'mean' | 'sign' | 'hadamard', group: number, d: number): ScalarFormat {
  const rest = Array.from({ length: d }, (_, c) => c).filter(c => !wide.includes(c));
  return scalar(
    { bits: 2, along: 'token', group, channels: wide },
    {
      bits: 1,
      along: 'token',
      group,
      channels: rest,
      range: normal === 'mean' ? 'deviation' : 'sign',
      ...(normal === 'hadamard' && { transform: 'hadamard' as const }),
    },
  );
}

/** Channels of the greatest max - min, ascending. `ranges`: minima, then maxima. */
function widest(ranges: Float32Array, headDim: number, count: number): number[] {
  const spread = Float32Array.from({ length: headDim }, (_, c) => ranges[headDim + c]! - ranges[c]!);
  return [...topK(spread, count)];
}

interface Run {
  readonly from: number;
  readonly to: number;
  readonly chosen: boolean;
}

/** Numbers of the pages of `blocks`, in order, that entries' mean saliency is greatest in. */
function protectedPages(blocks: readonly (readonly [number, number])[], saliency: Float32Array, share: number) {
  const means: number[] = [];
  for (const [from, to] of blocks)
    for (let page = from; page < to; page += PAGE_TOKENS)
      means.push(saliency.subarray(page, page + PAGE_TOKENS).reduce((sum, x) => sum + x, 0));
  return new Set(topK(Float32Array.from(means), Math.round(share * means.length)));
}

/** Blocks cut where pages that are chosen and pages that are not meet. */
function runs(blocks: readonly (readonly [number, number])[], chosen: ReadonlySet<number>): Run[] {
  const found: Run[] = [];
  let page = 0;
  for (const [from, to] of blocks) {
    for (let start = from; start < to; start += PAGE_TOKENS, page++) {
      const last = found.at(-1);
      const run = { from: start, to: start + PAGE_TOKENS, chosen: chosen.has(page) };
      if (last && last.to === start && last.chosen === run.chosen && start > from)
        found[found.length - 1] = { ...last, to: run.to };
      else found.push(run);
    }
  }
  return found;
}

function checkTransform(normal: string, bitsK: number, width: number): void {
  if (normal !== 'hadamard' || bitsK === 2 || (width & (width - 1)) === 0) return;
  throw new KvasirError('invalid_request', `vidkv: ${width} channels of 1 bit are no power of two.`, {
    field: 'normal',
    value: normal,
    allowed: 'mean or sign, or bitsK=1.5 where the head size is a power of two',
  });
}
