import { expect, test } from 'vitest';
import { PlainCache, plainModel, plainPrompt, plainRandom } from '../testing.ts';
import type { FilledLayer, ParkAction, PromptLayer } from '../types.ts';
import { louiskv } from './louiskv.ts';

const range = (n: number) => Array.from({ length: Math.max(0, n) }, (_, i) => i);
const model = plainModel({ layers: 1, kvHeads: 2 });
const make = (given: object = {}) => louiskv.create(louiskv.options.parse(given), model);

test.each([0, 1, 4, 68, 69, 130, 300])('%i tokens: everything between sinks and buffer lies in one unit', n => {
  const actions = new PlainCache(model).prompt(make(), plainPrompt(model, n, plainRandom(n))) as ParkAction[][];
  expect(actions[0]!.length).toBe(n > 68 ? 2 : 0);
  for (const { units, place } of actions[0]!) {
    expect(units.flatMap(unit => [...unit]).sort((a, b) => a - b)).toEqual(range(n - 68).map(i => 4 + i));
    for (const unit of units) expect([...unit]).toEqual([...unit].sort((a, b) => a - b));
    expect(units.length).toBeLessThanOrEqual(Math.ceil((n - 68) / 16));
    expect(place).toBe('memory');
  }
});

test('clusters are those of the signal: near keys share a unit', () => {
  const prompt = plainPrompt(model, 200, plainRandom(9));
  const { k } = prompt[0]!;
  // Four bunches of keys, token t in bunch t mod 4.
  k.forEach((x, i) => {
    const [t, c] = [Math.floor(i / 16), i % 8];
    k[i] = 0.05 * x + (c === t % 4 ? 9 : 0);
  });
  const policy = make({ sinks: 0, recent: 0, size: 10, rounds: 5 });
  for (const { units } of new PlainCache(model).prompt(policy, prompt)[0] as ParkAction[]) {
    for (const unit of units) expect(new Set(Array.from(unit, i => i % 4)).size).toBe(1);
  }
});

test('decoded tokens leave the buffer in whole stretches; what has been fetched is left alone', () => {
  const policy = make({ size: 10, recent: 32, sinks: 4, place: 'file' });
  const cache = new PlainCache(model);
  const none = { ...policy, decide: () => [] };
  cache.prompt(none, plainPrompt(model, 100, plainRandom(1)));
  const resident = (fetched: number): FilledLayer => ({ ...cache.at(0), exact: () => [[fetched, 100]] });
  const parked = (at: FilledLayer) =>
    (policy.filled!(at) as ParkAction[]).map(({ units }) => units.map(unit => [...unit]));
  expect(parked(resident(0))[1]).toEqual(range(6).map(u => range(10).map(i => 4 + 10 * u + i)));
  expect(parked(resident(30))[0]).toEqual(range(3).map(u => range(10).map(i => 34 + 10 * u + i)));
  expect(parked(resident(60))).toEqual([]);

  const signal = () => range(2).map(() => ({ assignment: Uint32Array.from(range(64), i => i % 3), count: 3 }));
  const at = { ...resident(30), rows: 10, last: true, signal } as unknown as PromptLayer;
  for (const { units, place } of policy.decide!(at) as ParkAction[]) {
    expect(place).toBe('file');
    expect(units.flatMap(unit => [...unit]).sort((a, b) => a - b)).toEqual(range(34).map(i => 34 + i));
  }
  expect(policy.decide!({ ...at, last: false })).toEqual([]);
});

test('reads units under the budget, anew when the query turns', () => {
  const rule = (tokens: number, cosine: number, most: number) => ({
    units: 'parked',
    score: { by: 'mean' },
    per: 'head',
    choose: { by: 'tokens', tokens },
    renew: { cosine, most },
    prompt: { window: 32 },
  });
  expect(make().retrieve!(0)).toEqual(rule(512, 0.7, 64));
  expect(make({ tau: 2, budget: 1024, most: 1 }).retrieve!(0)).toEqual(rule(1024, 2, 1));
  expect(make().sense!(0)).toEqual([{ signal: 'clusters', size: 16, rounds: 4, skipFirst: 4, skipLast: 64 }]);
});
