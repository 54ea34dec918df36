import { afterAll, beforeAll, expect, test } from 'vitest';
import { testPath } from '../../../test/golden.ts';
import { openKernels, openLoaded } from '../../../test/models.ts';
import { Written } from '../../../test/recipes.ts';
import type { Action } from '../../methods/types.ts';
import type { LoadedModel } from '../loaded-model.ts';
import { act } from './act.ts';

let model: LoadedModel;

beforeAll(async () => {
  model = await openLoaded(await openKernels(2), testPath('models/qwen3'));
});

afterAll(() => model.dispose());

const ropeOf = () => model.forward.ropes[0]!;

test('a column, then a keep that makes no sense: neither, and the error names the keep', async () => {
  using written = new Written(model, 'h2o(keep=0.9)');
  const { sequence } = written;
  await written.prompt(Array.from({ length: 100 }, (_, i) => 3 + i));
  const { kvHeads } = model.info;
  const read = () => Array.from({ length: kvHeads }, (_, head) => sequence.read(0, head));
  const before = read();
  const column: Action = {
    do: 'column',
    layer: 0,
    name: 'score',
    values: before.map(({ positions }) => new Float32Array(positions.length).fill(7)),
  };
  const keep = (...entries: number[]): Action => ({
    do: 'keep',
    layer: 0,
    entries: before.map(() => Uint32Array.of(...entries)),
  });
  expect(() => act(sequence, [column, keep(1, 0)], ropeOf)).toThrow(
    expect.objectContaining({ code: 'invalid_request', field: 'plan[0].ranges' }),
  );
  expect(read()).toEqual(before);
  expect(() => act(sequence, [keep(1, 5), column], ropeOf)).toThrow(expect.objectContaining({ field: 'values' }));
  expect(read()).toEqual(before);
  const short = before.map(() => Float32Array.of(3, 4));
  act(sequence, [column, keep(1, 5), { ...column, values: short }, { do: 'rows', rows: Uint32Array.of(0) }], ropeOf);
  for (const { columns } of read()) expect([...columns.score!]).toEqual([3, 4]);
});

test('a map turns keys by positions as the model does, there and back', async () => {
  using written = new Written(model, 'h2o(keep=0.9)');
  const { sequence } = written;
  await written.prompt(Array.from({ length: 70 }, (_, i) => 3 + i));
  const before = sequence.read(1, 0);
  const entries = Uint32Array.of(0, 5, 60);
  const rotate = (by: number): Action => ({
    do: 'map',
    layer: 1,
    head: 0,
    targets: entries,
    sources: [{ entries }],
    by: { kind: 'rotate', by: Int32Array.of(by, by, -by) },
  });
  act(sequence, [rotate(7)], ropeOf);
  const turned = sequence.read(1, 0);
  const { headDim } = sequence.cache.shape;
  const { inverseFrequencies } = model.forward.recipes.config.ropes[0]!;
  for (const [n, entry] of entries.entries()) {
    const angle = (n === 2 ? -7 : 7) * inverseFrequencies[1]!;
    const at = entry * headDim + 1;
    const [a, b] = [before.k[at]!, before.k[at + inverseFrequencies.length]!];
    expect(turned.k[at]).toBeCloseTo(a * Math.cos(angle) - b * Math.sin(angle), 4);
  }
  expect(turned.v).toEqual(before.v);
  act(sequence, [rotate(-7)], ropeOf);
  const back = sequence.read(1, 0);
  for (const [i, x] of before.k.entries()) expect(back.k[i]).toBeCloseTo(x, 4);
});
