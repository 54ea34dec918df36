import { z } from 'zod';
import { MAX_JOINT_WIDTH, PAGE_TOKENS } from '../../../kernels/abi.ts';
import type { JointFormat, ScalarFormat, ScalarPart } from '../../cache/format.ts';
import { KvasirError } from '../../errors.ts';
import { channelOrder } from '../calibrate/rotatekv.ts';
import { defineMethod } from '../define.ts';
import { parseRotateProfile } from '../profiles.ts';
import { buffer } from '../shared/options.ts';
import type { Action, CacheLayer, HiddenPeakSignal, JoinAction, ModelShape } from '../types.ts';

const options = z.object({
  bits: z.literal([2, 3, 4]).default(2).describe('Bits of a code'),
  heads: z
    .literal([1, 2, 4, 8])
    .default(4)
    .describe('KV heads whose keys are rotated together; fewer where they do not divide those of the model'),
  group: z
    .literal([16, 32, 64, 128])
    .default(128)
    .describe('Channels of a token that share a scale and a minimum, or all there are'),
  clip: z
    .number()
    .gt(0)
    .max(1)
    .optional()
    .meta({ description: 'Share of a range that codes span, about its middle', default: '0.8 at 2 bits, else 1' }),
  peaks: z
    .int()
    .min(0)
    .max(1000)
    .default(20)
    .describe('So many of the greatest elements of the hidden rows of a prompt: tokens that own one stay exact'),
  buffer: buffer(PAGE_TOKENS),
});

/** By layer: positions of the tokens that stay exact. */
interface State {
  readonly exact: Record<number, number[]>;
}

/**
 * RotateKV (arXiv 2501.16383, section 4): keys before RoPE of `heads` KV heads side by side under one Hadamard transform,
 * values of each head under its own; a scale and a minimum a token and `group` channels, the range shrunk about its middle
 * (the authors shrink both ends towards 0). Keys' channels are stored in the order of their rotated means, which a
 * `rotatekv` profile knows, those of heads rotated together among themselves (the authors: those of all heads); without one
 * they keep their order. Tokens that own one of the greatest elements of the hidden rows that enter a layer stay exact there,
 * those of prompts only.
 * `heads` becomes the greatest power of two that divides the KV heads of the model and fits 1024 channels; the head size must
 * be a power of two. The authors encode every token when it comes; here a token waits until its page is full, and exact
 * entries come after the encoded ones in their view.
 */
export const rotatekv = defineMethod({
  name: 'rotatekv',
  title: 'RotateKV',
  family: 'format',
  summary:
    'Rotates keys and values so that no channel stands out, and stores them in 2 bits by token; tokens of massive activations stay exact. Use it where keys have outliers and groups should be large.',
  paper: {
    title: 'RotateKV: Accurate and Robust 2-Bit KV Cache Quantization for LLMs via Outlier-Aware Adaptive Rotations',
    date: '2025-01',
    arxiv: '2501.16383',
    venue: 'IJCAI 2025',
  },
  claim: 'Less than 0.3 perplexity lost at 2 bits on WikiText-2 (Llama-2-13B), at 3.97x less peak memory.',
  options,
  traits: {
    stage: 'encode',
    prefixStable: false,
    keysUnrotated: true,
    truePositions: true,
    reorders: true,
    needsPrompt: true,
    needsSame: 'heads',
  },
  traitsOf: ({ heads, peaks }) => ({
    stage: 'encode',
    prefixStable: peaks === 0,
    keysUnrotated: true,
    ...(peaks > 0 && { truePositions: true, reorders: true, needsPrompt: true }),
    ...(heads > 1 && { needsSame: 'heads' }),
  }),
  profile: 'rotatekv',
  profileOptional: true,
  create({ bits, heads, group, clip = bits === 2 ? 0.8 : 1, peaks, buffer }, model, given) {
    const profile = given === undefined ? null : parseRotateProfile(given, model);
    const together = headsTogether(heads, model);
    const part: ScalarPart = { bits, along: 'channel', ...(clip < 1 && { clip }) };
    const v = scalar(part, group, model.headDim);
    const keys = Array.from({ length: model.layers }, (_, layer) =>
      Array.from({ length: model.kvHeads / together }, (_, n) => {
        const width = together * model.headDim;
        if (width === model.headDim && width <= group) return v;
        const mean = profile && profile.layers[layer]!.mean.slice(n * width, (n + 1) * width);
        return joint(part, group, together, channelOrder(mean, width));
      }),
    );
    const signal: HiddenPeakSignal = { signal: 'hidden-peaks', count: Math.max(1, peaks) };
    const state = (at: CacheLayer) => at.state<State>(() => ({ exact: {} }));

    const encode = (at: CacheLayer): Action[] => {
      const { layer } = at;
      const apart = new Set(state(at).exact[layer] ?? []);
      const joins = keys[layer]!.flatMap((k, n): JoinAction[] => {
        const views = Array.from({ length: together }, (_, i) => ({ layer, head: n * together + i }));
        const entries = due(at, views[0]!.head, apart, buffer);
        if (entries.length === 0) return [];
        return [
          {
            do: 'join',
            views,
            entries: views.map(() => entries),
            k: { kind: 'own', format: k },
            v: { kind: 'own', format: v },
          },
        ];
      });
      if (joins.length === 0 || apart.size === 0) return joins;
      // Exact entries that stay lie scattered over the pages that the others have left.
      const all = Array.from({ length: model.kvHeads }, (_, head) =>
        Uint32Array.from({ length: at.entries(head) }, (_, i) => i),
      );
      return [...joins, { do: 'keep', layer, entries: all }];
    };

    return {
      pages: { keysUnrotated: true },
      ...(peaks > 0 && { sense: () => [signal] }),
      decide(at) {
        if (peaks > 0 && at.rows > 0) {
          const { exact } = state(at);
          exact[at.layer] = [...new Set([...(exact[at.layer] ?? []), ...at.signal(signal)])];
        }
        return encode(at);
      },
      filled: encode,
    };
  },
});

/** The first exact entries of a view but those that stay so, whole buffers of them. */
function due(at: CacheLayer, head: number, apart: ReadonlySet<number>, buffer: number): Uint32Array {
  const positions = at.positions(head);
  const free: number[] = [];
  for (const [from, to] of at.exact(head))
    for (let entry = from; entry < to; entry++) if (!apart.has(positions[entry]!)) free.push(entry);
  return Uint32Array.from(free.slice(0, free.length - (free.length % buffer)));
}

function scalar(part: ScalarPart, group: number, headDim: number): ScalarFormat {
  return { kind: 'scalar', parts: [{ ...part, group: Math.min(group, headDim), transform: 'hadamard' }] };
}

/** Channels in their order, a part for each group. */
function joint(part: ScalarPart, group: number, heads: number, order: readonly number[]): JointFormat {
  const width = Math.min(group, order.length);
  const parts = Array.from({ length: order.length / width }, (_, n) => ({
    ...part,
    channels: order.slice(n * width, (n + 1) * width).sort((a, b) => a - b),
  }));
  return { kind: 'joint', heads, parts };
}

function headsTogether(heads: number, { kvHeads, headDim }: ModelShape): number {
  if ((headDim & (headDim - 1)) !== 0) {
    throw new KvasirError('invalid_request', `rotatekv: heads of ${headDim} channels cannot be rotated.`, {
      field: 'model',
      value: `head size ${headDim}`,
      allowed: 'a model whose head size is a power of two',
    });
  }
  let together = heads;
  while (kvHeads % together !== 0 || together * headDim > MAX_JOINT_WIDTH) together /= 2;
  return together;
}
