import { describe, expect, test } from 'vitest';
import { composable, conflictOf, createPolicies, prefixStable } from './composition.ts';
import { parseRecipe } from './recipe.ts';
import type { Member } from './rules.ts';
import type { ModelShape, Traits } from './types.ts';

const model: ModelShape = {
  layers: 4,
  heads: 4,
  kvHeads: 2,
  group: 2,
  headDim: 32,
  rotary: 32,
  context: 2048,
  layerWindow: [0, 0, 0, 0],
  fingerprint: 'none',
};

const member = (name: string, traits: Partial<Traits>): Member => ({
  name,
  traits: { stage: 'keep', prefixStable: false, ...traits },
});
const keep = (traits: Partial<Traits> = {}) => member('first', traits);
const join = (traits: Partial<Traits> = {}) => member('second', { stage: 'join', ...traits });

describe('rules, on traits alone', () => {
  test.each<[string, Traits['needsSame'], Traits['ragged'], boolean]>([
    ['layers need the same', 'layers', 'none', true],
    ['layers need the same', 'layers', 'heads', true],
    ['layers need the same', 'layers', 'layers', false],
    ['layers need the same', 'layers', 'both', false],
    ['all need the same', 'all', 'none', true],
    ['all need the same', 'all', 'heads', false],
    ['all need the same', 'all', 'layers', false],
    ['nobody needs the same', undefined, 'both', true],
  ])('%s (%s), after %s', (_, needsSame, ragged, fits) => {
    expect(composable(keep({ ragged: ragged! }), join(needsSame ? { needsSame } : {}))).toBe(fits);
  });

  test.each<[string, Member, Member, RegExp | null]>([
    ['single drops, then join', keep({ drops: 'single' }), join(), /drops single tokens/],
    ['single drops, then encode', keep({ drops: 'single' }), join({ stage: 'encode' }), /drops single tokens/],
    ['single drops, then merge', keep({ drops: 'single' }), join({ stage: 'merge' }), null],
    ['oldest drops, then encode', keep({ drops: 'oldest' }), join({ stage: 'encode' }), null],
    ['oldest drops, then retrieve', keep({ drops: 'oldest' }), join({ stage: 'retrieve' }), /moved them out/],
    ['oldest drops, then another order', keep({ drops: 'oldest' }), join({ reorders: true }), /another order/],
    ['no drops, then another order', keep(), join({ reorders: true }), null],
    ['a written entry, then merge', keep({ drops: 'oldest', needsExact: true }), join({ stage: 'merge' }), /writes into/],
    ['drops by layer, then ragged heads', keep({ drops: 'single', ragged: 'layers' }), join({ stage: 'merge', ragged: 'heads' }), /all heads/],
    ['drops by head, then ragged heads', keep({ drops: 'single', ragged: 'both' }), join({ stage: 'merge', ragged: 'heads' }), null],
    ['seals, then retrieve', member('first', { stage: 'join', seals: true }), join({ stage: 'retrieve' }), /nothing can change/],
    ['encode, then single rows', member('first', { stage: 'encode' }), join({ stage: 'retrieve', needsExact: true }), /single rows/],
    ['merge, then single rows', member('first', { stage: 'merge' }), join({ stage: 'retrieve', needsExact: true }), null],
    ['heads in other orders, then heads together', member('first', { stage: 'join', reorders: 'heads' }), join({ stage: 'encode', needsSame: 'heads' }), /another order in each head/],
    ['in another order, then heads together', member('first', { stage: 'join', reorders: true }), join({ stage: 'encode', needsSame: 'heads' }), null],
    ['one choice for several layers, then retrieve', keep({ sameLayers: true, ragged: 'layers' }), join({ stage: 'retrieve' }), /chosen in another/],
    ['one choice for several layers, then encode', keep({ sameLayers: true, ragged: 'layers' }), join({ stage: 'encode' }), null],
    ['late layers, then attention', keep({ settlesLate: true }), join({ stage: 'merge', needsPrompt: true }), /queries/],
    ['late layers, then no attention', keep({ settlesLate: true }), join({ stage: 'merge' }), null],
    ['before RoPE, then after', keep({ keysUnrotated: true }), join({ keysRotated: true }), /first needs keys before RoPE.*second needs them after/],
    ['after RoPE, then before', keep({ keysRotated: true }), join({ keysUnrotated: true }), /second needs keys before RoPE.*first needs them after/],
    ['both before RoPE', keep({ keysUnrotated: true }), join({ keysUnrotated: true }), null],
    ['new positions, then true ones', keep({ renumbers: true }), join({ stage: 'retrieve', truePositions: true }), /new positions/],
    ['new positions, then join', keep({ renumbers: true }), join(), /under one position/],
    ['new positions, then encode', keep({ renumbers: true }), join({ stage: 'encode' }), null],
  ])('%s', (_, first, second, reason) => {
    const conflict = conflictOf(first, second);
    if (reason) expect(conflict?.reason).toMatch(reason);
    else expect(conflict).toBeNull();
  }); // biome-ignore format: a table

  test('the wrong order tells the deeper reason where turning round does not help', () => {
    const encode = member('codec', { stage: 'encode' });
    expect(conflictOf(encode, keep())).toMatchObject({ fix: 'write first before codec' });
    expect(conflictOf(encode, keep({ drops: 'single' }))?.reason).toMatch(/drops single tokens/);
  });
});

test('options may change what goes together', () => {
  expect(() => parseRecipe('streaming-llm + xkv')).toThrowError(/set positions=kept in streaming-llm/);
  expect(parseRecipe('streaming-llm(positions=kept) + xkv')).toHaveLength(2);
});

test('a recipe is prefix-stable where all of its methods are', () => {
  expect(prefixStable(parseRecipe('full'))).toBe(true);
  expect(prefixStable(parseRecipe('kivi'))).toBe(true);
  expect(prefixStable(parseRecipe('snapkv'))).toBe(false);
  expect(prefixStable(parseRecipe('snapkv + kivi'))).toBe(false);
});

describe('policies', () => {
  test('in the order of the recipe; none for the full cache', () => {
    expect(createPolicies(parseRecipe('full'), model)).toEqual([]);
    const [snapkv, kivi, ...more] = createPolicies(parseRecipe('snapkv(keep=0.5) + kivi'), model);
    expect(more).toEqual([]);
    expect(snapkv!.sense!(0)).toMatchObject([{ signal: 'attention', rows: 32 }]);
    expect(kivi!.sense).toBeUndefined();
    expect(kivi!.filled).toBeTypeOf('function');
  });

  test('get the profile of their kind, or say that it is missing', () => {
    const recipe = parseRecipe('razor-attention');
    expect(() => createPolicies(recipe, model)).toThrowError(/razor-attention needs a profile/);
    const profile = { kind: 'razor-attention', fingerprint: 'none', retrieval: [[0], [], [0, 1], []] };
    expect(createPolicies(recipe, model, new Map([['razor-attention', profile]]))).toHaveLength(1);
  });

  test.each([
    ['fastkv(layer=99)', 'kv.0.layer', 99],
    ['streaming-llm(positions=kept) + xkv(rankK=100000)', 'kv.1.rankK', 100000],
    ['kvtuner(pairs="k8v4*2")', 'kv.0.pairs', 'k8v4*2'],
  ])('%s does not suit the model: the option is named, as one of the recipe', (recipe, field, value) => {
    expect(() => createPolicies(parseRecipe(recipe), model)).toThrow(
      expect.objectContaining({ code: 'invalid_recipe', field, value, allowed: expect.any(String) }),
    );
  });
});
