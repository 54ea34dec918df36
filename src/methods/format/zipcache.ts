import { z } from 'zod';
import type { ScalarFormat } from '../../cache/format.ts';
import { defineMethod } from '../define.ts';
import { rowsOfShares } from '../row-shares.ts';
import { add, attention, column } from '../shared/expressions.ts';
import { buffer } from '../shared/options.ts';
import type {
  Action,
  AttentionSignal,
  CacheLayer,
  EncodeAction,
  PromptLayer,
  RangeSignal,
  StepRule,
} from '../types.ts';
import { exactEntries, lowest, magnitudes, nearestPages } from './token-classes.ts';

const options = z.object({
  regular: z.number().min(0).max(1).default(0.4).describe('Share of tokens that get few bits: those of least saliency'),
  bitsRegular: z.literal([1, 2, 3, 4, 8]).default(2).describe('Bits of a code of regular tokens'),
  bitsSalient: z.literal([2, 3, 4, 8]).default(4).describe('Bits of a code of salient tokens'),
  last: z.number().min(0).max(1).default(0.05).describe('Share of rows whose attention is looked at: the last ones'),
  sampled: z.number().min(0).max(1).default(0.05).describe('The same, drawn at random from the others'),
  buffer: buffer(128),
});

const RANGES: RangeSignal = { signal: 'ranges', of: 'v' };
/** Attention that the probe steps of decoding gave to entries that are still exact. */
const SALIENCY = 'zipcache-saliency';
/** Least factor of a channel: below it a half has fewer than 11 bits. */
const LEAST_FACTOR = 2 ** -14;

interface State {
  /** By layer and KV head. */
  readonly views: Record<string, { factors: Float32Array; encoded: number; regular: number }>;
  /** By layer: tokens seen when the prompt ended, and at which steps of a buffer decoding looks at attention. */
  readonly probes: Record<number, { readonly from: number; readonly steps: readonly number[] }>;
}

/**
 * ZipCache (arXiv 2405.14256, section 4): tokens of low saliency get 2 bits, the others 4; keys per channel, values per token
 * after each channel is divided by c = sqrt(max |v|).
 *   saliency  attention of probe rows (the last 5 % of the prompt and 5 % of the others), summed over the query heads of a KV
 *             head, divided by how many of these rows can see the token; a prompt under 20 rows is looked at whole. The
 *             authors' code divides by all rows that can, which favours late tokens
 *   K         a scale and a minimum a channel and page of 64 tokens of one class, where the authors share them over all
 *             tokens of the class: a page spans a narrower range, for 32 bits a channel and 64 tokens
 *   V         one group a token and KV head (the authors: all heads, whose lists of tokens differ); c is found from the first
 *             prompt that something is encoded of, and then stays
 * Entries wait until `buffer` of them are exact (the authors: 100, in decoding), are sorted into classes once, and are never
 * encoded again: the authors compress their whole cache anew each time. While decoding, the same shares of steps are probes.
 * Classes fill whole pages: the number of regular tokens is rounded to the nearest page of the sum so far.
 */
export const zipcache = defineMethod({
  name: 'zipcache',
  title: 'ZipCache',
  family: 'format',
  summary:
    'Stores tokens that few others look at in 2 bits and salient ones in 4, judged by the attention of a tenth of the rows. Use it for uneven prompts, where some tokens matter much more than others.',
  paper: {
    title: 'ZipCache: Accurate and Efficient KV Cache Quantization with Salient Token Identification',
    date: '2024-05',
    arxiv: '2405.14256',
    venue: 'NeurIPS 2024',
  },
  claim: '4.98x smaller cache on GSM8K with Mistral-7B for 0.38 % less accuracy.',
  options,
  traits: { stage: 'encode', prefixStable: false, reorders: 'heads', needsPrompt: true, truePositions: true },
  create({ regular, bitsRegular, bitsSalient, last, sampled, buffer }, model) {
    const saliency: AttentionSignal = {
      signal: 'attention',
      rows: { last, sampled },
      reduce: 'seen-mean',
      group: 'sum',
    };
    const format = (bits: typeof bitsRegular | typeof bitsSalient, of: 'k' | 'v'): ScalarFormat => ({
      kind: 'scalar',
      parts: [{ bits, along: of === 'k' ? 'token' : 'channel', ...(of === 'v' && { side: true }) }],
    });
    const state = (at: CacheLayer) => at.state<State>(() => ({ views: {}, probes: {} }));

    const encode = (at: CacheLayer, score: (head: number) => (entry: number) => number): EncodeAction[] =>
      Array.from({ length: model.kvHeads }, (_, head): EncodeAction[] => {
        const exact = exactEntries(at, head);
        const due = exact.slice(0, exact.length - (exact.length % buffer));
        if (due.length === 0) return [];
        const view = state(at).views[`${at.layer}.${head}`]!;
        view.encoded += due.length;
        const few = Math.max(0, Math.min(due.length, nearestPages(regular * view.encoded) - view.regular));
        view.regular += few;
        const { low, high } = lowest(due, score(head), few);
        const sharedV = { key: `zipcache-${at.layer}-${head}`, values: view.factors };
        const common = { do: 'encode', layer: at.layer, head, sharedV, without: [SALIENCY] } as const;
        return [
          { ...common, entries: low, k: format(bitsRegular, 'k'), v: format(bitsRegular, 'v') },
          { ...common, entries: high, k: format(bitsSalient, 'k'), v: format(bitsSalient, 'v') },
        ];
      }).flat();

    /** Factors of channels, while nothing has been encoded by them. */
    const settle = (at: PromptLayer) => {
      const { views } = state(at);
      const due = Array.from({ length: model.kvHeads }, (_, head) => `${at.layer}.${head}`).filter(
        key => (views[key]?.encoded ?? 0) === 0,
      );
      if (due.length === 0) return;
      const ranges = at.signal(RANGES);
      for (const key of due)
        views[key] = { factors: channelFactors(ranges[Number(key.split('.')[1])]!), encoded: 0, regular: 0 };
    };

    /** Which steps of decoding are probes: of the first head's next buffer, and so on. */
    const plan = (at: PromptLayer): Action[] => {
      const { probes } = state(at);
      const first = probes[at.layer] === undefined;
      const full = at.seen + buffer - (exactEntries(at, 0).length % buffer);
      const rows = rowsOfShares({ last, sampled }, buffer, Math.floor(at.random()() * 2 ** 32));
      probes[at.layer] = { from: at.seen, steps: Array.from(rows, row => (full - buffer + 1 + row) % buffer) };
      if (first) return [];
      // What earlier steps gave to entries that are still exact does not count: the prompt has judged them anew.
      const values = Array.from({ length: model.kvHeads }, (_, head) => new Float32Array(at.entries(head)));
      return [{ do: 'column', layer: at.layer, name: SALIENCY, values }];
    };

    return {
      pages: { columns: [SALIENCY] },
      sense: () => [saliency, RANGES],
      decide(at) {
        if (at.rows === 0) return [];
        settle(at);
        const scores = at.signal(saliency);
        return [...plan(at), ...encode(at, head => entry => scores[head]![entry]!)];
      },
      step: (layer, at): StepRule => ({
        columns: [{ name: SALIENCY, value: add(column(SALIENCY), attention('sum')) }],
        within: { period: buffer, steps: state(at).probes[layer]?.steps ?? [] },
      }),
      filled(at) {
        const { from, steps } = state(at).probes[at.layer]!;
        return encode(at, head => {
          const sums = at.column(SALIENCY, head);
          const positions = at.positions(head);
          const seen = probesAfter(from, at.seen, buffer, new Set(steps));
          return entry => {
            const probes = seen(positions[entry]!);
            // Nobody has judged the newest: they stay as good as they can.
            return probes > 0 ? sums[entry]! / probes : Number.POSITIVE_INFINITY;
          };
        });
      },
    };
  },
});

/** c = sqrt(max |v|) of each channel, 1 where there is nothing to divide. */
export function channelFactors(ranges: Float32Array): Float32Array {
  return magnitudes(ranges).map(most => {
    const factor = Math.sqrt(most);
    return factor >= LEAST_FACTOR ? Math.min(factor, 65504) : 1;
  });
}

/**
 * How many of the probe steps so far have seen the token at a position: step s (tokens seen, the newest included) runs the
 * token at s - 1.
 */
function probesAfter(
  from: number,
  seen: number,
  period: number,
  steps: ReadonlySet<number>,
): (position: number) => number {
  /** [s - from]: probes after step s. */
  const after = new Uint32Array(seen - from + 1);
  for (let s = seen; s > from; s--) after[s - 1 - from] = after[s - from]! + (steps.has(s % period) ? 1 : 0);
  return position => after[Math.min(Math.max(position, from) - from, seen - from)]!;
}
