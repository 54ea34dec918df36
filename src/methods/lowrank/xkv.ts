import { z } from 'zod';
import { MAX_LATENT_RANK } from '../../cache/plane-check.ts';
import { KvasirError } from '../../errors.ts';
import { defineMethod } from '../define.ts';
import { floorPages } from '../format/due.ts';
import type { CacheLayer, JoinPlane } from '../types.ts';

const options = z.object({
  group: z
    .int()
    .min(1)
    .max(16)
    .default(4)
    .describe('Consecutive layers that share their rows; the last group may have fewer'),
  ratioK: z.number().gt(0).max(1).default(0.125).describe('Rank of keys as a share of the width of a group'),
  ratioV: z.number().gt(0).max(1).default(0.1875).describe('Rank of values as a share of the width of a group'),
  rankK: z.int().min(1).optional().describe('Rank of keys of a whole group, in the place of ratioK'),
  rankV: z.int().min(1).optional().describe('Rank of values of a whole group, in the place of ratioV'),
  bits: z.literal([16, 8, 4]).default(16).describe('Bits of an element of the shared rows'),
  always: z.boolean().default(false).describe('Compress prompts that are too short to gain by it, too'),
});

/** Ranks are multiples of this. */
const RANK_STEP = 8;

/**
 * xKV (arXiv 2503.18893, section 3): rows of all KV heads of `group` layers side by side, X [n, width], are kept as
 * C = X P [n, rank] with P the leading right singular vectors of X, once for keys before RoPE and once for values; each view
 * reads C times its own rows of P. P comes from X^T X (PrincipalSignal). Once a prompt, per sequence.
 * Whole pages of 64 are projected; the rest of the prompt, and what is decoded, stays exact. A later prompt's rows get a
 * basis of their own. Where n is not above (rK + rV) width / (2 width - (rK + rV) bits / 16), bases cost more than rows save
 * (in f16): then the group stays exact, unless `always` is set.
 */
export const xkv = defineMethod({
  name: 'xkv',
  title: 'xKV',
  family: 'lowrank',
  summary:
    'Groups of layers share low-rank rows, found from the prompt itself; each layer reads them through its own basis. Use it for long prompts: the bases must pay.',
  paper: {
    title: 'xKV: Cross-Layer SVD for KV-Cache Compression',
    date: '2025-03',
    arxiv: '2503.18893',
  },
  claim: 'Up to 8x smaller with accuracy kept on RULER (Llama-3.1-8B, Qwen2.5-14B).',
  options,
  traits: {
    stage: 'join',
    prefixStable: false,
    keysUnrotated: true,
    needsSame: 'all',
    needsExact: true,
    settlesLate: true,
    seals: true,
  },
  create({ group, ratioK, ratioV, rankK, rankV, bits, always }, model) {
    const lastOf = (layer: number) => Math.min(model.layers, layer - (layer % group) + group) - 1;
    const layerWidth = model.kvHeads * model.headDim;
    const rankOf = (layers: number, ratio: number, given: number | undefined) => {
      const rank = given === undefined ? ratio * layers * layerWidth : (given * layers) / group;
      return Math.min(layers * layerWidth, Math.ceil(rank / RANK_STEP - 1e-9) * RANK_STEP);
    };
    const widest = Math.min(group, model.layers) * layerWidth;
    checkWidth('rankK', rankK, widest);
    checkWidth('rankV', rankV, widest);
    checkRank(rankK === undefined ? 'ratioK' : 'rankK', rankOf(Math.min(group, model.layers), ratioK, rankK));
    checkRank(rankV === undefined ? 'ratioV' : 'rankV', rankOf(Math.min(group, model.layers), ratioV, rankV));
    return {
      pages: { keysUnrotated: true },
      settles: lastOf,
      decide(at) {
        if (!at.last || lastOf(at.layer) !== at.layer) return [];
        const first = at.layer - (at.layer % group);
        const layers = Array.from({ length: at.layer - first + 1 }, (_, i) => first + i);
        const views = layers.flatMap(layer => Array.from({ length: model.kvHeads }, (_, head) => ({ layer, head })));
        const exact = exactEntries(at);
        const entries = exact.subarray(0, floorPages(exact.length));
        const width = layers.length * layerWidth;
        const ranks = [rankOf(layers.length, ratioK, rankK), rankOf(layers.length, ratioV, rankV)] as const;
        const total = ranks[0] + ranks[1];
        const gains = entries.length * (2 * width - (total * bits) / 16) > total * width;
        if (entries.length === 0 || !(gains || always)) return [];
        const plane = (of: 'k' | 'v', rank: number): JoinPlane => ({
          kind: 'project',
          basis: at.signal({ signal: 'principal', of, layers, rank }),
          rank,
          bits,
          key: `xkv-${of}-${at.layer}-${at.seen}`,
        });
        return [
          {
            do: 'join',
            views,
            entries: views.map(() => entries),
            k: plane('k', ranks[0]),
            v: plane('v', ranks[1]),
          },
        ];
      },
    };
  },
});

/** A rank above the width is the rows themselves. */
function checkWidth(field: string, rank: number | undefined, width: number): void {
  if (rank === undefined || rank <= width) return;
  throw new KvasirError('invalid_request', `xkv: ${field} is above the width of a group of this model.`, {
    field,
    value: rank,
    allowed: `at most ${width}`,
  });
}

function checkRank(field: string, rank: number): void {
  if (rank <= MAX_LATENT_RANK) return;
  throw new KvasirError('invalid_request', `xkv: ${field} asks for rows of rank ${rank}.`, {
    field,
    value: rank,
    allowed: `a rank of at most ${MAX_LATENT_RANK}: take a smaller share or a smaller group`,
  });
}

/** The same in all views of the group: the recipe's rules see to it. */
function exactEntries(at: CacheLayer): Uint32Array {
  return Uint32Array.from(at.exact(0).flatMap(([from, to]) => Array.from({ length: to - from }, (_, i) => from + i)));
}
