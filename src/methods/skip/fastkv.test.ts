import { describe, expect, test } from 'vitest';
import { snapkv } from '../keep/snapkv.ts';
import { plainModel, plainPrompt, plainRandom } from '../testing.ts';
import { attentionOf, best, differences, keepTop, range, windowScores } from '../testing-cards.ts';
import { held, lengths, runPlain, SHAPES, SIZES } from '../testing-policy.ts';
import { fastkv } from './fastkv.ts';

const how = (kvHeads: number) => ({ w: 8, kvHeads, rows: 'sum', kind: 'max', width: 7, group: 'sum' }) as const;

describe.each([...SHAPES, { layers: 6, kvHeads: 2, group: 2 }])('%o', shape => {
  test.each(SIZES)('%i tokens: sets, and the tokens that run on, of the card', rows => {
    const { layers, kvHeads } = shape;
    const { cache, attention, actions } = runPlain(fastkv, { keep: 0.2, rate: 0.4 }, rows, shape);
    const budget = Math.max(8, Math.floor(0.2 * rows));
    const turn = Math.floor(layers / 2) - 1;
    // Up to the turn every layer has all tokens.
    range(turn + 1).forEach(layer => {
      const scores = windowScores(attention[layer]!, how(kvHeads));
      keepTop(scores, rows, budget, 8).forEach((expected, head) => {
        expect(differences(held(cache)[layer]![head]!, expected, scores[head]!)).toEqual([]);
      });
    });
    const on = Math.max(budget, Math.floor(0.4 * rows));
    const action = actions[turn]!.find(({ do: name }) => name === 'rows');
    if (on >= rows) expect(action).toBeUndefined();
    else {
      const scores = windowScores(attention[turn]!, how(kvHeads));
      const total = scores[0]!.map((_, i) => scores.reduce((sum, head) => sum + head[i]!, 0));
      const expected = [...best(total, on - 8), ...range(8).map(i => rows - 8 + i)];
      const chosen = action?.do === 'rows' ? [...action.rows] : [];
      expect(chosen).toHaveLength(on);
      expect(differences(chosen, expected, total)).toEqual([]);
      for (const head of held(cache)
        .slice(turn + 1)
        .flat())
        expect(head.every(p => chosen.includes(p))).toBe(true);
    }
    for (const length of lengths(cache).flat()) expect(length).toBe(Math.min(rows, budget));
  });
});

test('layers after the turn score the shortened prompt, at true positions', () => {
  const shape = { layers: 4, kvHeads: 1, group: 2 };
  const { cache, actions } = runPlain(fastkv, { keep: 0.1, rate: 0.3, layer: 1 }, 200, { ...shape, seed: 9 });
  const action = actions[1]!.find(({ do: name }) => name === 'rows');
  const rows = action?.do === 'rows' ? [...action.rows] : [];
  const model = plainModel(shape);
  const tensor = plainPrompt(model, 200, plainRandom(9))[3]!;
  const pick = (x: Float64Array) =>
    Float64Array.from(rows.flatMap(r => [...x.subarray((r * x.length) / 200, ((r + 1) * x.length) / 200)]));
  const short = { q: pick(tensor.q), k: pick(tensor.k), v: pick(tensor.v), hidden: pick(tensor.hidden) };
  const [scores] = windowScores(attentionOf(model, short), how(1));
  const [expected] = keepTop([scores!], 60, 20, 8);
  const kept = held(cache)[3]![0]!.map(position => rows.indexOf(position));
  expect(differences(kept, expected!, scores!)).toEqual([]);
});

test('rate = 1 is SnapKV with window 8, sums and max pooling of 7', () => {
  const options = { budget: 40, window: 8, group: 'sum' };
  const run = runPlain(fastkv, { budget: 40, rate: 1 }, 150, { layers: 4 });
  expect(run.actions.flat().every(action => action.do === 'keep')).toBe(true);
  expect(held(run.cache)).toEqual(held(runPlain(snapkv, options, 150, { layers: 4 }).cache));
});

test('what is kept has run: a rate below the share kept is raised to it', () => {
  const { cache } = runPlain(fastkv, { keep: 0.5, rate: 0.1 }, 100, { layers: 4 });
  expect(lengths(cache).flat()).toEqual(Array(8).fill(50));
});

test('a later turn is appended in full', () => {
  const { cache, policy } = runPlain(fastkv, { keep: 0.2 }, 100, { layers: 4 });
  const actions = cache.prompt(policy, plainPrompt(cache.model, 30, plainRandom(1)));
  expect(actions.flat()).toEqual([]);
  for (const head of held(cache).flat()) {
    expect(head).toHaveLength(50);
    expect(head.slice(-30)).toEqual(range(30).map(i => 100 + i));
  }
});

test('a layer that the model has not is refused', () => {
  const options = fastkv.options.parse({ layer: 4 });
  expect(() => fastkv.create(options, plainModel({ layers: 4 }))).toThrow('fastkv: layer');
});
