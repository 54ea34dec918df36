import { describe, expect, test } from 'vitest';
import { memberOf } from '../composition.ts';
import { parseRecipe } from '../recipe.ts';
import { PlainCache, plainModel, plainPrompt, plainRandom } from '../testing.ts';
import { best, differences, range } from '../testing-cards.ts';
import { held, runPlain, SHAPES, SIZES } from '../testing-policy.ts';
import { mpcache } from './mpcache.ts';

const LAYERS = { layers: 6, kvHeads: 2, group: 2 } as const;
const alone = { observed: 0.3 } as const;

describe.each(SHAPES)('%o', shape => {
  test.each(SIZES.flatMap(rows => (['max', 'sum'] as const).map(reduce => [rows, reduce] as const)))(
    '%i tokens, %s over the last queries: the sets of the card',
    (rows, reduce) => {
      const { cache, attention } = runPlain(mpcache, { keep: 0.4, ...alone, reduce }, rows, shape);
      const asking = rows < 20 ? rows : Math.ceil(0.3 * rows);
      const budget = Math.max(1, Math.floor(0.4 * rows));
      held(cache).forEach((heads, layer) => {
        const given = (matrix: (typeof attention)[number][number], i: number) => {
          const column = matrix.slice(-asking).map(row => row[i]!);
          return reduce === 'max' ? Math.max(...column) : column.reduce((a, b) => a + b, 0);
        };
        const scores = range(rows - 1).map(i => attention[layer]!.reduce((sum, matrix) => sum + given(matrix, i), 0));
        const expected = rows <= budget ? range(rows) : [...best(scores, budget - 1), rows - 1];
        for (const kept of heads) {
          expect(kept).toHaveLength(expected.length);
          expect(differences(kept, expected, scores)).toEqual([]);
        }
      });
    },
  );
});

test('the second layer of a pair holds what the first one does, and is not asked about; not the first two', () => {
  const { cache, policy } = runPlain(mpcache, { keep: 0.3 }, 300, LAYERS);
  const sets = held(cache).map(heads => JSON.stringify(heads));
  expect(range(6).map(layer => sets.indexOf(sets[layer]!))).toEqual([0, 1, 2, 2, 4, 4]);
  expect(range(6).filter(layer => policy.sense!(layer).length === 0)).toEqual([3, 5]);
  const rules = range(6).map(layer => policy.retrieve!(layer)!.adopt);
  expect(rules).toEqual([undefined, undefined, undefined, 2, undefined, 4]);
});

test('layers that read for themselves keep for themselves', () => {
  for (const options of [{ adopt: false }, { coarse: 1, fine: 1 }]) {
    const { cache, policy } = runPlain(mpcache, { keep: 0.3, ...options }, 300, LAYERS);
    expect(new Set(held(cache).map(heads => JSON.stringify(heads))).size).toBe(6);
    for (const layer of range(6)) expect(policy.retrieve?.(layer)?.adopt).toBeUndefined();
  }
});

test('layers with another kind of attention are no pair', () => {
  const model = { ...plainModel({ layers: 6 }), layerWindow: [0, 0, 64, 0, 0, 0] };
  const policy = mpcache.create(mpcache.options.parse({ keep: 0.3 }), model);
  expect(range(6).filter(layer => policy.sense!(layer).length === 0)).toEqual([5]);
});

test('pairs hold the same at a later turn and after each chunk, chosen anew', () => {
  const model = plainModel(LAYERS);
  const cache = new PlainCache(model);
  const policy = mpcache.create(mpcache.options.parse({ budget: 40 }), model);
  for (const [turn, rows] of [200, 50, 30, 100].entries()) {
    cache.prompt(policy, plainPrompt(model, rows, plainRandom(turn)), turn !== 1);
    const sets = held(cache);
    expect(sets.flat().every(kept => kept.length === 40)).toBe(true);
    expect(sets[3]).toEqual(sets[2]);
    expect(sets[5]).toEqual(sets[4]);
    expect(sets[4]).not.toEqual(sets[2]);
    expect(sets[0]![0]!.at(-1)).toBe(cache.seen - 1);
  }
});

test('nothing to drop: no action; everything kept and read: no members', () => {
  expect(runPlain(mpcache, { budget: 100 }, 100, LAYERS).actions.flat()).toEqual([]);
  expect(runPlain(mpcache, {}, 0, LAYERS).actions.flat()).toEqual([]);
  expect(mpcache.create(mpcache.options.parse({ keep: 1, coarse: 1, fine: 1 }), plainModel())).toEqual({});
});

test('it says that it takes over in a layer what another has chosen, where it does', () => {
  const same = (text: string) => memberOf(parseRecipe(text)[0]!).traits.sameLayers ?? false;
  expect(same('mpcache')).toBe(true);
  for (const options of ['adopt=false', 'keep=1', 'coarse=1, fine=1']) expect(same(`mpcache(${options})`)).toBe(false);
});
