import { z } from 'zod';
import { defineMethod } from '../define.ts';
import { accumulation } from '../shared/accumulated.ts';
import { topK } from '../shared/top-k.ts';
import type { AttentionSignal, CacheLayer, PerHead, PromptText } from '../types.ts';
import { movable, parkHeads, stretches } from './units.ts';

const options = z.object({
  block: z.int().min(1).max(1024).default(32).describe('Tokens of a block, parked and fetched as a whole'),
  blocks: z.int().min(1).default(46).describe('Blocks read at a layer, the mean over layers'),
  least: z.int().min(0).default(32).describe('Blocks read at any layer, at least'),
  most: z.int().min(1).default(92).describe('and at most'),
  history: z.int().min(1).default(100).describe('Choices whose entropy says how many blocks a layer gets'),
  representatives: z.int().min(1).default(4).describe('Tokens of a block whose mean key it is known by'),
  sinks: z.int().min(0).default(64).describe('First entries that stay'),
  local: z.int().min(1).default(512).describe('Entries at the end that stay'),
  window: z.int().min(64).default(256).describe('Tokens of a prompt that choose blocks together'),
  question: z
    .int()
    .min(1)
    .default(32)
    .describe('Last tokens of a prompt that ask; where it names its turns, the last one if it fits the window'),
  weight: z.number().min(0).default(4).describe('Weight of what asks beside a window of the prompt; 0: none'),
  distance: z.int().min(0).default(512).describe('Positions between query and blocks, as scores see them'),
  activation: z.boolean().default(true).describe('Queries of a window that stand out weigh more; else all weigh alike'),
  warmup: z.int().min(0).default(1000).describe('Windows before that, in which they weigh alike'),
  horizon: z.int().min(1).default(1000).describe('Windows that the statistics of queries remember'),
  resident: z
    .int()
    .min(0)
    .default(4096)
    .describe('Tokens fetched before that may stay in the arena unread; the least recently chosen blocks go'),
  place: z.enum(['memory', 'file']).default('memory').describe('Where blocks are parked'),
});

const sums: AttentionSignal = { signal: 'attention', rows: 'all', reduce: 'sum', group: 'sum' };

/**
 * ActQKV (arXiv 2502.13542, sections 3 and 4): the prompt is read in windows; blocks that leave the local window are parked and
 * known by the mean of those of their keys that had the most attention while they were local, without position. Each window
 * (and each step of decoding) reads sinks, local tokens and the blocks most like one probe query, in which tokens weigh the
 * more the farther their query lies from the queries so far. Layers whose scores are spread out get more blocks.
 * While a prompt is read, the question counts too, `weight` times: the mean query of the prompt's end (or last turn), run after
 * each window as if it came next and taken back, so that the first window goes without. The authors put it before the text and
 * take the mean of its most attended queries in each head. On the bundled model, with a tenth of 2,048 tokens read, 3 of 8 needles
 * were found with it and without. Blocks are attended at their true positions, where theirs all stand at
 * one distance, and known by the same tokens in all heads, where theirs are the most attended of each.
 */
export const actqkv = defineMethod({
  name: 'actqkv',
  title: 'ActQKV',
  family: 'retrieve',
  summary:
    'Reads a prompt in windows, parks blocks that leave the local window, and fetches those that are like the window’s most active queries. Use it for prompts longer than the arena, where nothing may be dropped.',
  paper: {
    title: 'Activation-aware Probe-Query: Effective Key-Value Retrieval for Long-Context LLMs Inference',
    date: '2025-02',
    arxiv: '2502.13542',
    venue: 'ACL Findings 2025',
  },
  claim: 'State of the art on LongBench and InfiniteBench at 2,048 tokens attended.',
  options,
  traits: { stage: 'retrieve', prefixStable: false, keysUnrotated: true, needsExact: true, needsPrompt: true },
  create(
    { block, blocks, least, most, history, representatives, sinks, local, distance, resident, place, weight, ...rest },
    model,
  ) {
    const attention = accumulation(false, 'local-');
    const { pages } = attention;
    const park = (at: CacheLayer, scores: PerHead) => {
      // All heads hold the same entries, and their blocks are known by the same tokens.
      const mean = scores[0]!.map((_, entry) => scores.reduce((sum, of) => sum + of[entry]!, 0));
      const units = stretches(movable(at, 0, sinks, local), block);
      const entries = units.map(unit => {
        const best = topK(
          Float32Array.from(unit, entry => mean[entry]!),
          Math.min(representatives, unit.length),
        );
        return Uint32Array.from(best, i => unit[i]!);
      });
      return parkHeads(
        at,
        () => units,
        { place },
        () => ({ kind: 'representatives', entries }),
      );
    };
    return {
      pages: { keysUnrotated: true, ...pages },
      chunk: rest.window,
      ...(weight > 0 && { probe: (at: PromptText) => questionOf(at, rest) }),
      sense: () => [sums],
      decide(at) {
        const { scores, actions } = attention.add(at, at.signal(sums), at.rows);
        return [...actions, ...park(at, scores)];
      },
      filled: at =>
        park(
          at,
          Array.from({ length: model.kvHeads }, (_, head) => at.column('local-score', head)),
        ),
      step: () => attention.step,
      retrieve: () => ({
        units: 'parked',
        score: { by: 'cosine', distance },
        per: 'layer',
        choose: { by: 'entropy', mean: blocks, least, most: Math.max(least, most), history },
        resident,
        prompt: rest.activation ? { horizon: rest.horizon, warmup: rest.warmup } : 'mean',
        question: weight,
      }),
    };
  },
});

/** Tokens that ask; none of a prompt that is read in one window, where there is no window left that they could choose for. */
function questionOf(
  { tokens, start, segments }: PromptText,
  { question, window }: { readonly question: number; readonly window: number },
): number[] | null {
  const end = tokens.length;
  if (end - start <= window) return null;
  const turns = segments.filter(({ kind }) => kind === 'turn');
  const turn = turns.length > 1 ? turns.at(-1)!.from : 0;
  const from = Math.max(start, end - turn <= window ? turn : end - question);
  return Array.from({ length: end - from }, (_, i) => tokens[from + i]!);
}
