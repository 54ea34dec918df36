import { afterAll, beforeAll, expect, test } from 'vitest';
import { testPath } from '../../../test/golden.ts';
import { openKernels, openLoaded } from '../../../test/models.ts';
import { force, Written } from '../../../test/recipes.ts';
import type { Kernels } from '../../backend/types.ts';
import { plainRandom } from '../../methods/testing.ts';
import type { LoadedModel } from '../loaded-model.ts';

let kernels: Kernels;
let model: LoadedModel;
let layers: number;
beforeAll(async () => {
  kernels = await openKernels(2);
  model = await openLoaded(kernels, testPath('models/qwen3'), { mode: 'exact', tile: 63 });
  layers = model.cache.shape.slots;
});
afterAll(async () => {
  await model.dispose();
  await kernels.dispose();
});

const tokens = (count: number, seed: number) => {
  const random = plainRandom(seed);
  return Array.from({ length: count }, () => 3 + Math.floor(random() * (model.info.vocab - 4)));
};
/** [layers][kvHeads] */
const chosenOf = ({ sequence }: Written) =>
  sequence
    .state<{ layers: { chosen: Uint32Array[] }[] }>('retrieval')!
    .layers.map(({ chosen }) => chosen.map(units => [...units]));
const countsOf = ({ run }: Written) => run.retrieval!.counts;
const louiskv = (tau: number, most = 64) => `louiskv(budget=64, recent=32, tau=${tau}, most=${most})`;

async function selections(tau: number, most: number, steps: number): Promise<number> {
  using written = new Written(model, louiskv(tau, most));
  await written.prompt(tokens(300, 1));
  expect(countsOf(written).selections).toBe(0);
  await force(written, tokens(steps, 2));
  return countsOf(written).selections;
}

test.each([1, 7, 64])('queries that are always alike enough: one choice a layer, anew every %i steps', async most => {
  expect(await selections(-1, most, 65)).toBe(layers * Math.ceil(65 / most));
});

test('the higher the threshold, the more choices; one a step where no two queries are alike', async () => {
  const counts: number[] = [];
  for (const tau of [-1, 0, 0.3, 0.6, 0.8, 0.9, 0.95, 2]) counts.push(await selections(tau, 64, 60));
  expect(counts).toEqual([...counts].sort((a, b) => a - b));
  expect(counts.at(0)).toBe(layers);
  expect(counts.at(-1)).toBe(60 * layers);
  expect(new Set(counts).size).toBeGreaterThan(3);
});

test('rows that move are those of units that the choice before had not', async () => {
  using written = new Written(model, louiskv(0.9));
  await written.prompt(tokens(300, 3));
  const { sequence } = written;
  let before = chosenOf(written);
  let moved = 0;
  let stayed = 0;
  for (const token of tokens(100, 4)) {
    const rows = countsOf(written).rows;
    await force(written, [token]);
    const now = chosenOf(written);
    let expected = 0;
    for (const [layer, heads] of now.entries())
      for (const [head, units] of heads.entries()) {
        const { lengths } = sequence.units(layer, head);
        expect(units.reduce((sum, unit) => sum + lengths[unit]!, 0)).toBeLessThanOrEqual(64);
        for (const unit of units) {
          if (before[layer]![head]!.includes(unit)) stayed++;
          else expected += lengths[unit]!;
        }
      }
    expect(countsOf(written).rows - rows).toBe(expected);
    moved += expected;
    before = now;
  }
  expect(moved).toBeGreaterThan(0);
  expect(stayed).toBeGreaterThan(0);
});

test.each([1, 31, 32, 33, 70])(
  '%i rows of a later prompt choose in windows; the first step after them anew',
  async rows => {
    using written = new Written(model, louiskv(-1));
    await written.prompt(tokens(300, 5));
    await force(written, tokens(3, 6));
    expect(countsOf(written).selections).toBe(layers);
    await written.prompt(tokens(rows, 7));
    expect(countsOf(written).selections).toBe(layers * (1 + Math.ceil(rows / 32)));
    await force(written, tokens(3, 8));
    expect(countsOf(written).selections).toBe(layers * (2 + Math.ceil(rows / 32)));
  },
);

test('steps after a prompt see what it has parked, whatever was chosen before', async () => {
  using written = new Written(model, louiskv(-1));
  await written.prompt(tokens(20, 9));
  await force(written, tokens(2, 10));
  expect(chosenOf(written).flat(2)).toEqual([]);
  await written.prompt(tokens(200, 11));
  await force(written, tokens(1, 12));
  for (const units of chosenOf(written).flat()) expect(units.length).toBeGreaterThan(0);
});
