import { PlainCache, plainModel, plainPrompt, plainRandom } from './testing.ts';
import { attentionOf, type Matrix } from './testing-cards.ts';
import type { Action, KeepAction, Method, Policy } from './types.ts';

export interface PlainRun {
  readonly cache: PlainCache;
  readonly policy: Policy;
  /** Actions of each layer. */
  readonly actions: readonly (readonly Action[])[];
  /** [layers]: full causal attention of the prompt, from the raw tensors. */
  readonly attention: readonly (readonly Matrix[])[];
}

/** One prompt of random tensors under a method. */
export function runPlain(
  method: Method,
  options: object,
  rows: number,
  shape: Parameters<typeof plainModel>[0] & { seed?: number; sharpness?: number } = {},
): PlainRun {
  const model = plainModel(shape);
  const { seed = rows + 1, sharpness } = shape;
  const cache = new PlainCache(model, seed);
  const tensors = plainPrompt(model, rows, plainRandom(seed), sharpness);
  const policy = method.create(method.options.parse(options), model);
  const actions = cache.prompt(policy, tensors);
  let attention: PlainRun['attention'] | undefined;
  return {
    cache,
    policy,
    actions,
    get attention() {
      attention ??= tensors.map(layer => attentionOf(model, layer));
      return attention;
    },
  };
}

/** [layers][kvHeads]: true positions held. */
export function held(cache: PlainCache): number[][][] {
  return cache.views.map(heads => heads.map(view => [...view.positions]));
}

export function lengths(cache: PlainCache): number[][] {
  return cache.views.map(heads => heads.map(view => view.positions.length));
}

export function keeps(actions: readonly Action[]): KeepAction[] {
  return actions.filter(action => action.do === 'keep');
}

/** Shapes that every method must fit: one head, groups of one and of eight. */
export const SHAPES = [
  { layers: 2, kvHeads: 1, group: 1 },
  { layers: 3, kvHeads: 2, group: 1 },
  { layers: 2, kvHeads: 1, group: 8 },
  { layers: 2, kvHeads: 2, group: 3 },
] as const;

export const SIZES = [1, 63, 64, 65, 130] as const;
