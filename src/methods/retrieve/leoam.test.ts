import { describe, expect, test } from 'vitest';
import { PlainCache, plainModel, plainPrompt, plainRandom } from '../testing.ts';
import { range } from '../testing-cards.ts';
import { SHAPES } from '../testing-policy.ts';
import type { FilledLayer, ModelShape, ParkAction } from '../types.ts';
import { leoam } from './leoam.ts';

const make = (options: object = {}, model: ModelShape = plainModel()) =>
  leoam.create(leoam.options.parse(options), model);

describe.each(SHAPES)('%o', shape => {
  test.each([0, 1, 63, 64, 65, 68, 100, 101, 130, 300])(
    '%i tokens: whole chunks of all between sinks and recent ones, small in the early layers',
    rows => {
      const model = plainModel(shape);
      const policy = make({ early: 1, place: 'file', memory: 0.5 }, model);
      const actions = new PlainCache(model).prompt(
        policy,
        plainPrompt(model, rows, plainRandom(rows)),
      ) as ParkAction[][];
      for (const [layer, parks] of actions.entries()) {
        const size = layer === 0 ? 8 : 32;
        const chunks = Math.max(0, Math.floor((rows - 68) / size));
        expect(parks.map(({ head }) => head)).toEqual(chunks > 0 ? range(model.kvHeads) : []);
        for (const { units, index, place, memory } of parks) {
          expect(units.map(unit => [...unit])).toEqual(range(chunks).map(u => range(size).map(i => 4 + u * size + i)));
          expect({ index, place, memory }).toEqual({
            index: { kind: 'bounds', halvings: 3 },
            place: 'file',
            memory: 0.5,
          });
        }
      }
    },
  );
});

test('a chunk is halved no more often than it has tokens to part', () => {
  const halvings = (size: number, given: number) => {
    const cache = new PlainCache(plainModel({ layers: 1 }));
    const options = { early: 0, size, halvings: given, sinks: 0, recent: 0 };
    const [parks] = cache.prompt(make(options), plainPrompt(cache.model, 130, plainRandom(1))) as ParkAction[][];
    const { index } = parks![0]!;
    return index?.kind === 'bounds' ? index.halvings : null;
  };
  expect([halvings(1, 6), halvings(2, 6), halvings(3, 6), halvings(8, 6), halvings(100, 6)]).toEqual([0, 1, 1, 3, 6]);
  expect(halvings(32, 0)).toBe(0);
});

test('nothing goes before the end of a prompt; decoded tokens go when they fill chunks, what was fetched stays', () => {
  const cache = new PlainCache(plainModel({ layers: 1 }));
  const policy = make({ early: 0, size: 16, sinks: 4, recent: 20 }, cache.model);
  expect(cache.prompt(policy, plainPrompt(cache.model, 100, plainRandom(1)), false)).toEqual([[]]);
  const parked = (from: number) => {
    const at: FilledLayer = { ...cache.at(0), exact: () => [[from, 100]] };
    return (policy.filled!(at) as ParkAction[]).map(({ units }) => units.map(unit => unit[0]));
  };
  expect(parked(0)[1]).toEqual([4, 20, 36, 52]);
  expect(parked(40)[0]).toEqual([44, 60]);
  expect(parked(80)).toEqual([]);
});

test('reads a share of the tokens, more in the early layers, by bounds that are halved', () => {
  const rule = (share: number) => ({
    units: 'parked',
    score: { by: 'bounds' },
    per: 'head',
    choose: { by: 'halving', share, most: 400 },
    resident: 512,
    prompt: { window: 32 },
  });
  const policy = make();
  expect([0, 1, 2, 30].map(layer => policy.retrieve!(layer))).toEqual([rule(0.5), rule(0.5), rule(0.2), rule(0.2)]);
});
