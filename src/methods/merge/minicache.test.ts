import { expect, test } from 'vitest';
import { PlainCache, type PlainRows, plainModel, plainPrompt, plainRandom } from '../testing.ts';
import type { Action, ModelShape } from '../types.ts';
import { minicache } from './minicache.ts';

const D = 8;
const range = (n: number) => Array.from({ length: Math.max(0, n) }, (_, i) => i);

/** Upper layers are the lower ones with noise that differs from token to token. */
function alike(model: ModelShape, rows: number, seed: number): PlainRows[] {
  const random = plainRandom(seed);
  const prompt = plainPrompt(model, rows, random);
  for (let l = 1; l < model.layers; l++) {
    for (const plane of ['k', 'v'] as const) {
      const width = model.kvHeads * D;
      const noise = range(rows).map(() => random() ** 3);
      prompt[l]![plane].forEach((x, i, all) => {
        all[i] = 2 * prompt[l - 1]![plane][i]! + noise[Math.floor(i / width)]! * x;
      });
    }
  }
  return prompt;
}

function run(given: object, n: number, shape: object = { layers: 4 }, seed = 2) {
  const model = plainModel(shape);
  const policy = minicache.create(minicache.options.parse(given), model);
  const cache = new PlainCache(model);
  const prompt = alike(model, n, seed);
  const all = cache.prompt(policy, prompt);
  return { model, policy, cache, prompt, all, actions: all.map(joins) };
}

const joins = (actions: readonly Action[]) => actions.filter(action => action.do === 'join');

/** Angular distances of a head's rows in two layers, by the card's formula in float64. */
function distances(lower: Float64Array, upper: Float64Array, head: number, kvHeads: number): number[] {
  return range(lower.length / (kvHeads * D)).map(i => {
    const at = (i * kvHeads + head) * D;
    const [a, b] = [lower.subarray(at, at + D), upper.subarray(at, at + D)];
    const cosine = a.reduce((sum, x, c) => sum + x * b[c]!, 0) / (Math.hypot(...a) * Math.hypot(...b));
    return Math.acos(Math.min(1 - 1e-6, Math.max(-1 + 1e-6, cosine))) / Math.PI;
  });
}

test.each([0, 1, 63, 64, 65, 130, 300])('%i tokens: whole pages of those near enough in K and in V', n => {
  for (const retain of ['range', 'share'] as const) {
    const gamma = 0.3;
    const { actions, prompt } = run({ gamma, retain, bits: 8, t: 0.25 }, n);
    expect(actions.slice(0, 3).flat()).toEqual([]);
    for (const head of [0, 1]) {
      const far = new Set<number>();
      for (const plane of ['k', 'v'] as const) {
        const d = distances(prompt[2]![plane], prompt[3]![plane], head, 2);
        const [least, most] = [Math.min(...d), Math.max(...d)];
        const order = range(n).sort((a, b) => d[b]! - d[a]!);
        const apart =
          retain === 'share'
            ? order.slice(0, Math.floor(gamma * n))
            : order.filter(i => d[i]! > most - gamma * (most - least));
        for (const i of apart) far.add(i);
      }
      const near = range(n).filter(i => !far.has(i));
      const joined = near.slice(0, near.length - (near.length % 64));
      const action = actions[3]!.find(({ views }) => views[0]!.head === head);
      expect(action === undefined).toBe(joined.length === 0);
      if (!action) continue;
      expect(action.views).toEqual([
        { layer: 2, head },
        { layer: 3, head },
      ]);
      expect(action.entries.map(list => [...list])).toEqual([joined, joined]);
      expect(action.k).toEqual({ kind: 'directions', t: 0.25, bits: 8 });
      expect(action.v).toEqual(action.k);
    }
  }
});

test.each([300, 700])('%i tokens: what lies apart among the joined ones moves together in both layers', n => {
  const { all, cache } = run({ retain: 'share', gamma: 0.1 }, n);
  const keeps = all[3]!.slice(-2);
  expect(all[3]!.map(action => action.do)).toEqual(['join', 'join', 'keep', 'keep']);
  expect(keeps.map(action => 'layer' in action && action.layer)).toEqual([2, 3]);
  for (const action of keeps)
    expect(action.do === 'keep' && action.entries.map(list => [...list])).toEqual([range(n), range(n)]);
  expect(cache.views[3]![0]!.positions.length).toBe(n);
  // Nothing is scattered where the first entries are joined.
  expect(run({ retain: 'none' }, n).all[3]!.map(action => action.do)).toEqual(['join', 'join']);
});

test('pairs fill the upper part from where it starts, of layers of one kind', () => {
  const pairs = (given: object, layers: number, layerWindow = range(layers).map(() => 0)) => {
    const model = { ...plainModel({ layers }), layerWindow };
    const policy = minicache.create(minicache.options.parse(given), model);
    return range(layers).filter(layer => policy.settles!(layer) === layer + 1);
  };
  expect(pairs({}, 8)).toEqual([4, 6]);
  expect(pairs({}, 7)).toEqual([3, 5]);
  expect(pairs({}, 6)).toEqual([3]);
  expect(pairs({ start: 0 }, 5)).toEqual([0, 2]);
  expect(pairs({ start: 1 }, 8)).toEqual([]);
  expect(pairs({ start: 0 }, 6, [0, 0, 128, 0, 128, 128])).toEqual([0, 4]);
});

test('nothing is asked of layers that stay, nor where all are joined', () => {
  const { policy } = run({}, 10);
  expect(range(4).map(layer => policy.sense!(layer).length)).toEqual([0, 0, 0, 2]);
  const { policy: all, actions } = run({ retain: 'none' }, 128);
  expect(all.sense!(3)).toEqual([]);
  expect([...actions[3]![0]!.entries[0]!]).toEqual(range(128));
});

test('what waits in the growing page, and what is decoded, is joined when a page of it is there; what is apart never', () => {
  const { model, policy, cache, actions } = run({ gamma: 0.2 }, 150);
  const joined = new Map(
    [0, 1].map(head => [head, actions[3]!.filter(a => a.views[0]!.head === head).flatMap(a => [...a.entries[0]!])]),
  );
  const apart = new Map(range(2).map(head => [head, new Set<number>()]));
  const random = plainRandom(7);
  for (let n = 150; n < 400; n++) {
    const row = alike(model, 1, Math.floor(random() * 1e6));
    for (const layer of range(4)) cache.append(layer, row[layer]!, Int32Array.of(n));
    cache.seen++;
    if ((n + 1) % 64 !== 0) continue;
    for (const action of joins(policy.filled!(cache.at(3)))) {
      const known = joined.get(action.views[0]!.head)!;
      for (const entry of action.entries[0]!) {
        expect(known).not.toContain(entry);
        known.push(entry);
      }
    }
  }
  for (const [head, entries] of joined) {
    expect(entries.length % 64).toBe(0);
    const top = Math.max(...entries);
    const left = range(top).filter(i => !entries.includes(i));
    // Left out are only prompt tokens that lie apart.
    for (const i of left) {
      expect(i).toBeLessThan(150);
      apart.get(head)!.add(i);
    }
    expect(384 - top).toBeLessThanOrEqual(64 + left.length);
  }
  expect(policy.filled!(cache.at(1))).toEqual([]);
});
