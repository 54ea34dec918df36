import { expect, test } from 'vitest';
import { whyNotGoOn } from './goes-on.ts';
import { parseRecipe } from './recipe.ts';

test.each([
  ['full', 'full'],
  ['full', 'snapkv(keep=0.5) + kivi'],
  ['snapkv(keep=0.5)', 'snapkv(keep=0.5)'],
  ['snapkv(keep=0.5)', 'snapkv(keep=0.25)'],
  ['snapkv(budget=512)', 'snapkv(budget=100)'],
  ['snapkv(keep=0.5)', 'snapkv(keep=0.5) + kivi(bits=4)'],
  ['snapkv(keep=0.5) + kivi', 'snapkv(keep=0.4) + kivi'],
])('from %s a cache goes on under %s', (from, to) => {
  expect(whyNotGoOn(parseRecipe(from), parseRecipe(to))).toBeNull();
});

test.each([
  ['snapkv(keep=0.5)', 'full', /what snapkv has done to the cache cannot be undone/],
  ['snapkv(keep=0.5)', 'h2o(keep=0.5)', /cannot be undone/],
  ['snapkv(keep=0.5)', 'kivi', /cannot be undone/],
  ['snapkv(keep=0.5) + kivi', 'snapkv(keep=0.5)', /what kivi has done/],
  ['snapkv(keep=0.25)', 'snapkv(keep=0.5)', /what snapkv has dropped is gone/],
  ['snapkv(keep=0.25)', 'snapkv(budget=10)', /dropped is gone/],
  ['snapkv(keep=0.5, window=16)', 'snapkv(keep=0.5, window=32)', /snapkv has worked with another window/],
  ['kivi(bits=4)', 'kivi(bits=2)', /kivi has worked with another bits/],
])('from %s it does not under %s', (from, to, why) => {
  expect(whyNotGoOn(parseRecipe(from), parseRecipe(to))).toMatch(why);
});
