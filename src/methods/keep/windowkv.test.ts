import { describe, expect, test } from 'vitest';
import { PlainCache, plainModel, plainPrompt, plainRandom } from '../testing.ts';
import { best, differences, type Matrix, range } from '../testing-cards.ts';
import { held, keeps, lengths, runPlain, SHAPES, SIZES } from '../testing-policy.ts';
import { fallingBudgets } from './falling.ts';
import { snapkv } from './snapkv.ts';
import { windowkv } from './windowkv.ts';

const sum = (x: readonly number[]) => x.reduce((a, b) => a + b, 0);
const mean = (x: readonly number[]) => sum(x) / x.length;

/** Steps 4 to 6 of the card, straight from the attention of the layer that scores. */
function card(attention: readonly Matrix[], task: 'localise' | 'aggregate', w: number, size: number, budget: number) {
  const n = attention[0]!.length;
  const candidates = Math.max(0, n - w);
  const runs = range(Math.ceil(candidates / size));
  const members = (run: number) => range(size).map(i => run * size + i).filter(i => i < candidates); // biome-ignore format: short
  const scores = runs.map(run =>
    mean(
      attention.map(matrix => {
        const values = members(run).map(i => sum(matrix.slice(-w).map(row => row[i]!)));
        return mean(task === 'aggregate' ? values : values.sort((a, b) => b - a).slice(0, size / 2));
      }),
    ),
  );
  const drop = Math.max(0, Math.ceil((candidates - budget) / size));
  return { scores, runs: best(scores, runs.length - drop), members };
}

describe.each(SHAPES)('%o', shape => {
  test.each(SIZES.flatMap(rows => (['localise', 'aggregate'] as const).map(task => [rows, task] as const)))(
    '%i tokens, to %s: the runs of the card',
    (rows, task) => {
      const { cache, attention } = runPlain(windowkv, { keep: 0.4, window: 10, task, layers: 1 }, rows, shape);
      const b = Math.max(10, Math.floor(0.4 * rows)) - 10;
      const budgets = fallingBudgets(Array(shape.layers).fill(1), b, Math.floor(b / 14), Math.max(0, rows - 10));
      held(cache).forEach((heads, layer) => {
        const expected = card(attention[layer]!, task, 10, 8, budgets[layer]!);
        const kept = heads[0]!.filter(i => i < rows - 10);
        const runs = [...new Set(kept.map(i => Math.floor(i / 8)))];
        expect(runs).toHaveLength(expected.runs.length);
        expect(differences(runs, expected.runs, expected.scores)).toEqual([]);
        expect(heads[0]).toEqual([...runs.flatMap(expected.members), ...range(rows).slice(-10)]);
        for (const head of heads) expect(head).toEqual(heads[0]);
      });
    },
  );
});

test('what is kept before the last queries are whole runs of eight, ascending; the odd run at the end may be shorter', () => {
  for (const rows of [203, 300, 301]) {
    const { cache } = runPlain(windowkv, { keep: 0.3 }, rows, { layers: 4 });
    for (const heads of held(cache)) {
      const kept = heads[0]!.filter(i => i < rows - 32);
      for (const i of kept)
        for (const j of range(8).map(c => i - (i % 8) + c)) if (j < rows - 32) expect(kept).toContain(j);
      expect(kept).toEqual([...kept].sort((a, b) => a - b));
      expect(heads[0]!.slice(-32)).toEqual(range(32).map(i => rows - 32 + i));
    }
  }
});

test('layers of a group hold the same; only the first of each asks for scores', () => {
  const layers = 10;
  const { cache, policy } = runPlain(windowkv, { keep: 0.3, layers: 4 }, 400, { layers });
  const asked = range(layers).filter(layer => policy.sense!(layer).length > 0);
  expect(asked).toEqual([0, 4, 8]);
  const sets = held(cache).map(heads => JSON.stringify(heads));
  range(layers).forEach(layer => {
    expect(sets[layer]).toBe(sets[layer - (layer % 4)]);
  });
  expect(new Set(sets).size).toBe(3);
});

test('where a group mixes sliding and full attention, the first layer of each kind scores', () => {
  const model = { ...plainModel({ layers: 6 }), layerWindow: [64, 0, 64, 64, 0, 64] };
  const policy = windowkv.create(windowkv.options.parse({ keep: 0.3, layers: 4 }), model);
  expect(range(6).filter(layer => policy.sense!(layer).length > 0)).toEqual([0, 1, 4, 5]);
  const cache = new PlainCache(model);
  cache.prompt(policy, plainPrompt(model, 300, plainRandom(1)));
  const sets = held(cache).map(heads => JSON.stringify(heads));
  expect([sets[2], sets[3]]).toEqual([sets[0], sets[0]]);
  expect(sets[1]).not.toBe(sets[0]);
});

describe('budgets', () => {
  test('of the public code where the groups are alike', () => {
    // last = floor(b m / 14), first = 2b - last, step = floor((first - last) / (groups - 1)), as released.
    expect(fallingBudgets([8, 8, 8, 8], 1000, 571, 1e6)).toEqual([1429, 1143, 857, 571]);
    // The last group has its own budget also where the steps do not come out even.
    expect(fallingBudgets([1, 1, 1, 1], 60, 8, 1e6)).toEqual([112, 78, 44, 8]);
  });

  test('fall, have the mean within one step, and fit what there is', () => {
    const random = plainRandom(5);
    for (let round = 0; round < 500; round++) {
      const sizes = range(1 + Math.floor(random() * 6)).map(() => 1 + Math.floor(random() * 8));
      const layers = sum(sizes);
      const room = 1 + Math.floor(random() * 300);
      const b = Math.floor(random() * room);
      const budgets = fallingBudgets(sizes, b, Math.floor(random() * 1.5 * b), room);
      budgets.forEach((budget, g) => {
        expect(budget).toBeLessThanOrEqual(g > 0 ? budgets[g - 1]! : room);
        expect(budget).toBeGreaterThanOrEqual(0);
      });
      expect(Math.abs(sum(budgets.map((x, g) => x * sizes[g]!)) / layers - b)).toBeLessThanOrEqual(sizes.length + 1);
    }
  });

  test.each([8, 10, 30])(
    '%i layers: what is held is the budget within seven tokens a layer and the rounding',
    layers => {
      const { cache } = runPlain(windowkv, { keep: 0.4 }, 500, { layers, kvHeads: 1, group: 1 });
      const kept = lengths(cache).map(heads => heads[0]!);
      expect(Math.abs(mean(kept) - 200)).toBeLessThanOrEqual(8 + Math.ceil(layers / 8));
    },
  );
});

test('a cache within the budget is left alone, in all layers of all groups; a budget below the window keeps the window', () => {
  expect(runPlain(windowkv, { budget: 100, layers: 2 }, 100, { layers: 5 }).actions.flat()).toEqual([]);
  expect(lengths(runPlain(windowkv, { budget: 3 }, 100).cache).flat()).toEqual([32, 32, 32, 32]);
  expect(windowkv.create(windowkv.options.parse({ keep: 1 }), plainModel())).toEqual({});
});

test('a sentence stays or goes in whole runs, where tokens chosen one by one tear it', () => {
  const rows = 400;
  const torn = (cache: PlainCache) =>
    held(cache)
      .flat()
      .map(kept => range(45).filter(run => [0, 8].every(n => kept.filter(i => i >> 3 === run).length !== n)).length);
  expect(torn(runPlain(windowkv, { keep: 0.2, layers: 1 }, rows).cache)).toEqual([0, 0, 0, 0]);
  for (const count of torn(runPlain(snapkv, { keep: 0.2, width: 1 }, rows).cache)) expect(count).toBeGreaterThan(5);
});

test('24 tokens that the question looks at, some hardly, stay whole', () => {
  const model = plainModel({ layers: 2, kvHeads: 1, group: 1 });
  const rows = 400;
  const prompt = plainPrompt(model, rows, plainRandom(12), 1);
  for (const { q, k } of prompt)
    for (let i = 0; i < 24; i++)
      // Every third token of the sentence has a key towards what the last queries look for; the others are text like any.
      if (i % 3 === 0) {
        for (let r = rows - 32; r < rows; r++) q[r * 8] = 6;
        k[(160 + i) * 8] = 6;
      }
  const run = (method: typeof windowkv | typeof snapkv, options: object) => {
    const cache = new PlainCache(model);
    cache.prompt(method.create(method.options.parse(options) as never, model), prompt);
    return held(cache).flat().map(kept => kept.filter(i => i >= 160 && i < 184).length); // biome-ignore format: short
  };
  expect(run(windowkv, { budget: 80, layers: 1, beta: 1 })).toEqual([24, 24]);
  for (const count of run(snapkv, { budget: 80, width: 1 })) expect(count).toBeLessThan(24);
});

test('a second turn chooses anew among all that is left, and nothing is carried over', () => {
  const model = plainModel({ layers: 4 });
  const cache = new PlainCache(model);
  const policy = windowkv.create(windowkv.options.parse({ budget: 60, layers: 2 }), model);
  cache.prompt(policy, plainPrompt(model, 200, plainRandom(1)));
  const state = { chosen: 'unset' };
  expect(cache.at(0).state(() => state)).toEqual({ chosen: [] });
  const actions = cache.prompt(policy, plainPrompt(model, 50, plainRandom(2)));
  expect(actions.flatMap(keeps)).toHaveLength(4);
  for (const heads of held(cache)) {
    expect(heads[0]!.slice(-32)).toEqual(range(32).map(i => 218 + i));
    expect(heads[0]!.length).toBeLessThan(60 * 2);
  }
  expect(held(cache)[0]).toEqual(held(cache)[1]);
});
