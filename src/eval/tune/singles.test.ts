import { describe, expect, test } from 'vitest';
import { METHODS } from '../../methods/index.ts';
import { parseRecipe } from '../../methods/recipe.ts';
import type { Method } from '../../methods/types.ts';
import { windowsIn } from './evaluate.ts';
import { bestOf } from './goal.ts';
import { measureSingle, singles } from './singles.ts';
import { tinyEvaluator } from './tune.testing.ts';

const tiny = tinyEvaluator();

const single = { method: 'snapkv', at: (keep: number) => `snapkv(keep=${keep}, width=15)` };

test.each([0.2, 0.5, 0.8])('a share is found that fills a limit to within a page: %f', async part => {
  const full = (await tiny().measure('full')).held;
  const goal = { memory: part * full };
  const best = bestOf(goal, (await measureSingle(tiny(), single, goal)).measured)!;
  expect(best.held).toBeLessThanOrEqual(goal.memory);
  // Pages have 64 of 528 entries.
  expect(best.held).toBeGreaterThan(goal.memory - full * (66 / 528));
});

test('at an agreement the least share comes up that was seen to meet it', async () => {
  const goal = { agreement: 0.6 };
  const { measured, over } = await measureSingle(tiny(), single, goal);
  expect(measured.length + over.length).toBeGreaterThan(1);
  for (const one of over) expect(one.agreement).toBeLessThan(0.6);
  const best = bestOf(goal, measured);
  for (const one of measured) if (one.agreement >= 0.6) expect(best!.held).toBeLessThanOrEqual(one.held);
});

test('what the model cannot have measures nothing', async () => {
  const none = { method: 'none', ladder: ['kvtuner(pairs="k8v4*99")'] };
  expect(await measureSingle(tiny(), none, { memory: 1 })).toEqual({ measured: [], over: [] });
});

describe('a ladder', () => {
  const ladder = [8, 4, 3, 2].map(bits => `kivi(bits=${bits}, residual=64)`);
  test('ends where two settings fit into a limit of bytes', async () => {
    const held = (await tiny().measure(ladder[1]!)).held;
    const { measured, over } = await measureSingle(tiny(), { method: 'kivi', ladder }, { memory: held });
    expect(over.map(({ recipe }) => recipe)).toEqual(ladder.slice(0, 1));
    expect(measured.map(({ recipe }) => recipe)).toEqual(ladder.slice(1, 3));
  });
  test('ends at the first setting that misses an agreement', async () => {
    const all = [];
    for (const recipe of ladder) all.push(await tiny().measure(recipe));
    const goal = { agreement: all[1]!.agreement };
    const misses = all.findIndex(({ agreement }) => agreement < goal.agreement);
    const { measured, over } = await measureSingle(tiny(), { method: 'kivi', ladder }, goal);
    expect([...measured, ...over]).toEqual(misses < 0 ? all : all.slice(0, misses + 1));
  });
  test('what misses an agreement by far, or holds more than what is known to meet it, is looked at on one window only', async () => {
    const [first, second] = [await tiny().measure(ladder[0]!), await tiny().measure(ladder[1]!)];
    const poor = await tiny().measure('streaming-llm(keep=0.02)');
    const goal = { agreement: 1 };
    expect(poor.agreement).toBeLessThan(0.9);
    const alone = await measureSingle(tiny(), { method: 'streaming-llm', ladder: [poor.recipe, ladder[0]!] }, goal);
    expect(alone).toEqual({ measured: [], over: [poor] });
    const low = { agreement: 0.01 };
    const { measured, over } = await measureSingle(tiny(), { method: 'kivi', ladder }, low, second.held);
    expect(over).toEqual([first]);
    expect(measured[0]).toEqual(second);
  });
});

test('every registered method but the controls takes part, and every setting can be read', () => {
  const all = singles();
  const names = (METHODS as readonly Method[]).filter(({ family }) => family !== 'control').map(({ name }) => name);
  expect(all.map(({ method }) => method)).toEqual(names);
  for (const single of all)
    for (const recipe of 'at' in single ? [single.at(0.123), single.at(1)] : single.ladder)
      expect(parseRecipe(recipe).map(({ method }) => method)).toEqual([single.method]);
});

test('windows do not overlap; a text without room for one is refused', () => {
  const tokens = Array.from({ length: 1000 }, (_, i) => i);
  expect(windowsIn(tokens, 300, 4).map(window => [window[0], window.length])).toEqual([
    [0, 300],
    [350, 300],
    [700, 300],
  ]);
  expect(windowsIn(tokens, 1000, 4)).toEqual([tokens]);
  expect(() => windowsIn(tokens, 1001, 1)).toThrow(/too short/);
});
