import { describe, expect, test } from 'vitest';
import { type Importance, importanceRecorder, prefixProfile } from '../calibrate/prefixkv.ts';
import { parsePrefixProfile } from '../profiles.ts';
import { PlainCache, plainModel, plainPrompt, plainRandom } from '../testing.ts';
import { attentionOf, best, differences, type Matrix, range } from '../testing-cards.ts';
import { held, lengths, SHAPES, SIZES } from '../testing-policy.ts';
import { PlainDecoder } from '../testing-step.ts';
import { cumulativeShares, layerShare, prefixes, reaching } from './prefix.ts';
import { prefixkv } from './prefixkv.ts';

const sum = (x: readonly number[]) => x.reduce((a, b) => a + b, 0);

/** Step 1 of the card. */
function importance(attention: readonly Matrix[], average = false): number[] {
  const n = attention[0]!.length;
  return range(n).map(i => {
    const total = sum(attention.map(matrix => sum(matrix.map(row => row[i]!)))) / attention.length;
    return average ? total / (n - i) : total;
  });
}

/** Steps 2 to 4: what each layer keeps of n entries; the threshold is searched by walking down all that there are. */
function card(layers: readonly number[][], total: number): number[] {
  const n = layers[0]!.length;
  const curves = layers.map(scores => {
    const all = sum(scores);
    let run = 0;
    return [...scores]
      .sort((a, b) => b - a)
      .map(x => {
        run += x;
        return run / all;
      });
  });
  const thresholds = [0, ...curves.flat()].sort((a, b) => b - a);
  for (const p of thresholds) {
    const kept = curves.map(curve => (p === 0 ? 0 : 1 + ((curve.findIndex(c => c >= p) + n) % n)));
    const forget = kept.map(k => Math.max(0, n - k - 2));
    if (sum(forget) < n * layers.length - total) continue;
    return forget.map(f => n - (f * (n * layers.length - total)) / Math.max(1, sum(forget)));
  }
  return layers.map(() => n);
}

const shapeOf = (
  model: ReturnType<typeof plainModel>,
  rows: number,
  seed = rows + 1,
  change?: (l: number) => number,
) => {
  const prompt = plainPrompt(model, rows, plainRandom(seed));
  // Layers of unlike concentration.
  for (const [l, { q }] of prompt.entries()) for (let i = 0; i < q.length; i++) q[i]! *= change?.(l) ?? 0.4 * (l + 1);
  return prompt;
};

function run(options: object, rows: number, shape: Parameters<typeof plainModel>[0] = {}, profile?: unknown) {
  const model = plainModel(shape);
  const prompt = shapeOf(model, rows);
  const cache = new PlainCache(model);
  const policy = prefixkv.create(prefixkv.options.parse(options), model, profile);
  const actions = cache.prompt(policy, prompt);
  return { model, prompt, cache, policy, actions, attention: prompt.map(layer => attentionOf(model, layer)) };
}

describe.each(SHAPES)('%o', shape => {
  test.each(SIZES.flatMap(rows => [[rows, false] as const, [rows, true] as const]))(
    '%i tokens, average %s: searched for the prompt, the sets of the card',
    (rows, average) => {
      const { cache, attention } = run({ keep: 0.3, search: 'prompt', average }, rows, shape);
      const scores = attention.map(layer => importance(layer, average));
      const kept = card(scores, 0.3 * rows * shape.layers);
      held(cache).forEach((heads, layer) => {
        for (const head of heads) expect(head).toEqual(heads[0]);
        // The cascade rounds at every stage.
        expect(Math.abs(heads[0]!.length - Math.min(rows, Math.max(2, kept[layer]!)))).toBeLessThanOrEqual(1.5);
        const inner = best(scores[layer]!.slice(1, -1), heads[0]!.length - 2).map(i => i + 1);
        const expected = rows > 2 ? [0, ...inner, rows - 1] : range(rows);
        expect(differences(heads[0]!, expected, scores[layer]!)).toEqual([]);
      });
    },
  );
});

test('all layers keep the same share of their importance, within a token; uniform budgets do not', () => {
  const spread = (search: 'prompt' | 'uniform') => {
    const { cache, attention } = run({ keep: 0.25, search }, 300, { layers: 5 });
    const mass = held(cache).map((heads, l) => {
      const scores = importance(attention[l]!);
      const sorted = [...scores].sort((a, b) => b - a);
      // The last but two of those kept: the two protected ones are beside the list.
      return { share: sum(sorted.slice(0, heads[0]!.length - 2)) / sum(scores), token: sorted[heads[0]!.length - 3]! / sum(scores) }; // biome-ignore format: one line
    });
    const shares = mass.map(({ share }) => share);
    return { spread: Math.max(...shares) - Math.min(...shares), token: Math.max(...mass.map(({ token }) => token)) };
  };
  const searched = spread('prompt');
  expect(searched.spread).toBeLessThanOrEqual(2 * searched.token);
  expect(spread('uniform').spread).toBeGreaterThan(0.1);
});

test('what is kept comes to the total within five before rounding, and one a layer after it', () => {
  const random = plainRandom(7);
  for (let round = 0; round < 200; round++) {
    const layers = 1 + Math.floor(random() * 8);
    const n = 3 + Math.floor(random() * 200);
    // Ties too: importance of few values.
    const values = round % 2 === 0 ? () => random() ** 6 : () => Math.floor(random() * 3);
    const curves = range(layers).map(() => cumulativeShares(range(n).map(values)));
    const total = Math.max(2 * layers, random() * n * layers);
    const kept = prefixes(curves, total);
    expect(Math.abs(sum(kept) - total)).toBeLessThan(round % 2 === 0 ? 1e-6 : 5);
    for (const count of kept) {
      expect(count).toBeGreaterThanOrEqual(Math.min(n, 2) - 1e-9);
      expect(count).toBeLessThanOrEqual(n);
    }
  }
  const { cache } = run({ keep: 0.2, search: 'prompt' }, 200, { layers: 7 });
  expect(Math.abs(sum(lengths(cache).map(heads => heads[0]!)) - 0.2 * 200 * 7)).toBeLessThanOrEqual(7);
});

test('the cascade is one trim with the final budgets, and its peak is the total and a layer', () => {
  const layers = 6;
  const model = plainModel({ layers, kvHeads: 1, group: 1 });
  const prompt = shapeOf(model, 400, 3);
  const policy = prefixkv.create(prefixkv.options.parse({ keep: 0.2, search: 'prompt' }), model);
  const cache = new PlainCache(model);
  let most = 0;
  cache.prompt(
    {
      ...policy,
      decide: at => {
        most = Math.max(most, sum(range(at.layer + 1).map(l => at.entries(0, l))));
        return policy.decide!(at);
      },
    },
    prompt,
  );
  expect(most).toBeLessThanOrEqual(0.2 * 400 * layers + 400 + layers);
  const scores = prompt.map(layer => importance(attentionOf(model, layer)));
  card(scores, 0.2 * 400 * layers).forEach((count, l) => {
    expect(Math.abs(held(cache)[l]![0]!.length - count)).toBeLessThanOrEqual(1.5);
  });
  // What was needed to search is gone.
  const state = cache.at(0).state<{ shares: number[]; importance: unknown[]; curves: unknown[] }>(() => {
    throw new Error('no state');
  });
  expect(state).toMatchObject({ importance: [], curves: [] });
  expect(state.shares).toHaveLength(layers);
});

describe('profile', () => {
  const model = plainModel({ layers: 4 });
  const record = (seed: number, rows = 150): Importance => {
    const found: Importance = { sum: [], average: [] };
    new PlainCache(model).prompt(importanceRecorder(found), shapeOf(model, rows, seed));
    return found;
  };

  test('made of one prompt it is what a search on this prompt finds; between its shares it goes in straight lines', () => {
    const prompt = record(1);
    const profile = parsePrefixProfile(JSON.parse(JSON.stringify(prefixProfile([prompt], model))), model);
    for (const by of ['sum', 'average'] as const)
      for (const [i, share] of profile.shares.entries()) {
        const kept = card(prompt[by].map(x => [...x]), share * 150 * 4); // biome-ignore format: one line
        profile.layers.forEach((layer, l) => {
          expect(layer[by][i]! * 150).toBeCloseTo(kept[l]!, 3);
        });
      }
    for (const share of [0.01, 0.1, 0.123, 0.77, 0.99]) {
      const mean = sum(range(4).map(l => layerShare(profile, l, share, false))) / 4;
      // A share of a hundredth is less than what is protected.
      expect(mean).toBeCloseTo(share, share < 0.05 ? 2 : 6);
    }
  });

  test('unrelated prompts make nearly the same one', () => {
    const [a, b] = [record(1), record(2)].map(prompt => prefixProfile([prompt], model));
    for (const by of ['sum', 'average'] as const) {
      const [x, y] = [a!, b!].map(({ layers }) => layers.flatMap(layer => layer[by]));
      const dot = (p: number[], q: number[]) => sum(p.map((value, i) => value * q[i]!));
      expect(dot(x!, y!) / Math.sqrt(dot(x!, x!) * dot(y!, y!))).toBeGreaterThan(0.95);
    }
  });

  test('layers keep what it says, whatever the prompt', () => {
    const profile = prefixProfile([record(1), record(2)], model);
    for (const rows of [40, 64, 65, 200]) {
      const { cache } = run({ keep: 0.3 }, rows, { layers: 4 }, profile);
      const shares = range(4).map(l => layerShare(profile, l, 0.3, false));
      expect(lengths(cache)).toEqual(shares.map(share => Array(2).fill(Math.max(2, Math.round(share * rows)))));
      expect(new Set(lengths(cache).flat()).size).toBeGreaterThan(2);
    }
  });

  test('none is needed where all is kept, or where it is searched', () => {
    expect(prefixkv.create(prefixkv.options.parse({ keep: 1 }), model)).toEqual({});
    for (const search of ['prompt', 'uniform'] as const)
      expect(prefixkv.create(prefixkv.options.parse({ search }), model).decide).toBeDefined();
    expect(() => prefixkv.create(prefixkv.options.parse({}), model)).toThrowError('kvasir calibrate prefixkv');
  });

  test('what does not fit is refused with what is wrong', () => {
    const good = prefixProfile([record(1)], model);
    const refused = (change: (copy: typeof good & { shares: number[]; fingerprint: string }) => void) => {
      const copy = structuredClone(good);
      change(copy);
      try {
        parsePrefixProfile(copy, model);
      } catch (error) {
        return error;
      }
      throw new Error('taken');
    };
    expect(refused(copy => copy.layers.pop())).toMatchObject({ field: 'profile.layers' });
    expect(refused(copy => copy.layers[1]!.sum.pop())).toMatchObject({ field: 'profile.layers.1.sum' });
    expect(refused(copy => copy.shares.reverse())).toMatchObject({ field: 'profile.shares.1' });
    expect(refused(copy => { copy.layers[0]!.average[5] = 1; })).toMatchObject({ field: 'profile.layers.0.average.5' }); // biome-ignore format: one line
    expect(refused(copy => { copy.fingerprint = 'other'; })).toMatchObject({ field: 'profile.fingerprint' }); // biome-ignore format: one line
  });
});

describe('decoding', () => {
  test('an entry goes 25 before the end of what the prompt left, and the cache grows by its share', () => {
    const { cache, policy, model } = run({ keep: 0.5, search: 'uniform' }, 200, { layers: 2 });
    const before = held(cache);
    const decoder = new PlainDecoder(cache, policy);
    for (let step = 1; step <= 60; step++) {
      decoder.step(plainPrompt(model, 1, plainRandom(step)));
      for (const heads of lengths(cache)) for (const count of heads) expect(count).toBe(Math.floor(0.5 * (200 + step)));
    }
    held(cache).forEach((heads, layer) => {
      const [kept] = before[layer]!;
      // 75 entries are never touched, and the newest 55 of those after them are there.
      const gone = 30;
      const expected = [...kept!.slice(0, 75), ...[...kept!.slice(75), ...range(60).map(i => 200 + i)].slice(gone)];
      for (const head of heads) expect(head).toEqual(expected);
    });
  });

  test('of a shorter cache it goes from the middle; a budget in tokens is held', () => {
    const { policy, cache } = run({ keep: 0.5, search: 'uniform' }, 20);
    expect(policy.step!(0, cache.at(0))!.evict).toMatchObject({ first: 5, last: 1, over: { share: 0.5 } });
    const fixed = run({ budget: 60, search: 'uniform' }, 40);
    expect(lengths(fixed.cache).flat()).toEqual([40, 40, 40, 40]);
    const decoder = new PlainDecoder(fixed.cache, fixed.policy);
    for (let step = 1; step <= 50; step++) decoder.step(plainPrompt(fixed.model, 1, plainRandom(step)));
    expect(lengths(fixed.cache).flat()).toEqual([60, 60, 60, 60]);
  });
});

test.each(['prompt', 'uniform'] as const)('window=32, search=%s: the last ones stay, while decoding too', search => {
  for (const rows of [1, 31, 33, 34, 65, 200]) {
    const { cache, policy, model } = run({ keep: 0.3, search, window: 32 }, rows, { layers: 3 });
    const count = (seen: number) => Math.min(seen, 32);
    const check = (seen: number) => {
      for (const kept of held(cache).flat()) {
        expect(kept[0]).toBe(0);
        expect(kept.slice(-count(seen))).toEqual(range(seen).slice(-count(seen)));
      }
    };
    check(rows);
    const total = sum(lengths(cache).map(heads => heads[0]!));
    expect(Math.abs(total - 3 * Math.min(rows, Math.max(33, 0.3 * rows)))).toBeLessThanOrEqual(
      search === 'prompt' ? 6 : 3,
    );
    const before = held(cache);
    const decoder = new PlainDecoder(cache, policy);
    for (let step = 1; step <= 40; step++) {
      decoder.step(plainPrompt(model, 1, plainRandom(step)));
      check(rows + step);
    }
    // What the prompt found important is not touched.
    if (rows === 200)
      held(cache).forEach((heads, layer) => {
        const [kept] = before[layer]!;
        expect(heads[0]!.slice(0, kept!.length - 32)).toEqual(kept!.slice(0, -32));
      });
  }
});

test('a second turn: shares are of all tokens seen', () => {
  for (const search of ['prompt', 'uniform'] as const) {
    const { cache, policy, model } = run({ keep: 0.25, search }, 200, { layers: 4 });
    cache.prompt(policy, shapeOf(model, 80, 9));
    const total = sum(lengths(cache).map(heads => heads[0]!));
    expect(Math.abs(total - 0.25 * 280 * 4)).toBeLessThanOrEqual(6);
    for (const heads of held(cache)) expect([heads[0]![0], heads[0]!.at(-1)]).toEqual([0, 279]);
  }
});

test('the least k that reaches a share', () => {
  const curve = Float64Array.of(0.5, 0.75, 1);
  expect([0, 0.1, 0.5, 0.51, 0.75, 0.9, 1, 1.1].map(share => reaching(curve, share))).toEqual([0, 1, 1, 2, 2, 3, 3, 3]);
});
