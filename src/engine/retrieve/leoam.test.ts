import { expect, test } from 'vitest';
import { boundsOf } from '../../cache/unit-index.ts';
import { plainRandom } from '../../methods/testing.ts';
import { chooseHalving, type HalvingSource } from './halving.ts';
import { boundOf } from './score.ts';

/** LeoAM's card on keys with bounds as they are computed: what is found, and how little is read to find it. */

const [D, SIZE, HALVINGS] = [16, 32, 5];
const random = plainRandom(21);
const normal = () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
const range = (n: number) => Array.from({ length: n }, (_, i) => i);

/** Keys that drift, so that neighbours are alike, and a query that some of them answer. */
function drawn(chunks: number) {
  const keys = new Float32Array(chunks * SIZE * D);
  const place = range(D).map(normal);
  for (let token = 0; token < chunks * SIZE; token++)
    for (let c = 0; c < D; c++) {
      place[c] = 0.98 * place[c]! + 0.2 * normal();
      keys[token * D + c] = place[c]! + 0.1 * normal();
    }
  const query = Float32Array.from({ length: D }, normal);
  const scores = range(chunks * SIZE).map(token =>
    range(D).reduce((sum, c) => sum + query[c]! * keys[token * D + c]!, 0),
  );
  return { keys, query, scores };
}

type Drawn = ReturnType<typeof drawn>;
function sourceOf({ keys, query }: Drawn, chunks: number): HalvingSource & { pairs: number } {
  const both = (unit: number, level: number, piece: number): readonly [number, number] => {
    const rows = SIZE >> level;
    const from = unit * SIZE + piece * rows;
    const bounds = Float32Array.from(boundsOf(keys, D, from, from + rows));
    return [boundOf(query, 0, bounds, 0, D), boundOf(query, 0, bounds, 0, D, 'lower')];
  };
  return {
    pairs: 0,
    count: chunks,
    halvings: HALVINGS,
    bounds: unit => both(unit, 0, 0),
    pair(unit, level, piece) {
      this.pairs++;
      return [both(unit, level, piece), both(unit, level, piece + 1)];
    },
    rows: (_, level) => SIZE >> level,
  };
}

test('bounds hold for every key; a split never raises the upper one nor lowers the lower one', () => {
  const given = drawn(20);
  const source = sourceOf(given, 20);
  for (const unit of range(20)) {
    const [upper, lower] = source.bounds(unit);
    for (const row of range(SIZE)) {
      expect(given.scores[unit * SIZE + row]!).toBeLessThanOrEqual(upper + 1e-5);
      expect(given.scores[unit * SIZE + row]!).toBeGreaterThanOrEqual(lower - 1e-5);
    }
    for (const [high, low] of source.pair(unit, 1, 0)) {
      expect(high).toBeLessThanOrEqual(upper + 1e-6);
      expect(low).toBeGreaterThanOrEqual(lower - 1e-6);
    }
  }
});

test('down to single tokens: the dense best of all, with fewer bounds looked at than there are keys', () => {
  const chunks = 64;
  for (const _ of range(5)) {
    const given = drawn(chunks);
    const source = sourceOf(given, chunks);
    const count = 100;
    const chosen = chooseHalving(source, count, () => false);
    const best = range(chunks * SIZE).sort((a, b) => given.scores[b]! - given.scores[a]!);
    const least = given.scores[best[count - 1]!]!;
    expect(chosen).toHaveLength(count);
    for (const token of chosen) expect(given.scores[token]!).toBeGreaterThanOrEqual(least - 1e-4);
    // A bound takes two rows of a key's size.
    expect(2 * (chunks + 2 * source.pairs)).toBeLessThan(chunks * SIZE);
  }
});

test('as many of the best tokens for fewer rows than whole chunks by their upper bounds', () => {
  const chunks = 64;
  let [halved, whole] = [0, 0];
  for (const _ of range(10)) {
    const given = drawn(chunks);
    const source = sourceOf(given, chunks);
    const best = new Set(range(chunks * SIZE).sort((a, b) => given.scores[b]! - given.scores[a]!).slice(0, 60)); // biome-ignore format: one thought
    const chosen = chooseHalving(source, 60, () => false);
    const found = [...chosen].filter(token => best.has(token)).length;
    halved += 60;
    const order = range(chunks).sort((a, b) => source.bounds(b)[0] - source.bounds(a)[0]);
    for (let [n, have] = [0, 0]; have < found; n++) {
      have += range(SIZE).filter(row => best.has(order[n]! * SIZE + row)).length;
      whole += SIZE;
    }
  }
  expect(halved).toBeLessThan(0.7 * whole);
});
