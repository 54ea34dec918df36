import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { METHODS } from './index.ts';
import { editDistance, nearest } from './nearest.ts';
import { type OptionInfo, optionsOf } from './options.ts';
import { formatRecipe, parseRecipe, type RecipeInput } from './recipe.ts';
import type { Method } from './types.ts';

const refusal = (input: unknown) => {
  try {
    parseRecipe(input);
  } catch (error) {
    return error as { code: string; message: string; field: string; value: unknown; allowed: unknown };
  }
  throw new Error(`${JSON.stringify(input)} was accepted`);
};

/** Values of an option that its schema may accept. */
function anyValue(option: OptionInfo): fc.Arbitrary<unknown> {
  if (option.values) return fc.constantFrom(...option.values);
  if (option.type === 'boolean') return fc.boolean();
  const { minimum = 0, maximum = minimum + 5000 } = option;
  if (option.type === 'integer') return fc.integer({ min: minimum, max: Math.min(maximum, minimum + 5000) });
  return fc.double({ min: minimum, max: maximum, noNaN: true });
}

const anyStep = fc.constantFrom(...(METHODS as readonly Method[])).chain(method => {
  const options = optionsOf(method).map(option => [option.name, fc.option(anyValue(option), { nil: undefined })]);
  return fc.record({ method: fc.constant(method.name), ...Object.fromEntries(options) });
});

describe('three forms of one recipe', () => {
  const text = 'snapkv(keep=0.25, window=16) + kivi(bits=4)';
  const typed: RecipeInput = [
    { method: 'snapkv', keep: 0.25, window: 16 },
    { method: 'kivi', bits: 4 },
  ];
  test('give the same, with all defaults filled in', () => {
    const recipe = parseRecipe(text);
    expect(recipe).toMatchObject([
      { method: 'snapkv', keep: 0.25, window: 16, evict: 'prompt' },
      { method: 'kivi', bits: 4, group: 32 },
    ]);
    expect(parseRecipe(typed)).toEqual(recipe);
    expect(parseRecipe(JSON.stringify(typed))).toEqual(recipe);
    expect(parseRecipe(recipe)).toEqual(recipe);
    expect(formatRecipe(recipe)).toBe(text);
  });

  test('one step alone', () => {
    const recipe = parseRecipe('kivi(bits=4)');
    for (const input of [{ method: 'kivi', bits: 4 }, '{"method": "kivi", "bits": 4}', '  kivi ( bits = 4 )\n'])
      expect(parseRecipe(input)).toEqual(recipe);
  });

  test.each([undefined, null, '', ' \n', 'full', 'full()', [], '[]', { method: 'full' }, [{ method: 'full' }]])(
    '%j is the full cache',
    input => {
      expect(parseRecipe(input)).toEqual([]);
      expect(formatRecipe(parseRecipe(input))).toBe('full');
    },
  );

  test('what is undefined or null counts as absent', () => {
    expect(parseRecipe({ method: 'kivi', bits: undefined, group: null })).toEqual(parseRecipe('kivi'));
  });

  test('types know the registry', () => {
    // @ts-expect-error no such method
    const method: RecipeInput = { method: 'snapvk' };
    // @ts-expect-error no such option
    const option: RecipeInput = { method: 'kivi', bit: 2 };
    // @ts-expect-error not a width
    const value: RecipeInput = { method: 'kivi', bits: 5 };
    for (const input of [method, option, value]) expect(refusal(input).code).toBe('invalid_recipe');
  });
});

describe('texts', () => {
  test.each([
    ['kivi(residual=128.0)', { residual: 128 }],
    ['snapkv(keep=.5)', { keep: 0.5 }],
    ['snapkv(keep=5e-1)', { keep: 0.5 }],
    ['snapkv(keep=+0.5)', { keep: 0.5 }],
    ['snapkv(pool="mean")', { pool: 'mean' }],
    ['streaming-llm(positions=kept)', { positions: 'kept' }],
    ['streaming-llm(positions="kept")', { positions: 'kept' }],
    ['razor-attention(compensate=false)', { compensate: false }],
  ])('%s', (text, options) => {
    expect(parseRecipe(text)).toMatchObject([options]);
    expect(parseRecipe(formatRecipe(parseRecipe(text)))).toEqual(parseRecipe(text));
  });

  test.each([
    ['snapkv(', /character 8: expected an option of snapkv, written name=value; found the end/],
    ['snapkv(keep', /character 12: expected "=" after "keep"/],
    ['snapkv(keep=', /character 13: expected a value of keep/],
    ['snapkv(keep=0.5', /character 16: expected "," or "\)"; found the end/],
    ['snapkv(keep=0.5,)', /character 17: expected an option of snapkv/],
    ['snapkv(0.5)', /character 8: expected an option of snapkv, written name=value; found "0.5\)"/],
    ['snapkv(keep: 0.5)', /character 12: expected "=" after "keep"/],
    ['snapkv(keep=25%)', /character 15: expected "," or "\)"; found "%\)"/],
    ['snapkv(keep=1.2.3)', /character 13: expected a value/],
    ['snapkv(keep=0.5) kivi', /character 18: expected "\+" and another method, or the end; found "kivi"/],
    ['snapkv + ', /character 10: expected the name of a method; found the end/],
    ['+ kivi', /character 1: expected the name of a method/],
    ['snapkv | kivi', /expected "\+"/],
    ['snapkv(keep=0.5, keep=0.6)', /character 18: snapkv: keep is given twice/],
    ['snapkv(method=kivi)', /"method" is not an option of snapkv/],
    ['snapkv(pool="mean)', /expected a value of pool/],
    ['snapkv(pool="\\q")', /not a string as JSON writes it/],
    ['snapkv(pool=[[[[[1]]]]])', /expected a value of pool/],
    ['{"method": "kivi"', /not valid JSON/],
    [`kivi(bits=${'2'.repeat(5000)})`, /longer than 4096/],
  ])('%s is refused where it stops making sense', (text, message) => {
    const error = refusal(text);
    expect(error.message).toMatch(message);
    expect(error).toMatchObject({ code: 'invalid_recipe', field: 'kv', value: text });
  });
});

describe('what is not known', () => {
  test.each([
    ['snapvk', /no method "snapvk": did you mean "snapkv"\?/, 'kv', 'snapvk'],
    ['SnapKV', /did you mean "snapkv"\?/, 'kv', 'SnapKV'],
    ['streamingllm', /did you mean "streaming-llm"\?/, 'kv', 'streamingllm'],
    ['gzip', /no method "gzip"$/, 'kv', 'gzip'],
    ['snapkv(windw=4)', /snapkv has no option "windw": did you mean "window"\?/, 'kv', 'windw'],
    ['kivi(constructor=4)', /kivi has no option "constructor"/, 'kv', 'constructor'],
    [{ method: 'kivi', bit: 4 }, /did you mean "bits"\?/, 'kv.bit', 'bit'],
    [[{ method: 'snapkv' }, { method: 'kiwi' }], /did you mean "kivi"\?/, 'kv.1.method', 'kiwi'],
    [JSON.parse('{"method": "kivi", "__proto__": 1}'), /kivi has no option "__proto__"/, 'kv.__proto__', '__proto__'],
  ])('%j', (input, message, field, value) => {
    const error = refusal(input);
    expect(error.message).toMatch(message);
    expect(error).toMatchObject({ code: 'invalid_recipe', field, value });
    expect(error.allowed).toBeInstanceOf(Array);
  });

  test.each([
    [3, 'kv', '3'],
    [true, 'kv', 'true'],
    [{}, 'kv', '{}'],
    [{ keep: 0.5 }, 'kv', '{"keep":0.5}'],
    [['snapkv'], 'kv.0', '"snapkv"'],
    [[{ method: 'snapkv' }, null], 'kv.1', 'null'],
    [[[{ method: 'snapkv' }]], 'kv.0', '[{"method":"snapkv"}]'],
    [Array(17).fill({ method: 'kivi' }), 'kv', 17],
  ])('%j is no recipe', (input, field, value) => {
    expect(refusal(input)).toMatchObject({ code: 'invalid_recipe', field, value });
  });
});

test.each([
  ['snapkv(keep=2)', /^snapkv: keep must be a number above 0 and at most 1$/, 2],
  ['snapkv(keep=half)', /^snapkv: keep must be a number/, 'half'],
  ['snapkv(keep=0.5, budget=64)', /^snapkv: give keep or budget, not both$/, 64],
  ['snapkv(budget=1.5)', /^snapkv: budget must be a whole number at least 1$/, 1.5],
  ['snapkv(window=[1, 2])', /^snapkv: window must be a whole number/, '[1,2]'],
  ['kivi(bits=5)', /^kivi: bits must be 1, 2, 3, 4 or 8$/, 5],
  ['kivi(residual=100)', /^kivi: residual must be a multiple of 64 at least 64$/, 100],
  ['snapkv(keep=1e400)', /^snapkv: keep must be a number above 0 and at most 1$/, '1e400'],
  ['snapkv(pool=median)', /^snapkv: pool must be mean or max$/, 'median'],
])('%s is refused with what is allowed', (text, message, value) => {
  const error = refusal(text);
  expect(error.message).toMatch(message);
  expect(error).toMatchObject({ code: 'invalid_recipe', value });
});

test('-0 is 0, and what is no finite number is shown', () => {
  for (const input of [
    'kvmerger(epsilon=-0)',
    '[{"method": "kvmerger", "epsilon": -0}]',
    { method: 'kvmerger', epsilon: -0 },
  ]) {
    const recipe = parseRecipe(input);
    expect(recipe).toEqual(parseRecipe('kvmerger(epsilon=0)'));
    expect(parseRecipe(formatRecipe(recipe))).toEqual(recipe);
  }
  expect(refusal({ method: 'snapkv', keep: -Infinity })).toMatchObject({ field: 'kv.keep', value: '-Infinity' });
});

test('any steps: what is accepted comes back from its short text, from JSON and from itself', () => {
  let accepted = 0;
  fc.assert(
    fc.property(fc.array(anyStep, { maxLength: 3 }), steps => {
      let recipe: ReturnType<typeof parseRecipe>;
      try {
        recipe = parseRecipe(steps);
      } catch (error) {
        expect(error).toMatchObject({ name: 'KvasirError', code: 'invalid_recipe' });
        return;
      }
      accepted++;
      const text = formatRecipe(recipe);
      expect(parseRecipe(text)).toEqual(recipe);
      expect(parseRecipe(JSON.stringify(recipe))).toEqual(recipe);
      expect(parseRecipe(recipe)).toEqual(recipe);
      expect(formatRecipe(parseRecipe(text))).toBe(text);
    }),
    { numRuns: 600 },
  );
  expect(accepted).toBeGreaterThan(100);
});

test('any text is read or refused, never anything else', () => {
  const piece = fc.constantFrom(
    'snapkv',
    'kivi',
    '(',
    ')',
    '+',
    ',',
    '=',
    'keep',
    '0.5',
    '"',
    '[',
    ']',
    ' ',
    '{',
    'full',
    '\n',
    'é',
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 12 }), pieces => {
      try {
        parseRecipe(pieces.join(''));
      } catch (error) {
        expect(error).toMatchObject({ name: 'KvasirError', code: 'invalid_recipe', field: expect.any(String) });
      }
    }),
    { numRuns: 500 },
  );
});

test('edit distance and the nearest name', () => {
  expect(editDistance('', 'abc')).toBe(3);
  expect(editDistance('kitten', 'sitting')).toBe(3);
  expect(editDistance('ab', 'ba')).toBe(1);
  expect(nearest('tov', ['tova', 'h2o'])).toBe('tova');
  expect(nearest('x', ['tova', 'h2o'])).toBeUndefined();
  expect(nearest('', ['tova'])).toBeUndefined();
});

test('what a recipe file holds stands for its recipe, as an object and as text', () => {
  const file = {
    kvasir: 'recipe',
    version: 1,
    recipe: 'snapkv(keep=0.5) + kvtuner(pairs="k8v4")',
    measured: {},
  } as const;
  expect(parseRecipe(file)).toEqual(parseRecipe(file.recipe));
  expect(parseRecipe(JSON.stringify(file, null, 2))).toEqual(parseRecipe(file.recipe));
  expect(() => parseRecipe({ ...file, recipe: 'snap' })).toThrow(expect.objectContaining({ code: 'invalid_recipe' }));
  expect(() => parseRecipe({ ...file, kvasir: 'compare' })).toThrow(
    expect.objectContaining({ code: 'invalid_recipe' }),
  );
});
