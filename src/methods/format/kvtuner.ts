import { z } from 'zod';
import { PAGE_TOKENS } from '../../../kernels/abi.ts';
import type { ScalarBits, ScalarFormat } from '../../cache/format.ts';
import { KvasirError } from '../../errors.ts';
import { defineMethod } from '../define.ts';
import { wholePages } from '../shared/options.ts';
import type { CacheLayer, EncodeAction, ModelShape } from '../types.ts';
import { channelGroup, floorPages } from './due.ts';
import { encodeDue } from './tails.ts';

/** Bits of keys and of values of one layer; 16: exact. */
export interface Pair {
  readonly k: 2 | 3 | 4 | 8 | 16;
  readonly v: 2 | 3 | 4 | 8 | 16;
}

const PAIR = /^k(2|3|4|8|16)v(2|3|4|8|16)(?:\*([1-9]\d{0,3}))?$/;

/** What stores a plane of a layer in so many bits. */
export const BASES = ['kivi', 'page', 'token'] as const;
export type Base = (typeof BASES)[number];

const options = z.object({
  pairs: z
    .string()
    .refine(text => parsePairs(text) !== null, {
      error: 'pairs such as k8v4, one for all layers or one a layer, parted by blanks: "k8v4*2 k4v2*8"',
    })
    .default('k8v4')
    .describe(
      'Bits of keys and values: 2, 3, 4, 8 or 16 (exact); one pair for all layers or one a layer: "k8v4*2 k4v2*8"',
    ),
  base: z
    .enum(BASES)
    .default('kivi')
    .describe(
      'kivi: keys along channels, values along tokens, groups of 32; page: the same with groups of a page and of a head; token: both along tokens, a group a head',
    ),
  residual: wholePages(64, 'Entries at the end that stay exact, base=kivi; the others keep the growing page alone'),
  model: z
    .string()
    .regex(/^[0-9a-f]{8,64}$/, { error: 'the first 8 to 64 hex digits of a fingerprint' })
    .optional()
    .describe('Fingerprint of the model that the pairs were found for, as far as it goes; another model is refused'),
});

/**
 * KVTuner (arXiv 2502.04420, section 5): every layer has its own widths of keys and values, found beforehand; nothing is decided
 * while running. `kvasir tune` finds them. The base quantizers are KIVI's (section 3 of its paper; the authors keep 32 entries
 * exact, a page has 64) and one asymmetric group a token and head; minima are real-valued, not the authors' integer zero points;
 * 3 bits and base=page, whose parameters take half of KIVI's bytes, are not the authors'.
 */
export const kvtuner = defineMethod({
  name: 'kvtuner',
  title: 'KVTuner',
  family: 'format',
  summary:
    'Stores keys and values of each layer in widths of their own, keys mostly in more bits than values. Use it with what `kvasir tune` finds for your model.',
  paper: {
    title:
      'KVTuner: Sensitivity-Aware Layer-Wise Mixed-Precision KV Cache Quantization for Efficient and Nearly Lossless LLM Inference',
    date: '2025-02',
    arxiv: '2502.04420',
    venue: 'ICML 2025',
  },
  claim:
    'Nearly lossless at 3.25 bits on Llama-3.1-8B-Instruct and 4.0 bits on Qwen2.5-7B-Instruct, in mathematical reasoning.',
  options,
  traits: { stage: 'encode', prefixStable: true },
  create({ pairs, base, residual, model: tuned }, model) {
    if (tuned !== undefined && !model.fingerprint.startsWith(tuned))
      throw new KvasirError('invalid_request', 'kvtuner: these pairs were found for another model.', {
        field: 'model',
        value: tuned,
        allowed: `this model, ${model.fingerprint.slice(0, 16)}: kvasir tune finds its pairs`,
      });
    const layers = pairsOf(pairs, model);
    const formats = layers.map(pair => formatsOf(pair, base, model));
    const due =
      base === 'kivi'
        ? (n: number) => ({ k: n - (n % residual), v: floorPages(Math.max(0, n - residual)) })
        : (n: number) => ({ k: floorPages(n), v: floorPages(n) });
    const encode = (at: CacheLayer): EncodeAction[] => encodeDue(at, formats[at.layer]!, due);
    return layers.every(({ k, v }) => k === 16 && v === 16) ? {} : { decide: encode, filled: encode };
  },
});

function formatsOf({ k, v }: Pair, base: Base, { headDim }: ModelShape): { k?: ScalarFormat; v?: ScalarFormat } {
  const scalar = (bits: ScalarBits, along: 'token' | 'channel', group: number): ScalarFormat => ({
    kind: 'scalar',
    parts: [{ bits, along, group }],
  });
  const group = base === 'kivi' ? channelGroup('kvtuner', 32, headDim) : headDim;
  return {
    ...(k !== 16 && {
      k: base === 'token' ? scalar(k, 'channel', group) : scalar(k, 'token', base === 'kivi' ? 32 : PAGE_TOKENS),
    }),
    ...(v !== 16 && { v: scalar(v, 'channel', group) }),
  };
}

/** The pairs of a text, repeats written out; null where it is none. */
export function parsePairs(text: string): Pair[] | null {
  const matches = text
    .trim()
    .split(/\s+/)
    .map(part => PAIR.exec(part));
  if (matches.some(match => match === null)) return null;
  return matches.flatMap(match => {
    const [, k, v, times = '1'] = match!;
    return Array.from({ length: Number(times) }, () => ({ k: Number(k), v: Number(v) }) as Pair);
  });
}

/** The shortest text of pairs, one a layer. */
export function formatPairs(pairs: readonly Pair[]): string {
  const runs: { text: string; times: number }[] = [];
  for (const { k, v } of pairs) {
    const text = `k${k}v${v}`;
    if (runs.at(-1)?.text === text) runs.at(-1)!.times++;
    else runs.push({ text, times: 1 });
  }
  if (runs.length === 1) return runs[0]!.text;
  return runs.map(({ text, times }) => (times === 1 ? text : `${text}*${times}`)).join(' ');
}

/** One pair a layer of the model. */
function pairsOf(text: string, { layers }: ModelShape): Pair[] {
  const pairs = parsePairs(text)!;
  if (pairs.length === 1) return Array.from({ length: layers }, () => pairs[0]!);
  if (pairs.length === layers) return pairs;
  throw new KvasirError('invalid_request', `kvtuner: ${pairs.length} pairs do not fit a model of ${layers} layers.`, {
    field: 'pairs',
    value: text,
    allowed: `one pair, or ${layers}`,
  });
}
