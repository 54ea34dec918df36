import { expect, test } from 'vitest';
import { parseRecipe } from '../../methods/recipe.ts';
import { measureMixes } from './mixes.ts';
import { tinyEvaluator } from './tune.testing.ts';

const tiny = tinyEvaluator();

test('encoders that hold too much are mixed with what drops tokens, towards the limit; tables and keepers are not', async () => {
  const alone = [];
  for (const recipe of ['zipcache(buffer=64)', 'kivi(bits=4, residual=64)', 'kvtuner(pairs=k4v4)', 'snapkv(keep=0.5)'])
    alone.push(await tiny().measure(recipe));
  const memory = 0.7 * alone[0]!.held;
  const measured = await measureMixes(tiny(), { memory }, alone, 0, 6);
  expect(measured.length).toBeGreaterThan(2);
  expect(measured.length).toBeLessThanOrEqual(6);
  for (const { recipe } of measured) {
    const [keeper, encoder] = parseRecipe(recipe).map(({ method }) => method);
    expect(['snapkv', 'adakv']).toContain(keeper);
    expect(['zipcache', 'kivi']).toContain(encoder);
  }
  expect(Math.min(...measured.map(({ held }) => Math.abs(held - memory)))).toBeLessThan(0.15 * memory);
});

test('an encoder that fits by itself is left alone', async () => {
  const one = await tiny().measure('zipcache(buffer=64)');
  expect(await measureMixes(tiny(), { memory: 1.1 * one.held }, [one], 0, 6)).toEqual([]);
});
