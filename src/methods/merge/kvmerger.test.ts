import { expect, test } from 'vitest';
import { PlainCache, type PlainRows, plainModel, plainPrompt, plainRandom } from '../testing.ts';
import type { MergeAction, ModelShape } from '../types.ts';
import { kvmerger } from './kvmerger.ts';

const D = 8;
const range = (n: number) => Array.from({ length: Math.max(0, n) }, (_, i) => i);

/** Keys that drift from token to token, so that neighbours are often alike. */
function drifting(model: ModelShape, rows: number, seed: number): PlainRows[] {
  const prompt = plainPrompt(model, rows, plainRandom(seed));
  const width = model.kvHeads * D;
  for (const { k } of prompt) for (let i = width; i < k.length; i++) k[i] = 0.8 * k[i - width]! + 0.45 * k[i]!;
  return prompt;
}

function run(given: object, n: number, seed = 3, shape: object = {}) {
  const model = plainModel({ layers: 4, kvHeads: 2, group: 2, ...shape });
  const policy = kvmerger.create(kvmerger.options.parse(given), model);
  const cache = new PlainCache(model);
  const prompt = drifting(model, n, seed);
  return { model, policy, cache, prompt, actions: cache.prompt(policy, prompt) as MergeAction[][] };
}

/** The card read once more, on one head of a first prompt: its sets, from the last token to the first, and what each becomes. */
function byTheCard({ q, k, v }: PlainRows, head: number, model: ModelShape, epsilon: number) {
  const { kvHeads, group, heads } = model;
  const n = k.length / (kvHeads * D);
  const row = (x: Float64Array, i: number) => [...x.subarray((i * kvHeads + head) * D, (i * kvHeads + head + 1) * D)];
  const dot = (a: number[], b: number[]) => a.reduce((sum, x, c) => sum + x * b[c]!, 0);
  const sums = range(n).map(() => 0);
  for (const g of range(group)) {
    for (const r of range(n)) {
      const at = (r * heads + head * group + g) * D;
      const weights = range(r + 1).map(i => Math.exp(dot([...q.subarray(at, at + D)], row(k, i)) / Math.sqrt(D)));
      const total = weights.reduce((a, b) => a + b, 0);
      for (const i of range(r + 1)) sums[i]! += weights[i]! / total;
    }
  }
  const recent = Math.floor(0.17 * n);
  const others = range(n - recent).sort((a, b) => sums[b]! - sums[a]!);
  const kept = new Set([...range(recent).map(i => n - 1 - i), ...others.slice(0, Math.floor(0.12 * n))]);
  const sets: number[][] = [];
  for (const i of range(n).reverse()) {
    const [a, b] = i + 1 < n ? [row(k, i), row(k, i + 1)] : [[], []];
    const alike = dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b)) > epsilon && !kept.has(i) && !kept.has(i + 1);
    if (alike) sets[0]!.unshift(i);
    else sets.unshift([i]);
  }
  return sets.map(set => {
    const pivot = set.reduce((p, i) => (sums[i]! > sums[p]! ? i : p), set[0]!);
    const distance = set.map(i => row(k, i).reduce((sum, x, c) => sum + (x - row(k, pivot)[c]!) ** 2, 0));
    const variance = distance.reduce((a, b) => a + b, 0) / set.length;
    const g = distance.map(x => (variance > 0 ? Math.exp(-x / (2 * variance)) : 1));
    const total = g.reduce((a, b) => a + b, 0);
    const mixed = (x: Float64Array) =>
      range(D).map(c => set.reduce((sum, i, m) => sum + (g[m]! / total) * row(x, i)[c]!, 0));
    return { set, pivot, k: mixed(k), v: mixed(v) };
  });
}

test.each([0, 1, 2, 63, 64, 65, 150])('%i tokens become the sets of the card', n => {
  const { model, cache, prompt } = run({}, n, n);
  for (const layer of range(4)) {
    for (const [head, view] of cache.views[layer]!.entries()) {
      const merged = layer === 2;
      const sets = byTheCard(prompt[layer]!, head, model, merged ? 0.75 : 2);
      expect([...view.positions]).toEqual(sets.map(({ pivot }) => pivot));
      for (const [i, { k, v }] of sets.entries()) {
        for (const [c, x] of k.entries()) expect(view.k[i * D + c]!).toBeCloseTo(x, 5);
        for (const [c, x] of v.entries()) expect(view.v[i * D + c]!).toBeCloseTo(x, 5);
      }
      if (merged && n > 100) expect(view.positions.length).toBeLessThan(0.9 * n);
    }
  }
});

test('groups of 8 query heads and single heads agree with the card too', () => {
  for (const shape of [
    { kvHeads: 1, group: 8 },
    { kvHeads: 1, group: 1 },
  ]) {
    const { model, cache, prompt } = run({}, 90, 4, shape);
    expect([...cache.views[2]![0]!.positions]).toEqual(byTheCard(prompt[2]!, 0, model, 0.75).map(({ pivot }) => pivot));
  }
});

test('epsilon 1 merges nothing; merged keys are no longer than the longest of their set', () => {
  expect(run({ epsilon: 1, skipFirst: 0, skipLast: 0 }, 120).actions.flat()).toEqual([]);
  const { cache, prompt, actions } = run({ skipFirst: 0, skipLast: 0, epsilon: 0.3 }, 120);
  const length = (x: Float64Array, at: number) => Math.hypot(...x.subarray(at, at + D));
  for (const { layer, head, targets, starts, members } of actions.flat()) {
    const { k } = prompt[layer]!;
    const view = cache.views[layer]![head]!;
    targets.forEach((target, g) => {
      const set = members.subarray(starts[g]!, starts[g + 1]!);
      expect([...set]).toEqual(range(set.length).map(i => set[0]! + i));
      const longest = Math.max(...Array.from(set, i => length(k, (i * 2 + head) * D)));
      expect(length(view.k, view.positions.indexOf(target) * D)).toBeLessThanOrEqual(longest * (1 + 1e-6));
    });
  }
});

test.each([0.5, 0.8, 0.9, 1])('keep = %f leaves exactly that share where enough may be merged', keep => {
  const n = 131;
  const { cache } = run({ keep, recent: 0.1, heavy: 0.1, skipFirst: 0, skipLast: 0 }, n);
  for (const view of cache.views.flat()) expect(view.positions.length).toBe(Math.ceil(keep * n));
});

test('keep joins the most alike pairs first', () => {
  const { actions, prompt } = run({ keep: 0.9, recent: 0, heavy: 0, skipFirst: 0, skipLast: 0 }, 80);
  const { k } = prompt[1]!;
  const row = (i: number) => k.subarray((i * 2 + 1) * D, (i * 2 + 2) * D);
  const cosine = (i: number) => {
    const [a, b] = [row(i), row(i + 1)];
    return a.reduce((sum, x, c) => sum + x * b[c]!, 0) / (Math.hypot(...a) * Math.hypot(...b));
  };
  const { starts, members } = actions[1]!.find(({ head }) => head === 1)!;
  const joined = range(starts.length - 1).flatMap(g => [...members.subarray(starts[g]!, starts[g + 1]! - 1)]);
  const order = range(79).sort((a, b) => cosine(b) - cosine(a));
  expect(joined).toEqual(order.slice(0, 8).sort((a, b) => a - b));
});

test('mass: ln n on the score, or n times the values; coinciding members weigh the same', () => {
  const given = { skipFirst: 0, skipLast: 0, recent: 0, heavy: 0 };
  const biased = run({ ...given, mass: 'bias' }, 70);
  const plain = run(given, 70);
  const paper = run({ ...given, mass: 'values' }, 70);
  expect(biased.policy.pages).toEqual({ columns: ['bias'] });
  expect(plain.policy.pages).toBeUndefined();
  const [a, b, c] = [biased, plain, paper].map(({ actions }) => actions[0]![0]!);
  const sizes = range(a!.targets.length).map(g => a!.starts[g + 1]! - a!.starts[g]!);
  expect([...a!.bias!]).toEqual(sizes.map(size => Math.fround(Math.log(size))));
  expect(b!.bias).toBeUndefined();
  range(sizes.length).forEach(g => {
    const total = (w: Float32Array) => w.subarray(b!.starts[g]!, b!.starts[g + 1]!).reduce((x, y) => x + y, 0);
    expect(total(b!.weightsV)).toBeCloseTo(1, 6);
    expect(total(c!.weightsV)).toBeCloseTo(sizes[g]!, 5);
    expect(total(c!.weightsK)).toBeCloseTo(1, 6);
  });

  const model = plainModel({ layers: 1, kvHeads: 1 });
  const same = plainPrompt(model, 4, plainRandom(1));
  for (const i of [1, 2, 3]) same[0]!.k.copyWithin(i * D, 0, D);
  const policy = kvmerger.create(kvmerger.options.parse(given), model);
  const [action] = new PlainCache(model).prompt(policy, same)[0] as MergeAction[];
  expect([...action!.weightsK]).toEqual([0.25, 0.25, 0.25, 0.25]);
});

test('a later prompt leaves what is in the cache alone', () => {
  const { model, policy, cache } = run({ skipFirst: 0, skipLast: 0 }, 80);
  const before = cache.views.map(views => views.map(({ positions }) => [...positions]));
  cache.prompt(policy, drifting(model, 90, 9));
  cache.views.forEach((views, layer) => {
    views.forEach(({ positions }, head) => {
      const old = before[layer]![head]!;
      expect([...positions.subarray(0, old.length)]).toEqual(old);
      expect(positions.length).toBeLessThan(old.length + 90);
    });
  });
});
