import { z } from 'zod';
import { defineMethod } from '../define.ts';
import type { AttentionSignal, MergeAction, PromptLayer, SimilaritySignal } from '../types.ts';
import { mergingSets, type Run } from './runs.ts';

const options = z.object({
  epsilon: z.number().min(-1).max(1).default(0.75).describe('Neighbouring keys of a greater cosine are merged'),
  keep: z
    .number()
    .gt(0)
    .max(1)
    .optional()
    .describe(
      'Share of entries that stay; in the place of epsilon, the most alike neighbours are merged until so many are left',
    ),
  recent: z.number().min(0).max(1).default(0.17).describe('Share of entries at the end that are never merged'),
  heavy: z.number().min(0).max(1).default(0.12).describe('Share of entries of most attention that are never merged'),
  skipFirst: z.int().min(0).default(2).describe('First layers that are left alone'),
  skipLast: z.int().min(0).default(1).describe('Last layers that are left alone'),
  mass: z
    .enum(['none', 'bias', 'values'])
    .default('none')
    .describe('What makes up for n entries being one: nothing, ln n on its score, or values times n (as in the paper)'),
});

const cosine: SimilaritySignal = { signal: 'neighbour-cosine', of: 'k' };
const attention: AttentionSignal = { signal: 'attention', rows: 'all', reduce: 'sum', group: 'sum' };

/**
 * KVMerger (arXiv 2407.08454, section 4): runs of neighbouring keys that are alike become one entry each at the place of
 * their most attended member p, with weights g_i / sum g, g_i = exp(-|k_p - k_i|^2 / (2 s^2)). The paper's s depends on the
 * weights; here s^2 is the mean squared distance of the run. Recent and most attended entries are left alone.
 * Only entries of the prompt (chunk) that has just run are merged: tokens decoded before stay as they are.
 */
export const kvmerger = defineMethod({
  name: 'kvmerger',
  title: 'KVMerger',
  family: 'merge',
  summary:
    'Merges neighbouring tokens whose keys are alike into one entry each, weighted by how near they are to the most attended. Use it in the place of eviction where each token counts a little.',
  paper: {
    title: 'Model Tells You Where to Merge: Adaptive KV Cache Merging for LLMs on Long-Context Tasks',
    date: '2024-07',
    arxiv: '2407.08454',
  },
  claim: 'Better than evicting by attention (H2O) at half and at a third of the cache on LongBench.',
  options,
  traits: {
    stage: 'merge',
    prefixStable: false,
    ragged: 'both',
    keysRotated: true,
    needsExact: true,
    needsPrompt: true,
  },
  create(given, model) {
    const skipped = (layer: number) => layer < given.skipFirst || layer >= model.layers - given.skipLast;
    return {
      ...(given.mass === 'bias' && { pages: { columns: ['bias'] } }),
      sense: layer => (skipped(layer) ? [] : [cosine, attention]),
      decide(at) {
        const before = at.state(() => ({ seen: Array.from({ length: model.layers }, () => 0) }));
        const since = before.seen[at.layer]!;
        before.seen[at.layer] = at.seen;
        if (skipped(at.layer)) return [];
        const cosines = at.signal(cosine);
        const sums = at.signal(attention);
        const sets = cosines.map((c, head) => mergingSets(at, head, c, sums[head]!, { ...given, since }));
        return mergeActions(at, sets, given.mass);
      },
    };
  },
});

function mergeActions(at: PromptLayer, sets: readonly Run[][], mass: 'none' | 'bias' | 'values'): MergeAction[] {
  const pairs = sets.map(runs =>
    Uint32Array.from(
      runs.flatMap(({ from, to, pivot }) => Array.from({ length: to - from }, (_, i) => [pivot, from + i]).flat()),
    ),
  );
  const distances = at.signal({ signal: 'distance', of: 'k', pairs });
  return sets.flatMap((runs, head): MergeAction[] => {
    if (runs.length === 0) return [];
    const weights = gaussian(runs, distances[head]!);
    const sizes = runs.map(({ from, to }) => to - from);
    const starts = Uint32Array.of(0, ...sizes);
    for (let g = 1; g < starts.length; g++) starts[g]! += starts[g - 1]!;
    return [
      {
        do: 'merge',
        layer: at.layer,
        head,
        targets: Uint32Array.from(runs, run => run.pivot),
        starts,
        members: Uint32Array.from(
          runs.flatMap(({ from, to }) => Array.from({ length: to - from }, (_, i) => from + i)),
        ),
        weightsK: weights,
        weightsV: mass === 'values' ? timesSize(weights, starts) : weights,
        ...(mass === 'bias' && { bias: Float32Array.from(sizes, Math.log) }),
      },
    ];
  });
}

/** Weights of the members of all runs, one after the other; where all members are (nearly) the same, equal ones. */
function gaussian(runs: readonly Run[], distances: Float32Array): Float32Array {
  const weights = new Float32Array(distances.length);
  let at = 0;
  for (const { from, to } of runs) {
    const d = distances.subarray(at, at + to - from);
    const mean = d.reduce((sum, x) => sum + x, 0) / d.length;
    const g = Float64Array.from(d, x => (mean > 1e-30 ? Math.exp(-x / (2 * mean)) : 1));
    const total = g.reduce((sum, x) => sum + x, 0);
    weights.set(g.map(x => x / total), at); // biome-ignore format: one thought
    at += d.length;
  }
  return weights;
}

function timesSize(weights: Float32Array, starts: Uint32Array): Float32Array {
  let g = 0;
  return weights.map((weight, i) => {
    if (starts[g + 1] === i) g++;
    return weight * (starts[g + 1]! - starts[g]!);
  });
}
