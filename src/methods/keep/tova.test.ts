import { describe, expect, test } from 'vitest';
import { PlainCache, plainModel, plainPrompt, plainRandom } from '../testing.ts';
import { best, differences, tovaCard } from '../testing-cards.ts';
import { held, lengths, runPlain, SHAPES, SIZES } from '../testing-policy.ts';
import { PlainDecoder } from '../testing-step.ts';
import { tova } from './tova.ts';

describe.each(SHAPES)('%o', shape => {
  test.each(SIZES)('%i tokens: the set of the card, the same in all heads', rows => {
    const { cache, attention } = runPlain(tova, { keep: 0.3 }, rows, shape);
    held(cache).forEach((heads, layer) => {
      const { kept, scores } = tovaCard(attention[layer]!, Math.max(1, Math.floor(rows * 0.3)));
      for (const head of heads) {
        expect(head).toEqual(heads[0]);
        expect(head).toHaveLength(kept.length);
        expect(differences(head, kept, scores)).toEqual([]);
      }
    });
  });
});

test('decoding holds the budget after every step; what the newest query looks at least goes', () => {
  const { cache, policy } = runPlain(tova, { budget: 20 }, 60, { layers: 1 });
  const decoder = new PlainDecoder(cache, policy);
  const random = plainRandom(4);
  for (let step = 0; step < 30; step++) {
    const before = held(cache)[0]![0]!;
    const rows = plainPrompt(cache.model, 1, random);
    // The card: all heads' mean over what is held and the new token.
    const probe = new PlainCache(plainModel({ layers: 1 }));
    probe.append(0, { k: interleave(cache, 'k'), v: interleave(cache, 'v') }, Int32Array.from(before));
    let scores: number[] = [];
    probe.prompt(
      {
        sense: () => [{ signal: 'attention', rows: 1, reduce: 'sum' }],
        decide(at) {
          const heads = at.signal({ signal: 'attention', rows: 1, reduce: 'sum' });
          scores = Array.from(heads[0]!, (_, i) => heads.reduce((sum, head) => sum + head[i]!, 0) / heads.length);
          return [];
        },
      },
      rows,
    );
    decoder.step(rows);
    const after = held(cache)[0]!;
    expect(after[0]).toEqual(after[1]);
    const all = [...before, 60 + step];
    expect(
      differences(
        after[0]!.map(p => all.indexOf(p)),
        best(scores, 20),
        scores,
      ),
    ).toEqual([]);
    expect(lengths(cache)).toEqual([[20, 20]]);
  }
});

test('`recent` protects the newest tokens', () => {
  const { cache, policy } = runPlain(tova, { budget: 10, recent: 4 }, 40, { layers: 1 });
  const decoder = new PlainDecoder(cache, policy);
  const random = plainRandom(8);
  for (let step = 0; step < 20; step++) {
    decoder.step(plainPrompt(cache.model, 1, random));
    expect(held(cache)[0]![0]!.slice(-4)).toEqual([37, 38, 39, 40].map(position => position + step));
  }
});

/** Rows of all heads of layer 0, [entries][kvHeads][headDim]. */
function interleave(cache: PlainCache, plane: 'k' | 'v'): Float64Array {
  const { kvHeads, headDim } = cache.model;
  const views = cache.views[0]!;
  return Float64Array.from({ length: views[0]!.positions.length * kvHeads * headDim }, (_, i) => {
    const [entry, head, c] = [Math.floor(i / (kvHeads * headDim)), Math.floor(i / headDim) % kvHeads, i % headDim];
    return views[head]![plane][entry * headDim + c]!;
  });
}
