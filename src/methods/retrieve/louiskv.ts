import { z } from 'zod';
import { defineMethod } from '../define.ts';
import type { ClusterSignal, Clusters } from '../types.ts';
import { movable, PROMPT_WINDOW, parkHeads, stretches } from './units.ts';

const options = z.object({
  size: z
    .int()
    .min(1)
    .max(1024)
    .default(16)
    .describe('Mean tokens of a unit: a cluster of the prompt, a stretch of the answer'),
  rounds: z.int().min(1).max(16).default(4).describe('Rounds of k-means'),
  tau: z
    .number()
    .min(-1)
    .max(2)
    .default(0.7)
    .describe(
      'Units are selected anew where queries of two steps are less alike, a matter of the model: 0.7 is for Qwen3-8B, kvasir-mini needs 0.8',
    ),
  most: z.int().min(1).default(64).describe('and at least every so many steps'),
  budget: z.int().min(1).default(512).describe('Tokens of parked units that are read at a step'),
  sinks: z.int().min(0).default(4).describe('First entries that stay'),
  recent: z.int().min(0).default(64).describe('Entries at the end that stay: the buffer of new tokens'),
  place: z.enum(['memory', 'file']).default('memory').describe('Where units are parked'),
});

/**
 * LouisKV (arXiv 2510.11292, section 4): the prompt's keys are clustered and parked outside the arena, cluster by cluster;
 * sinks and recent tokens stay. While decoding, units are fetched by q . mean key up to `budget` tokens, and only where the
 * query has turned away from the last step's (cosine below tau). A later prompt fetches too, a window of its rows at a time:
 * the authors have one prompt.
 * Decoded tokens that leave the buffer are parked in stretches of `size`; the authors cut them where selections changed.
 */
export const louiskv = defineMethod({
  name: 'louiskv',
  title: 'LouisKV',
  family: 'retrieve',
  summary:
    'Parks the prompt outside the cache in clusters of like keys and fetches the clusters that a query needs, when its meaning changes. Use it where everything must stay reachable and the arena is small.',
  paper: {
    title: 'LouisKV: Efficient KV Cache Retrieval for Long Input-Output Sequences',
    date: '2025-10',
    arxiv: '2510.11292',
    venue: 'ICLR 2026',
  },
  claim: 'Up to 4.7x faster than page retrieval (Arkvale) at the same or better accuracy.',
  options,
  traits: { stage: 'retrieve', prefixStable: false, keysRotated: true, needsExact: true },
  create({ size, rounds, tau, most, budget, sinks, recent, place }) {
    const clusters: ClusterSignal = { signal: 'clusters', size, rounds, skipFirst: sinks, skipLast: recent };
    return {
      sense: () => [clusters],
      decide(at) {
        if (!at.last) return [];
        const found = at.signal(clusters);
        return parkHeads(at, head => members(found[head]!, movable(at, head, sinks, recent), sinks), { place });
      },
      filled: at => parkHeads(at, head => stretches(movable(at, head, sinks, recent), size), { place }),
      retrieve: () => ({
        units: 'parked',
        score: { by: 'mean' },
        per: 'head',
        choose: { by: 'tokens', tokens: budget },
        renew: { cosine: tau, most },
        prompt: { window: PROMPT_WINDOW },
      }),
    };
  },
});

/** Movable entries of each cluster that has any, ascending; `first` is the entry that takes part first. */
function members({ assignment, count }: Clusters, entries: Uint32Array, first: number): Uint32Array[] {
  const units = Array.from({ length: count }, (): number[] => []);
  for (const entry of entries) {
    const cluster = assignment[entry - first];
    if (cluster !== undefined) units[cluster]!.push(entry);
  }
  return units.filter(unit => unit.length > 0).map(unit => Uint32Array.from(unit));
}
