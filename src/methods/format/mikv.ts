import { z } from 'zod';
import type { ScalarFormat } from '../../cache/format.ts';
import { defineMethod } from '../define.ts';
import { accumulation } from '../shared/accumulated.ts';
import { keepAll } from '../shared/keep.ts';
import type { Action, AttentionSignal, CacheLayer, EncodeAction, PromptLayer, RangeSignal } from '../types.ts';
import { floorPages } from './due.ts';
import { exactEntries, lowest, magnitudes } from './token-classes.ts';

const options = z.object({
  important: z.number().min(0).max(1).default(0.2).describe('Share of tokens that stay important'),
  recent: z.number().min(0).max(1).default(0.5).describe('Share of the important ones that goes to the last tokens'),
  bitsImportant: z.literal([4, 8, 16]).default(16).describe('Bits of important tokens; 16: exact, as they came'),
  bitsRetained: z.literal([2, 3, 4]).default(2).describe('Bits of a code of the others'),
  balancer: z.boolean().default(true).describe('Balance channels of keys against those of queries'),
});

const columnSums: AttentionSignal = { signal: 'attention', rows: 'all', reduce: 'sum', group: 'mean' };
const QUERIES: RangeSignal = { signal: 'ranges', of: 'q' };
const KEYS: RangeSignal = { signal: 'ranges', of: 'k' };
/** Bounds of the balancer. */
const [LEAST, GREATEST] = [1e-4, 1e4];
/** A score above 0 tells important entries that are encoded from retained ones, which have none. */
const SOME = 1e-30;

/** By layer and KV head. */
interface State {
  readonly views: Record<string, { factors: Float32Array; used: boolean }>;
}

/**
 * MiKV (arXiv 2402.18096): what H2O would evict stays, in few bits. Of n entries floor(important * n) stay important, a share
 * `recent` of them the last ones, the others those with the most attention so far (H2O's sum over all rows, which decoding
 * goes on with); the rest is retained: quantized per token, in groups of half a head, so that the two halves of a rotary pair
 * have ranges of their own. Entries are demoted, never promoted.
 *   balancer  keys are stored times b = sqrt(max |q| / max |k|) of their channel, from the first prompt that something is
 *             encoded of (queries of all heads of the group, after RoPE); b lies in 1e-4..1e4, and is 1 where either is zero
 * Entries are demoted in whole pages, when a page fills while decoding; those that wait for a full page count as recent.
 * Important tokens of 8 or 4 bits are quantized in the same way, in whole pages, and demoted from there, which rounds them
 * twice; pages that lose some of them are packed anew, which changes no value.
 */
export const mikv = defineMethod({
  name: 'mikv',
  title: 'MiKV',
  family: 'format',
  summary:
    'Keeps heavy hitters and recent tokens exact and all others in 2 bits instead of evicting them. Use it where H2O would lose a detail that is asked for later.',
  paper: {
    title: 'No Token Left Behind: Reliable KV Cache Compression via Importance-Aware Mixed Precision Quantization',
    date: '2024-02',
    arxiv: '2402.18096',
  },
  claim: 'A better trade of memory and quality than eviction and than one precision for all tokens.',
  options,
  traits: { stage: 'encode', prefixStable: false, reorders: 'heads', needsPrompt: true, keysRotated: true },
  create({ important, recent, bitsImportant, bitsRetained, balancer }, model) {
    if (important === 1 && bitsImportant === 16) return {};
    const sums = accumulation(false, 'mikv-');
    const [score] = sums.pages.columns!;
    const group = model.headDim / 2;
    const format = (bits: 2 | 3 | 4 | 8, side: boolean): ScalarFormat => ({
      kind: 'scalar',
      parts: [{ bits, along: 'channel', group, ...(side && { side }) }],
    });
    const retained = planes(format(bitsRetained, balancer), format(bitsRetained, false));
    const kept = bitsImportant === 16 ? null : planes(format(bitsImportant, balancer), format(bitsImportant, false));
    const state = (at: CacheLayer) => at.state<State>(() => ({ views: {} }));
    const heads = Array.from({ length: model.kvHeads }, (_, head) => head);

    /** Factors of channels, while nothing has been encoded by them. */
    const settle = (at: PromptLayer) => {
      const { views } = state(at);
      const due = balancer ? heads.filter(head => !views[`${at.layer}.${head}`]?.used) : [];
      if (due.length === 0) return;
      const [queries, keys] = [at.signal(QUERIES), at.signal(KEYS)];
      for (const head of due)
        views[`${at.layer}.${head}`] = { factors: keyFactors(queries[head]!, keys[head]!), used: false };
    };

    const encode = (at: CacheLayer, scores: readonly Float32Array[]): Action[] => {
      let holes = false;
      const actions = heads.flatMap((head): EncodeAction[] => {
        const exact = exactEntries(at, head);
        const candidates = kept ? importantEntries(at, head, exact) : exact;
        const limit = Math.floor(important * at.entries(head) + 1e-9);
        const down = floorPages(Math.max(0, candidates.length - limit));
        const heavy = Math.min(limit - Math.floor(limit * recent + 1e-9), candidates.length - down);
        const { low } = lowest(candidates.slice(0, down + heavy), entry => scores[head]![entry]!, down);
        const encoded: EncodeAction[] = [];
        const common = { do: 'encode', layer: at.layer, head, ...(kept && { again: true }) } as const;
        if (low.length > 0) encoded.push({ ...common, entries: low, ...retained, without: sums.pages.columns! });
        if (kept) {
          const gone = new Set(low);
          const stay = candidates.filter(entry => !gone.has(entry));
          const full = stay.slice(0, floorPages(stay.length));
          // Pages that nothing has left and nothing joins stay as they are.
          const waiting = new Set(exact);
          if (low.length > 0 || full.some(entry => waiting.has(entry)))
            encoded.push({ ...common, entries: Uint32Array.from(full), ...kept });
        }
        holes ||= low.length > 0;
        if (encoded.length === 0 || !balancer) return encoded;
        const view = state(at).views[`${at.layer}.${head}`]!;
        view.used = true;
        const sharedK = { key: `mikv-${at.layer}-${head}`, values: view.factors };
        return encoded.map(action => ({ ...action, sharedK }));
      });
      if (!holes) return actions;
      // What stays exact lies scattered over pages that the others have left.
      return [...actions, keepAll(at)];
    };

    /** Exact entries and those that are encoded as important ones, ascending. */
    function importantEntries(at: CacheLayer, head: number, exact: readonly number[]): number[] {
      const some = at.column(score!, head);
      const waiting = new Set(exact);
      return Array.from({ length: at.entries(head) }, (_, entry) => entry).filter(
        entry => waiting.has(entry) || some[entry]! > 0,
      );
    }

    return {
      pages: sums.pages,
      sense: () => (balancer ? [columnSums, QUERIES, KEYS] : [columnSums]),
      decide(at) {
        if (at.rows === 0) return [];
        settle(at);
        const { scores, actions } = sums.add(at, at.signal(columnSums), at.rows);
        for (const { values } of actions) for (const column of values) raise(column);
        return [...actions, ...encode(at, scores)];
      },
      step: () => ({ ...sums.step }),
      filled: at =>
        encode(
          at,
          heads.map(head => at.column(score!, head)),
        ),
    };
  },
});

function planes(k: ScalarFormat, v: ScalarFormat): { readonly k: ScalarFormat; readonly v: ScalarFormat } {
  return { k, v };
}

/** Scores of at least SOME, in place. */
function raise(scores: Float32Array): void {
  for (let i = 0; i < scores.length; i++) scores[i] = Math.max(SOME, scores[i]!);
}

/** 1 / b, b = sqrt(max |q| / max |k|) of each channel: what stored keys are multiplied by on read. */
export function keyFactors(queries: Float32Array, keys: Float32Array): Float32Array {
  const most = magnitudes(keys);
  return magnitudes(queries).map((q, c) => {
    const k = most[c]!;
    return q > 0 && k > 0 ? Math.min(GREATEST, Math.max(LEAST, Math.sqrt(k / q))) : 1;
  });
}
