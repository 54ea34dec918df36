import { expect } from 'vitest';
import { LayerPrefill } from '../../src/engine/layer-prefill.ts';
import type { LoadedModel } from '../../src/engine/loaded-model.ts';
import { parseRecipe } from '../../src/methods/recipe.ts';
import type { Method } from '../../src/methods/types.ts';
import type { Written } from '../recipes.ts';
import { eachView } from './matrix-checks.ts';

/** Rows of the full cache by view, [tokens, headDim] each. */
export type FullRows = readonly { readonly k: Float32Array; readonly v: Float32Array }[];

export async function fullRows(
  model: LoadedModel,
  tokens: readonly number[],
  keysUnrotated: boolean,
): Promise<FullRows> {
  const sequence = model.cache.create({ owner: 'full', pages: { formatK: 'f32', formatV: 'f32', keysUnrotated } });
  const prefill = new LayerPrefill(model.forward, sequence, tokens, 0);
  try {
    while (!(await prefill.next()));
    const { slots, kvHeads } = model.cache.shape;
    return Array.from({ length: slots * kvHeads }, (_, view) =>
      sequence.read(Math.floor(view / kvHeads), view % kvHeads),
    );
  } finally {
    prefill.dispose();
    sequence.free();
  }
}

/** Methods whose entries are no longer the rows of one token, all or (RazorAttention) the one after the sinks. */
const MERGES: Readonly<Record<string, (entry: number, options: Record<string, unknown>) => boolean>> = {
  ems: () => true,
  kvmerger: () => true,
  'razor-attention': (entry, { sinks }) => entry === sinks,
};

/**
 * The rows of a prompt's entries are those of the full cache at the same positions: bit for bit where they are exact, nearer to
 * them than to their neighbours' where they are encoded. Only in the first layer where later ones do not see the whole prompt
 * (chunks, dropped rows). Renumbered entries have lost their tokens' positions: their rows stand in the order of the text.
 */
export function checkRows(written: Written, method: Method, kv: string, full: FullRows): void {
  const { sequence, run } = written;
  const { kvHeads, headDim: d } = written.model.cache.shape;
  const whole = run.program.chunk === Number.POSITIVE_INFINITY && method.name !== 'fastkv';
  const { method: _, ...options } = parseRecipe(kv)[0]!;
  const merged = MERGES[method.name] ?? (() => false);
  eachView(written, (layer, head) => {
    if (layer > 0 && !whole) return;
    const { k, v, positions } = sequence.read(layer, head);
    const rows = full[layer * kvHeads + head]!;
    const equal = (entry: number, position: number) => {
      for (let c = 0; c < d; c++) {
        if (k[entry * d + c] !== rows.k[position * d + c] || v[entry * d + c] !== rows.v[position * d + c])
          return false;
      }
      return true;
    };
    const exact = new Set(
      sequence.exactRanges(layer, head).flatMap(([from, to]) => Array.from({ length: to - from }, (_, i) => from + i)),
    );
    if (method.traits.renumbers) {
      let position = 0;
      for (const entry of positions.keys()) {
        while (position < run.seen && !equal(entry, position)) position++;
        expect(position++, `entry ${entry} of layer ${layer}, head ${head} is a row of the text`).toBeLessThan(
          run.seen,
        );
      }
      return;
    }
    const wrong: number[] = [];
    let [own, other] = [0, 0];
    for (const [entry, position] of positions.entries()) {
      if (merged(entry, options)) continue;
      if (exact.has(entry)) {
        if (!equal(entry, position)) wrong.push(position);
        continue;
      }
      const neighbour = position > 0 ? position - 1 : 1;
      for (let c = 0; c < d; c++) {
        own +=
          (k[entry * d + c]! - rows.k[position * d + c]!) ** 2 + (v[entry * d + c]! - rows.v[position * d + c]!) ** 2;
        other +=
          (k[entry * d + c]! - rows.k[neighbour * d + c]!) ** 2 + (v[entry * d + c]! - rows.v[neighbour * d + c]!) ** 2;
      }
    }
    expect(wrong, `positions of layer ${layer}, head ${head} whose rows are others`).toEqual([]);
    if (other > 0) expect(own / other).toBeLessThan(1);
  });
}
