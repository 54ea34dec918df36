import { expect, test } from 'vitest';
import { describeMethod } from '../../src/methods/describe.ts';
import { METHODS } from '../../src/methods/index.ts';
import { recipeHint } from './recipe.ts';

const methods = METHODS.map(method => {
  const { name, summary, options } = describeMethod(method);
  return { name, summary, options: options.map(option => option.name) };
});
const problem = (recipe: string) => recipeHint(recipe, methods).problem;

test.each([
  '',
  'full',
  'snapkv',
  ' snapkv(keep=0.25)+kivi(bits=2) ',
  'streaming-llm(budget=1e+2) + kivi',
  '{"method": "snapkv"}',
  '[{"method": "nothing"}]',
])('nothing against %j', recipe => {
  expect(problem(recipe)).toBeNull();
});

test.each([
  ['snapvk', 'There is no method snapvk.'],
  ['snapkv + ', 'A method is missing.'],
  ['+ kivi', 'A method is missing.'],
  ['snapkv(keep=0.25', 'A parenthesis of snapkv is missing.'],
  ['snapkv) + kivi', 'There is no method snapkv).'],
  ['kivi + <b>', 'There is no method <b>.'],
])('%j: %s', (recipe, expected) => {
  expect(problem(recipe)).toBe(expected);
});

test('the last method is told, and every method may follow what stands', () => {
  const { method, suggestions } = recipeHint('snapkv(keep=0.5) + ki', methods);
  expect(method).toBeNull();
  expect(suggestions).toHaveLength(METHODS.length);
  expect(suggestions).toContain('snapkv(keep=0.5) + kivi');
  expect(recipeHint('snapkv + kivi(bits=', methods).method).toMatchObject({
    name: 'kivi',
    options: ['bits', 'group', 'residual'],
  });
});

test('without a list of methods nothing is refused', () => {
  expect(recipeHint('anything', [])).toEqual({ problem: null, method: null, suggestions: [] });
});
