import { z } from 'zod';
import { defineMethod } from '../define.ts';
import { parseEpicacheProfile } from '../profiles.ts';
import { keepsAll, tokensKept } from '../shared/budget.ts';
import { layerBudgets } from '../shared/layer-budgets.ts';
import { withBudget } from '../shared/options.ts';
import { topK } from '../shared/top-k.ts';
import type { AttentionSignal, CacheLayer, PerHead, PromptLayer, PromptText } from '../types.ts';
import { episodesOf, evenPassages, INSTRUCTION, probeOf, type Range, route, spoken } from './episodes.ts';

/** The most that a row of the probe gives to an entry, over rows and the query heads of a group. */
const score: AttentionSignal = { signal: 'attention', from: 'probe', rows: 'all', reduce: 'max', group: 'max' };

interface State {
  /** Entries from this position on are the question's. */
  question: number;
  /** Tokens of the whole prompt. */
  total: number;
}

interface Plan {
  readonly passages: readonly Range[];
  readonly question: number;
}

/**
 * EpiCache (arXiv 2509.17396, section 3): a conversation is cut into passages, these into episodes by topic (k-means of mean
 * input embeddings, one of three embeddings in the public code). The prompt is read block by block; after each block a probe,
 * an instruction and the passages in the middle of one episode, is run without being kept, and what it looks at stays: the best
 * entries of a layer, all heads together. Old survivors and the new block compete, so that no layer ever holds more than its
 * budget and a block. The episode is the one that the question, the end of the prompt, is nearest to, or `episode`: one cache
 * each for a conversation (engine/episodes.ts). Layers have budgets by how much their keys change when distant text is masked,
 * from a profile where there is one; the public code does not restore their sum after its floor of a quarter, here it is exact.
 * Also unlike the code: the first `sinks` and the question stay, and the probe begins at the position that comes next.
 */
export const epicache = defineMethod({
  name: 'epicache',
  title: 'EpiCache',
  family: 'keep',
  summary:
    'Reads a long conversation block by block in a bounded cache and keeps what belongs to the topic that is asked about. Use it where the history is longer than the memory there is.',
  paper: {
    title: 'EpiCache: Episodic KV Cache Management for Long Conversational Question Answering',
    date: '2025-09',
    arxiv: '2509.17396',
  },
  claim: 'Up to 40 % more accuracy than recent baselines and near the full cache at 4 to 6 times less memory.',
  options: withBudget(
    { budget: 2048 },
    {
      block: z.int().min(64).default(2048).describe('Tokens that are read before some are dropped'),
      episodes: z.int().min(1).max(64).default(4).describe('Topics that the conversation is cut into'),
      nearest: z.int().min(1).default(8).describe('Passages of the probe: those nearest to the middle of the episode'),
      utterances: z.int().min(1).default(4).describe('Turns of a passage, where the prompt says which turns it has'),
      segment: z.int().min(4).default(64).describe('Tokens of a passage in other prompts'),
      question: z
        .int()
        .min(1)
        .default(32)
        .describe('Last tokens of other prompts: as a last turn does, they choose the episode, and always stay'),
      episode: z
        .int()
        .min(0)
        .optional()
        .describe('Keep what belongs to this episode, whatever the end of the prompt says; then all of it is history'),
      sinks: z.int().min(0).default(4).describe('First tokens that always stay; none in the public code'),
      per: z
        .enum(['layer', 'head'])
        .default('layer')
        .describe('layer: its heads share one budget, best entries first; head: each keeps as many'),
      alpha: z.number().min(0).default(1.1).describe('How much more sensitive layers keep; 0: all the same'),
    },
  ),
  traits: { stage: 'keep', prefixStable: false, ragged: 'both', truePositions: true },
  profile: 'epicache',
  profileOptional: true,
  create(options, model, given) {
    if (keepsAll(options)) return {};
    const profile = given === undefined || given === null ? null : parseEpicacheProfile(given, model);
    const weights = sensitivity(
      profile?.layers.map(layer => layer.similarity) ?? model.layerWindow.map(() => 0),
      options.alpha,
    );
    const state = (at: CacheLayer | PromptText) =>
      at.state((): State => ({ question: Number.POSITIVE_INFINITY, total: 0 }));
    const plan = ({ tokens, segments }: PromptText): Plan => {
      const turns = segments.filter(({ kind }) => kind === 'turn');
      const asks = turns.length > 1 ? turns.at(-1)!.from : Math.max(0, tokens.length - options.question);
      const question = options.episode === undefined ? asks : tokens.length;
      const said = turns.filter(({ from }) => from < question);
      const passages = turns.length > 1 ? spoken(said, options.utterances) : evenPassages(question, options.segment);
      return { passages, question };
    };
    return {
      chunk: options.block,
      passages(at) {
        const { passages, question } = plan(at);
        return question < at.tokens.length ? [...passages, [question, at.tokens.length]] : passages;
      },
      probe(at, embeddings) {
        const { passages, question } = plan(at);
        Object.assign(state(at), { question, total: at.tokens.length } satisfies State);
        if (passages.length === 0) return null;
        const episodes = episodesOf(embeddings.slice(0, passages.length), options.episodes);
        const last = episodes.centroids.length - 1;
        const episode = Math.min(last, options.episode ?? route(episodes, embeddings.at(-1)!));
        return probeOf(episodes, episode, options.nearest, passages, at.tokens, at.tokenize(INSTRUCTION));
      },
      sense: () => [score],
      decide(at) {
        const { question, total } = state(at);
        const budget = layerBudgets(weights, tokensKept(options, { seen: Math.max(total, at.seen) }), 0.25)[at.layer]!;
        const heads = Array.from({ length: model.kvHeads }, (_, head) => at.entries(head));
        const over = options.per === 'head' ? Math.max(...heads) > budget : sum(heads) > budget * model.kvHeads;
        if (!over || question === 0) return [];
        const scores = at.signal(score).map((values, head) => protect(at, head, values, options.sinks, question));
        const entries = options.per === 'head' ? scores.map(s => best([s], budget)[0]!) : best(scores, budget);
        return [{ do: 'keep', layer: at.layer, entries }];
      },
    };
  },
});

/** Weights of layers: (1 - similarity)^alpha, similarities stretched to lie between 0 and 1. */
export function sensitivity(similarity: readonly number[], alpha: number): number[] {
  const least = Math.min(...similarity);
  const range = Math.max(...similarity) - least;
  return similarity.map(s => (range > 0 ? (1 - (s - least) / range) ** alpha : 1));
}

/** Sinks and the question are above all others; so is the newest entry, so that no head is ever empty. */
function protect(at: PromptLayer, head: number, values: Float32Array, sinks: number, question: number): Float32Array {
  const positions = at.positions(head);
  const stays = (i: number) => positions[i]! < sinks || positions[i]! >= question || i === values.length - 1;
  return values.map((value, i) => (stays(i) ? Number.POSITIVE_INFINITY : value));
}

/** The best `budget` entries a head, of all heads together; never fewer than are protected. */
function best(scores: PerHead, budget: number): Uint32Array[] {
  const all = new Float32Array(sum(scores.map(({ length }) => length)));
  const starts: number[] = [];
  let at = 0;
  for (const head of scores) {
    starts.push(at);
    all.set(head, at);
    at += head.length;
  }
  const safe = all.reduce((count, value) => (value === Number.POSITIVE_INFINITY ? count + 1 : count), 0);
  const kept = topK(all, Math.max(safe, budget * scores.length));
  return scores.map(({ length }, head) => {
    const from = starts[head]!;
    return kept.filter(i => i >= from && i < from + length).map(i => i - from);
  });
}

function sum(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0);
}
