import { expect, test } from 'vitest';
import type { CacheSequence } from '../../cache/sequence.ts';
import { plainModel } from '../../methods/testing.ts';
import { AtLayer } from './at.ts';

const of = (given: { seed?: number; layer?: number; seen?: number; key?: string } = {}) =>
  new AtLayer({
    sequence: {} as CacheSequence,
    model: plainModel(),
    layer: 0,
    seen: 64,
    key: '0:random',
    seed: 7,
    ...given,
  });
const draws = (at: AtLayer) => {
  const random = at.random();
  return Array.from({ length: 8 }, () => random());
};

test('draws are the same for the same point, others for any other', () => {
  expect(draws(of())).toEqual(draws(of()));
  const points = [of(), of({ seed: 8 }), of({ layer: 1 }), of({ key: '1:random' })];
  for (let seen = 0; seen < 64; seen++) points.push(of({ seen }));
  expect(new Set(points.map(at => draws(at)[0]!)).size).toBe(points.length);
});

test('an entry at the same place gets a new draw each time more has been seen', () => {
  // Kept where its draw is in the upper half: after 8 chunks 1 in 256 of 8 * 500 places; 1 in 2 if draws repeated.
  let survivors = 0;
  for (let seed = 0; seed < 500; seed++) {
    const alive = Array.from({ length: 8 }, () => true);
    for (let chunk = 1; chunk <= 8; chunk++)
      for (const [place, draw] of draws(of({ seed, seen: 512 * chunk })).entries())
        if (draw < 0.5) alive[place] = false;
    survivors += alive.filter(Boolean).length;
  }
  expect(survivors / 4000).toBeGreaterThan(0.0005);
  expect(survivors / 4000).toBeLessThan(0.01);
});
