import { describe, expect, test } from 'vitest';
import { PlainCache, plainModel, plainPrompt, plainRandom } from '../testing.ts';
import { attentionOf, best, differences, range } from '../testing-cards.ts';
import { SHAPES } from '../testing-policy.ts';
import type { Action, ColumnAction, ModelShape, ParkAction, PromptText, Segment } from '../types.ts';
import { actqkv } from './actqkv.ts';

const make = (options: object, model: ModelShape = plainModel()) => actqkv.create(actqkv.options.parse(options), model);
const parks = (actions: readonly Action[]): ParkAction[] => actions.filter(action => action.do === 'park');

describe.each(SHAPES)('%o', shape => {
  test.each([0, 1, 63, 64, 65, 130])('%i tokens: blocks and their representatives by the card', rows => {
    const model = plainModel(shape);
    const cache = new PlainCache(model);
    const prompt = plainPrompt(model, rows, plainRandom(rows));
    const policy = make({ block: 8, sinks: 4, local: 20, representatives: 3 }, model);
    const actions = cache.prompt(policy, prompt);
    const blocks = Math.max(0, Math.floor((rows - 24) / 8));
    actions.forEach((of, layer) => {
      expect(parks(of)).toHaveLength(blocks > 0 ? model.kvHeads : 0);
      const attention = attentionOf(model, prompt[layer]!);
      const scores = range(rows).map(i => attention.reduce((sum, m) => sum + m.reduce((a, row) => a + row[i]!, 0), 0));
      for (const { units, index } of parks(of)) {
        expect(units.map(unit => [...unit])).toEqual(range(blocks).map(b => range(8).map(i => 4 + 8 * b + i)));
        if (index?.kind !== 'representatives') throw new Error('no representatives');
        index.entries.forEach((entries, b) => {
          const from = 4 + 8 * b;
          const expected = best(scores.slice(from, from + 8), 3).map(i => from + i);
          expect(entries).toHaveLength(3);
          expect(differences(entries, expected, scores)).toEqual([]);
        });
      }
    });
  });
});

test('attention goes on being added up over windows', () => {
  const model = plainModel({ layers: 1 });
  const cache = new PlainCache(model);
  const policy = make({ local: 200 }, model);
  const last = (actions: readonly (readonly Action[])[]) =>
    actions[0]!.find((action): action is ColumnAction => action.do === 'column')!;
  const first = last(cache.prompt(policy, plainPrompt(model, 30, plainRandom(1))));
  const second = last(cache.prompt(policy, plainPrompt(model, 30, plainRandom(2))));
  for (const [head, values] of second.values.entries()) {
    expect(values).toHaveLength(60);
    for (let i = 0; i < 30; i++) expect(values[i]!).toBeGreaterThanOrEqual(first.values[head]![i]!);
    // Each of the queries of the group gives 1 in all.
    expect(values.reduce((a, b) => a + b, 0)).toBeCloseTo(60 * model.group, 3);
  }
});

describe('the question', () => {
  const asked = (options: object, count: number, segments: readonly Segment[] = [], start = 0) => {
    const at: PromptText = {
      model: plainModel(),
      tokens: Uint32Array.from({ length: count }, (_, i) => i),
      start,
      segments,
      tokenize: () => [],
      state: init => init(),
    };
    const tokens = make({ window: 64, ...options }).probe?.(at, []) ?? null;
    return tokens && [...Array.from(tokens)];
  };
  const turn = (from: number, to: number): Segment => ({ kind: 'turn', from, to });

  test('is the end of a prompt of more than a window', () => {
    expect(asked({}, 65)).toEqual(range(32).map(i => 33 + i));
    expect(asked({ question: 5 }, 300)).toEqual([295, 296, 297, 298, 299]);
    for (const count of [0, 1, 63, 64]) expect(asked({}, count)).toBeNull();
    expect(asked({}, 300, [], 236)).toBeNull();
    expect(asked({ question: 200 }, 300, [], 200)).toEqual(range(100).map(i => 200 + i));
  });

  test('is the last turn of several, where it is no longer than a window', () => {
    expect(asked({}, 300, [turn(0, 250), turn(250, 300)])).toEqual(range(50).map(i => 250 + i));
    expect(asked({ question: 9 }, 300, [turn(0, 100), turn(100, 300)])).toEqual(range(9).map(i => 291 + i));
    expect(asked({ question: 9 }, 300, [turn(0, 300)])).toEqual(range(9).map(i => 291 + i));
  });

  test('is nobody’s business without a weight', () => {
    expect(make({ weight: 0 }).probe).toBeUndefined();
    expect(make({}).retrieve!(0)!.question).toBe(4);
  });
});
