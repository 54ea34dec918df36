import { expect, test } from 'vitest';
import { PlainCache, type PlainRows, plainModel, plainPrompt, plainRandom } from '../testing.ts';
import type { JoinAction, JoinPlane, ModelShape } from '../types.ts';
import { xkv } from './xkv.ts';

const range = (n: number) => Array.from({ length: Math.max(0, n) }, (_, i) => i);
type Projection = Extract<JoinPlane, { kind: 'project' }>;

/** Rows of all layers made of a few common directions, with some noise: what xKV is for. */
function related(model: ModelShape, rows: number, seed: number, of: number): PlainRows[] {
  const random = plainRandom(seed);
  const prompt = plainPrompt(model, rows, random);
  const width = model.kvHeads * model.headDim;
  const common = Float64Array.from({ length: rows * of }, () => random() - 0.5);
  for (const tensor of prompt) {
    for (const plane of ['k', 'v'] as const) {
      const mix = Float64Array.from({ length: of * width }, () => random() - 0.5);
      tensor[plane].forEach((x, i, all) => {
        const [t, c] = [Math.floor(i / width), i % width];
        all[i] = Math.fround(
          0.5 * x + range(of).reduce((sum, r) => sum + 4 * common[t * of + r]! * mix[r * width + c]!, 0),
        );
      });
    }
  }
  return prompt;
}

/** X [n][width]: the rows of some layers side by side. */
function beside(prompt: readonly PlainRows[], plane: 'k' | 'v', n: number, layerWidth: number): number[][] {
  return range(n).map(t => prompt.flatMap(tensor => [...tensor[plane].subarray(t * layerWidth, (t + 1) * layerWidth)]));
}

function lostEnergy(x: number[][], { basis, rank }: Projection): number {
  let [lost, all] = [0, 0];
  for (const row of x) {
    const c = range(rank).map(r => row.reduce((sum, value, i) => sum + value * basis[i * rank + r]!, 0));
    row.forEach((value, i) => {
      lost += (value - c.reduce((sum, y, r) => sum + y * basis[i * rank + r]!, 0)) ** 2;
      all += value * value;
    });
  }
  return lost / all;
}

/** Eigenvalues of X^T X by cyclic Jacobi rotations, descending. */
function jacobi(x: number[][]): number[] {
  const n = x[0]!.length;
  const a = range(n).map(i => range(n).map(j => x.reduce((sum, row) => sum + row[i]! * row[j]!, 0)));
  for (let sweep = 0; sweep < 12; sweep++) {
    for (let p = 0; p < n; p++) {
      for (let q = p + 1; q < n; q++) {
        const angle = 0.5 * Math.atan2(2 * a[p]![q]!, a[q]![q]! - a[p]![p]!);
        const [c, s] = [Math.cos(angle), Math.sin(angle)];
        for (const row of a) [row[p], row[q]] = [c * row[p]! - s * row[q]!, s * row[p]! + c * row[q]!];
        for (const j of range(n)) [a[p]![j], a[q]![j]] = [c * a[p]![j]! - s * a[q]![j]!, s * a[p]![j]! + c * a[q]![j]!];
      }
    }
  }
  return range(n)
    .map(i => a[i]![i]!)
    .sort((x, y) => y - x);
}

function run(given: object, n: number, shape: object = { layers: 4, kvHeads: 2, headDim: 8 }, directions = 6) {
  const model = plainModel(shape);
  const policy = xkv.create(xkv.options.parse(given), model);
  const prompt = related(model, n, n, directions);
  const actions = new PlainCache(model).prompt(policy, prompt) as JoinAction[][];
  return { model, policy, prompt, actions };
}

test('what is lost is the energy of the dropped directions', () => {
  const { actions, prompt } = run({ ratioK: 0.25, ratioV: 0.5 }, 192);
  expect(actions.slice(0, 3).flat()).toEqual([]);
  const [action] = actions[3]!;
  expect(action!.views).toEqual(range(4).flatMap(layer => range(2).map(head => ({ layer, head }))));
  for (const list of action!.entries) expect([...list]).toEqual(range(192));
  for (const [plane, rank] of [
    ['k', 16],
    ['v', 32],
  ] as const) {
    const projection = action![plane] as Projection;
    expect(projection.rank).toBe(rank);
    expect(projection.basis.length).toBe(64 * rank);
    const x = beside(prompt, plane, 192, 16);
    const values = jacobi(x);
    const dropped = values.slice(rank).reduce((a, b) => a + b, 0) / values.reduce((a, b) => a + b, 0);
    expect(dropped).toBeGreaterThan(1e-3);
    expect(lostEnergy(x, projection)).toBeCloseTo(dropped, 5);
  }
});

test('full rank loses nothing; the loss falls with the rank; layers together lose less than each alone', () => {
  const losses = [0.125, 0.25, 0.5, 0.75, 1].map(ratio => {
    const { actions, prompt } = run({ ratioK: ratio, ratioV: ratio, always: true }, 256);
    return lostEnergy(beside(prompt, 'k', 256, 16), actions[3]![0]!.k as Projection);
  });
  for (let i = 1; i < losses.length; i++) expect(losses[i]!).toBeLessThan(losses[i - 1]!);
  expect(losses.at(-1)!).toBeLessThan(1e-10);

  const shape = { layers: 4, kvHeads: 2, headDim: 16 };
  const apart = run({ group: 1, ratioK: 0.25, always: true }, 256, shape, 20);
  const together = run({ group: 4, ratioK: 0.25 }, 256, shape, 20);
  const alone = range(4).map(l =>
    lostEnergy(beside([apart.prompt[l]!], 'k', 256, 32), apart.actions[l]![0]!.k as Projection),
  );
  const joint = lostEnergy(beside(together.prompt, 'k', 256, 32), together.actions[3]![0]!.k as Projection);
  expect(joint).toBeLessThan(0.7 * Math.min(...alone));
});

test.each([0, 1, 63, 64, 65, 127, 128, 300])('%i tokens: whole pages, and only where bases pay', n => {
  const { actions } = run({ ratioK: 0.5, ratioV: 0.25 }, n);
  // Rows of 32 + 16 for a width of 64: 48 * 64 / (128 - 48) = 38.4 entries pay.
  expect(actions[3]!.map(({ entries }) => entries[0]!.length)).toEqual(n < 64 ? [] : [n - (n % 64)]);
  const costly = run({ ratioK: 0.75, ratioV: 0.75 }, n).actions[3]!;
  // 96 * 64 / (128 - 96) = 192 entries.
  expect(costly.length).toBe(n >= 256 ? 1 : 0);
  expect(run({ ratioK: 1, ratioV: 1, always: true }, n).actions[3]!.length).toBe(n < 64 ? 0 : 1);
});

test('groups are consecutive, the last may be short with a rank to match; a group is settled by its last layer', () => {
  const { policy, actions } = run({ rankK: 24, rankV: 16, group: 3, bits: 8 }, 512, {
    layers: 5,
    kvHeads: 1,
    headDim: 16,
  });
  expect(range(5).map(layer => policy.settles!(layer))).toEqual([2, 2, 2, 4, 4]);
  expect(actions[2]![0]!.k).toMatchObject({ rank: 24, bits: 8 });
  expect(actions[4]![0]!.k).toMatchObject({ rank: 16 });
  expect(actions[4]![0]!.v).toMatchObject({ rank: 16 });
  expect(actions[4]![0]!.views.map(({ layer }) => layer)).toEqual([3, 4]);
  const keys = [actions[2]![0]!, actions[4]![0]!].flatMap(({ k, v }) => [(k as Projection).key, (v as Projection).key]);
  expect(new Set(keys).size).toBe(4);
  expect(policy.pages).toEqual({ keysUnrotated: true });
});

test('rows wider than kernels take are refused', () => {
  const wide = plainModel({ layers: 8, kvHeads: 8, headDim: 128 });
  expect(() => xkv.create(xkv.options.parse({ ratioV: 0.5 }), wide)).toThrow(
    expect.objectContaining({ code: 'invalid_request', field: 'ratioV', value: 2048 }),
  );
  expect(() => xkv.create(xkv.options.parse({ rankK: 1025 }), wide)).toThrow(
    expect.objectContaining({ field: 'rankK' }),
  );
  expect(() => xkv.create(xkv.options.parse({ rankV: 8 * 4 * 128 + 1 }), wide)).toThrow(
    expect.objectContaining({ field: 'rankV', allowed: 'at most 4096' }),
  );
  expect(() => xkv.create(xkv.options.parse({}), wide)).not.toThrow();
});
