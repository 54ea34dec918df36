import { describe, expect, test } from 'vitest';
import { layerBudgets } from '../shared/layer-budgets.ts';
import { PlainCache, plainModel, plainPrompt, plainRandom } from '../testing.ts';
import { held, SHAPES } from '../testing-policy.ts';
import { plainProbabilities } from '../testing-signals.ts';
import type { ModelShape, Policy, PromptText, Segment } from '../types.ts';
import { epicache, sensitivity } from './epicache.ts';
import { episodesOf, evenPassages, INSTRUCTION, route } from './episodes.ts';

const make = (options: object, model: ModelShape, profile?: unknown): Policy =>
  epicache.create(epicache.options.parse(options), model, profile);

function textOf(cache: PlainCache, tokens: number, segments: readonly Segment[] = []): PromptText {
  return {
    model: cache.model,
    tokens: Uint32Array.from({ length: tokens }, (_, i) => i),
    start: 0,
    segments,
    tokenize: text => [...text].map(character => 10_000 + character.charCodeAt(0)),
    state: init => cache.at(0).state(init),
  };
}

/** Two directions: passages before `border` have one, the others the other. */
const embeddings = (count: number, border: number) =>
  Array.from({ length: count }, (_, i) => Float32Array.of(...(i < border ? [1, 0.01 * i] : [0.01 * i, 1])));

describe('the probe', () => {
  const cache = () => new PlainCache(plainModel());
  const instruction = INSTRUCTION.length;

  test('is the instruction and the nearest passages of the episode of the question, in order', () => {
    const at = textOf(cache(), 10 * 16 + 8);
    const policy = make({ episodes: 2, segment: 16, question: 8, nearest: 3, block: 64 }, at.model);
    const passages = policy.passages!(at);
    expect(passages).toEqual([...Array.from({ length: 10 }, (_, i) => [i * 16, i * 16 + 16]), [160, 168]]);
    const probe = [...Array.from(policy.probe!(at, [...embeddings(10, 4), Float32Array.of(1, 0)])!)];
    expect(probe.slice(0, instruction)).toEqual(at.tokenize(INSTRUCTION));
    const own = probe.slice(instruction);
    expect(own).toHaveLength(48);
    expect(own.every(token => token < 64)).toBe(true);
    expect(own).toEqual([...own].sort((a, b) => a - b));
    const other = [...Array.from(policy.probe!(at, [...embeddings(10, 4), Float32Array.of(0, 1)])!)];
    expect(other.slice(instruction).every(token => token >= 64 && token < 160)).toBe(true);
  });

  test('of a given episode: all of the prompt is history; there may be fewer episodes than asked for', () => {
    const at = textOf(cache(), 100);
    const policy = make({ episodes: 8, segment: 50, episode: 7, nearest: 1 }, at.model);
    expect(policy.passages!(at)).toEqual([
      [0, 50],
      [50, 100],
    ]);
    expect(policy.probe!(at, embeddings(2, 1))).toHaveLength(instruction + 50);
  });

  test('turns are passages where the prompt names them, the last one is the question', () => {
    const turn = (from: number, to: number): Segment => ({ kind: 'turn', from, to });
    const segments = [
      { kind: 'system', from: 0, to: 5 } as const,
      turn(5, 20),
      turn(20, 40),
      turn(40, 47),
      turn(47, 60),
    ];
    const at = textOf(cache(), 64, segments);
    expect(make({ utterances: 2 }, at.model).passages!(at)).toEqual([
      [5, 40],
      [40, 47],
      [47, 64],
    ]);
  });

  test('without any history there is none', () => {
    const at = textOf(cache(), 20);
    const policy = make({}, at.model);
    expect(policy.probe!(at, [Float32Array.of(1, 0)])).toBeNull();
  });

  test('passages cover everything, a short rest joins the last', () => {
    for (const end of [0, 1, 15, 16, 17, 23, 24, 25, 64, 65]) {
      const ranges = evenPassages(end, 16);
      expect(ranges.reduce((sum, [from, to]) => sum + to - from, 0)).toBe(end);
      for (const [i, [from, to]] of ranges.entries()) {
        expect(from).toBe(i === 0 ? 0 : ranges[i - 1]![1]);
        expect(to - from).toBeLessThan(24);
      }
    }
  });

  test('episodes are the same whoever asks', () => {
    const found = episodesOf(embeddings(30, 11), 2);
    expect(episodesOf(embeddings(30, 11), 2)).toEqual(found);
    expect(found.members[route(found, [1, 0])]!.toSorted((a, b) => a - b)).toEqual([...Array(11).keys()]);
  });
});

describe.each(SHAPES)('%j', shape => {
  test.each([
    ['layer', 63],
    ['head', 64],
    ['layer', 130],
  ] as const)('per %s, %i tokens: the best by the softmax of probe rows over what is cached', (per, rows) => {
    const model = plainModel(shape);
    const cache = new PlainCache(model, rows);
    const [budget, sinks, question] = [20, 2, 6];
    const similarity = Array.from({ length: model.layers }, (_, l) => 1 - 0.1 * l);
    const profile = {
      kind: 'epicache',
      fingerprint: 'plain',
      layers: similarity.map(s => ({ similarity: s })),
    };
    const policy = make({ budget, sinks, question, segment: 16, per, block: 64 }, model, profile);
    const at = textOf(cache, rows);
    const passages = policy.passages!(at);
    policy.probe!(at, embeddings(passages.length, 2));
    cache.seen = rows;
    const random = plainRandom(rows);
    const prompt = plainPrompt(model, rows, random);
    const probe = plainPrompt(model, 9, random);
    const after = Int32Array.from({ length: 9 }, (_, i) => rows + i);
    const budgets = layerBudgets(sensitivity(similarity, 1.1), budget, 0.25);
    for (let layer = 0; layer < model.layers; layer++) {
      cache.append(
        layer,
        prompt[layer]!,
        Int32Array.from({ length: rows }, (_, i) => i),
      );
      const scene = {
        headDim: model.headDim,
        group: model.group,
        window: 0,
        views: cache.views,
        layer,
        q: probe[layer]!.q,
        rowPositions: after,
        hidden: new Float64Array(0),
      };
      const all = Array.from({ length: model.kvHeads }, (_, head) =>
        Array.from({ length: rows }, (_, i) => {
          if (i < sinks || i >= rows - question) return { head, i, value: Number.POSITIVE_INFINITY };
          let value = 0;
          for (let g = 0; g < model.group; g++)
            for (let row = 0; row < 9; row++)
              value = Math.max(value, plainProbabilities(scene, head * model.group + g, row)[i]!);
          return { head, i, value };
        }),
      );
      const take = (list: (typeof all)[0], count: number) => {
        const safe = list.filter(({ value }) => value === Number.POSITIVE_INFINITY).length;
        return list.toSorted((a, b) => b.value - a.value).slice(0, Math.max(safe, count));
      };
      const kept =
        per === 'head'
          ? all.flatMap(list => take(list, budgets[layer]!))
          : take(all.flat(), budgets[layer]! * model.kvHeads);
      cache.apply(policy.decide!(cache.promptLayer(layer, probe[layer]!, after, policy.sense!(layer))));
      const expected = all.map((_, head) =>
        kept
          .filter(entry => entry.head === head)
          .map(({ i }) => i)
          .sort((a, b) => a - b),
      );
      expect(held(cache)[layer]).toEqual(expected);
    }
  });
});

test('layers whose keys change more weigh more; equal ones, and no profile, alike', () => {
  expect(sensitivity([0.9, 0.5, 0.7], 1)).toEqual([0, 1, expect.closeTo(0.5)]);
  expect(sensitivity([0.9, 0.9], 1.1)).toEqual([1, 1]);
  expect(sensitivity([0.9, 0.5], 0)).toEqual([1, 1]);
});

test('a profile of another model, and one with other layers, are refused', () => {
  const model = plainModel();
  const profile = { kind: 'epicache', fingerprint: 'plain', layers: [{ similarity: 1 }, { similarity: 0.5 }] };
  expect(() => make({}, model, { ...profile, fingerprint: 'x' })).toThrow(/profile/);
  expect(() => make({}, model, { ...profile, layers: [{ similarity: 1 }] })).toThrow(/layers/);
  expect(() => make({}, model, { ...profile, layers: [{ similarity: 2 }, { similarity: 0 }] })).toThrow(/similarity/);
});
