import { cumulativeShares, prefixes } from '../allocate/prefix.ts';
import { columnSums, importanceOf } from '../allocate/prefixkv.ts';
import type { PrefixProfile } from '../profiles.ts';
import type { ModelShape, Policy } from '../types.ts';

/** Shares that all layers together keep. */
const SHARES = [0.02, ...Array.from({ length: 19 }, (_, i) => (i + 1) / 20)];

/** Importance of the tokens of one prompt, by layer: f32 [tokens]. */
export interface Importance {
  readonly sum: Float32Array[];
  readonly average: Float32Array[];
}

/** A policy that drops nothing and writes down, layer by layer, how important the tokens of a prompt are. */
export function importanceRecorder(into: Importance): Policy {
  return {
    sense: () => [columnSums],
    decide(at) {
      into.sum[at.layer] = importanceOf(at, false);
      into.average[at.layer] = importanceOf(at, true);
      return [];
    },
  };
}

/** What each layer keeps, searched for each prompt and averaged over them (PrefixKV, section 4.3). */
export function prefixProfile(prompts: readonly Importance[], model: ModelShape): PrefixProfile {
  const kept = (by: keyof Importance) =>
    SHARES.map(share => {
      const found = prompts.map(prompt => {
        const curves = prompt[by].map(cumulativeShares);
        const tokens = curves[0]!.length;
        return prefixes(curves, share * tokens * model.layers).map(count => count / tokens);
      });
      return found[0]!.map((_, l) => found.reduce((sum, layers) => sum + layers[l]!, 0) / found.length);
    });
  const [sum, average] = [kept('sum'), kept('average')];
  return {
    kind: 'prefixkv',
    fingerprint: model.fingerprint,
    shares: [...SHARES],
    layers: Array.from({ length: model.layers }, (_, l) => ({
      sum: sum.map(layers => layers[l]!),
      average: average.map(layers => layers[l]!),
    })),
  };
}
