import type { RazorProfile } from '../profiles.ts';
import type { ModelShape } from '../types.ts';

/**
 * The head profile of RazorAttention (arXiv 2407.15891, section 3.2). The probe is a start token and then `period` random
 * tokens, repeated; at the second repetition and later a query is looked at: how much of its attention goes to earlier
 * occurrences of its own token (echo), and how much to the tokens after those (induction).
 */

/** By layer and query head. */
export interface HeadScores {
  readonly echo: readonly ArrayLike<number>[];
  readonly induction: readonly ArrayLike<number>[];
}

export interface HeadShares {
  /** Share of the KV heads of all layers with the greatest induction scores. Default 0.14. */
  readonly induction?: number;
  /** Default 0.01. */
  readonly echo?: number;
}

/** Probabilities that go from probe row `row` (0: the start token) to earlier occurrences of its token, and to what followed them. */
export function probeScores(probabilities: ArrayLike<number>, row: number, period: number) {
  let echo = 0;
  let induction = 0;
  for (let j = row - period; j >= 1; j -= period) {
    echo += probabilities[j]!;
    induction += probabilities[j + 1]!;
  }
  return { echo, induction };
}

/** Retrieval heads: a KV head scores as the best query head of its group; shares are rounded up to whole heads, ties go to lower layers. */
export function razorProfile(scores: HeadScores, model: ModelShape, shares: HeadShares = {}): RazorProfile {
  const chosen = new Set([
    ...best(scores.induction, model, shares.induction ?? 0.14),
    ...best(scores.echo, model, shares.echo ?? 0.01),
  ]);
  return {
    kind: 'razor-attention',
    fingerprint: model.fingerprint,
    retrieval: Array.from({ length: model.layers }, (_, layer) =>
      Array.from({ length: model.kvHeads }, (_, head) => head).filter(head => chosen.has(layer * model.kvHeads + head)),
    ),
  };
}

/** Numbers layer * kvHeads + head. */
function best(scores: readonly ArrayLike<number>[], { layers, kvHeads, group }: ModelShape, share: number): number[] {
  const heads = Array.from({ length: layers * kvHeads }, (_, i) => i);
  const score = heads.map(i => {
    const [layer, head] = [Math.floor(i / kvHeads), i % kvHeads];
    return Math.max(...Array.from({ length: group }, (_, g) => scores[layer]![head * group + g]!));
  });
  return heads.sort((a, b) => score[b]! - score[a]! || a - b).slice(0, Math.ceil(share * heads.length - 1e-9));
}
