import { z } from 'zod';
import { defineMethod } from '../define.ts';
import type { PromptLayer } from '../types.ts';
import { movable, PROMPT_WINDOW, parkHeads, stretches } from './units.ts';

const share = (standard: number, which: string) =>
  z.number().gt(0).max(1).default(standard).describe(`Share of the parked tokens that is read, ${which}`);
const size = (standard: number, which: string) =>
  z
    .int()
    .min(1)
    .max(1024)
    .default(standard)
    .describe(`Tokens of a chunk before it is split, ${which}; also how finely decoded tokens are parked`);

const options = z.object({
  size: size(32, 'in most layers'),
  share: share(0.2, 'in most layers'),
  early: z.int().min(0).default(2).describe('First layers, where attention is dense'),
  earlySize: size(8, 'in the early layers'),
  earlyShare: share(0.5, 'in the early layers'),
  most: z.int().min(1).default(400).describe('Tokens read at a step, at most'),
  halvings: z.int().min(0).max(6).default(3).describe('How often a chunk may be split in two'),
  sinks: z.int().min(0).default(4).describe('First entries that stay'),
  recent: z.int().min(0).default(64).describe('Entries at the end that stay'),
  place: z.enum(['memory', 'file']).default('file').describe('Where chunks are parked'),
  memory: z
    .number()
    .min(0)
    .max(1)
    .default(0.25)
    .describe('Share of a file that is also held in memory, what was used last: the tier in between'),
  resident: z
    .int()
    .min(0)
    .default(512)
    .describe('Tokens fetched before that may stay in the arena unread, a head; the least recently chosen go'),
});

/**
 * LeoAM (arXiv 2506.20187, section 4): all but sinks and recent tokens are parked in chunks, known by the least and greatest
 * value of each channel of their keys (the KV abstract). While decoding, chunks are ordered by the upper bound of q . k; the
 * best ones are split in two on the way, so that what is read adapts to where the important tokens lie, except where a lower
 * bound settles it. Bounds of halves lie beside the rows in the file, so that ranking reads no keys. A later prompt reads
 * likewise, a window of its rows at a time by the greatest bound for any of them: the authors have one prompt.
 * Three tiers: the arena, ordinary memory (`memory`), a file. The authors overlap their transfers with the computation of
 * other layers and compress them; here a step waits for what it reads.
 */
export const leoam = defineMethod({
  name: 'leoam',
  title: 'LeoAM',
  family: 'retrieve',
  summary:
    'Parks the prompt in a file in chunks and reads the tokens whose keys can matter, found by bounds in chunks that are split where it pays. Use it where context outgrows memory and the disk is fast.',
  paper: {
    title: 'Breaking the Boundaries of Long-Context LLM Inference: Adaptive KV Management on a Single Commodity GPU',
    date: '2025-06',
    arxiv: '2506.20187',
  },
  claim: 'Latency 3.46x lower on average than with offloading as it was, at comparable quality.',
  options,
  traits: { stage: 'retrieve', prefixStable: false, keysRotated: true, needsExact: true },
  create({ early, sinks, recent, place, memory, resident, most, ...rest }) {
    const sizeOf = (layer: number) => (layer < early ? rest.earlySize : rest.size);
    const halvingsOf = (layer: number) => Math.min(rest.halvings, Math.floor(Math.log2(sizeOf(layer))));
    const park = (at: Pick<PromptLayer, 'layer'> & Parameters<typeof parkHeads>[0]) =>
      parkHeads(
        at,
        head => stretches(movable(at, head, sinks, recent), sizeOf(at.layer)),
        { place, ...(place === 'file' && { memory }) },
        () => ({ kind: 'bounds', halvings: halvingsOf(at.layer) }),
      );
    return {
      decide: at => (at.last ? park(at) : []),
      filled: park,
      retrieve: layer => ({
        units: 'parked',
        score: { by: 'bounds' },
        per: 'head',
        choose: { by: 'halving', share: layer < early ? rest.earlyShare : rest.share, most },
        resident,
        prompt: { window: PROMPT_WINDOW },
      }),
    };
  },
});
