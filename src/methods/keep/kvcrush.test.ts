import { describe, expect, test } from 'vitest';
import { PlainCache, plainModel, plainPrompt, plainRandom } from '../testing.ts';
import { best, range, windowScores } from '../testing-cards.ts';
import { held, runPlain, SHAPES, SIZES } from '../testing-policy.ts';
import { ANCHORS, type Anchor, anchorOf, distances } from './crush.ts';
import { kvcrush } from './kvcrush.ts';
import { snapkv } from './snapkv.ts';

const w = 8;
const base = { keep: 0.4, window: w, representatives: 0.3 } as const;

/** The last step of both forms, by the card: sorted by distance to the anchor, ranks 0, s, 2s, ... */
function ranked(items: number[], signature: (i: number) => number[], anchor: number[], score: number[], b: number) {
  const away = (i: number) => signature(i).filter((bit, n) => bit !== anchor[n]).length;
  const order = [...items].sort((x, y) => away(x) - away(y) || score[y]! - score[x]! || x - y);
  const s = Math.floor(items.length / Math.max(1, b));
  return range(b).map(i => order[i * s]!);
}

const fixed = (anchor: Anchor, bits: number) => range(bits).map(i => (anchor === 'ones' ? 1 : anchor === 'zeros' ? 0 : i % 2)); // biome-ignore format: one line

describe.each(SHAPES)('%o', shape => {
  test.each(SIZES.flatMap(rows => (['query', 'kv'] as const).map(bits => [rows, bits] as const)))(
    'heads, %i tokens, a bit a %s head: the sets of the card',
    (rows, bits) => {
      for (const anchor of ['zeros', 'ones', 'alternating'] as const) {
        const { cache, attention } = runPlain(kvcrush, { ...base, bits, anchor }, rows, shape);
        const budget = Math.max(w, Math.floor(0.4 * rows));
        const room = budget - w;
        const b = Math.round(0.3 * room);
        held(cache).forEach((heads, layer) => {
          const how = { w, rows: 'mean', kind: 'max', width: 7, group: 'mean' } as const;
          const rounded = (of: number) => windowScores(attention[layer]!, { ...how, kvHeads: of }).map(x => x.map(Math.fround)); // biome-ignore format: one line
          const scores = rounded(shape.kvHeads);
          const keeping = (bits === 'kv' ? scores : rounded(attention[layer]!.length)).map(x => best(x, room - b));
          heads.forEach((kept, head) => {
            if (rows <= budget) {
              expect(kept).toEqual(range(rows));
              return;
            }
            const own = best(scores[head]!, room - b);
            const others = range(rows - w).filter(i => !own.includes(i));
            const signature = (i: number) => keeping.map(set => (set.includes(i) ? 1 : 0));
            const chosen = ranked(others, signature, fixed(anchor, keeping.length), scores[head]!, b);
            expect(kept).toEqual([...own, ...chosen, ...range(w).map(i => rows - w + i)].sort((x, y) => x - y));
          });
        });
      }
    },
  );

  test.each([1, 63, 64, 65, 200])('blocks, %i tokens: the sets of the card', rows => {
    const { cache, attention } = runPlain(kvcrush, { ...base, form: 'blocks', block: 8, anchor: 'ones' }, rows, shape);
    const budget = Math.max(w, Math.floor(0.4 * rows));
    held(cache).forEach((heads, layer) => {
      for (const head of heads) expect(head).toEqual(heads[0]);
      if (rows <= budget) {
        expect(heads[0]).toEqual(range(rows));
        return;
      }
      const how = { w, kvHeads: shape.kvHeads, rows: 'mean', kind: 'max', width: 7, group: 'mean' } as const;
      const each = windowScores(attention[layer]!, how);
      const token = range(rows - w).map(i => each.reduce((sum, x) => sum + x[i]!, 0));
      const blocks = Math.floor((rows - w) / 8);
      const score = range(blocks).map(n => range(8).reduce((sum, i) => sum + token[n * 8 + i]!, 0));
      const room = Math.max(0, Math.floor((budget - (rows - 8 * blocks)) / 8));
      const b = Math.round(0.3 * room);
      const own = best(score, room - b);
      const top = best(token.slice(0, 8 * blocks), Math.floor((8 * blocks) / 2));
      const signature = (n: number) => range(8).map(i => (top.includes(n * 8 + i) ? 1 : 0));
      const others = range(blocks).filter(n => !own.includes(n));
      const chosen = [...own, ...ranked(others, signature, fixed('ones', 8), score, b)].sort((x, y) => x - y);
      const expected = chosen.flatMap(n => range(8).map(i => n * 8 + i));
      expect(heads[0]).toEqual([...expected, ...range(rows).slice(8 * blocks)]);
    });
  });
});

test('no representatives: SnapKV', () => {
  for (const rows of [64, 65, 300]) {
    const options = { keep: 0.3 };
    const crush = runPlain(kvcrush, { ...options, representatives: 0 }, rows);
    expect(held(crush.cache)).toEqual(held(runPlain(snapkv, options, rows).cache));
  }
  const one = { layers: 2, kvHeads: 1, group: 2 };
  const blocks = runPlain(kvcrush, { keep: 0.3, representatives: 0, form: 'blocks', block: 1 }, 300, one);
  expect(held(blocks.cache)).toEqual(held(runPlain(snapkv, { keep: 0.3 }, 300, one).cache));
});

test.each(ANCHORS)('anchor %s: as many entries for every share; only what the base policy drops stands in', anchor => {
  for (const form of ['heads', 'blocks'] as const) {
    const run = (representatives: number, budget = 128) =>
      held(runPlain(kvcrush, { budget, form, block: 8, anchor, representatives }, 400).cache).flat();
    for (const share of [0, 0.05, 0.25, 0.5, 1]) for (const kept of run(share)) expect(kept).toHaveLength(128);
    // 24 of the 96 before the window stand in: what the base keeps of the others is all there.
    const lowered = run(0, 128 - 24);
    run(0.25).forEach((kept, view) => {
      expect(lowered[view]!.filter(i => !kept.includes(i))).toEqual([]);
    });
    expect(run(0.25)).not.toEqual(run(0));
  }
});

test('the same seed chooses the same, another one does not; no anchor but random depends on it', () => {
  const model = plainModel({ layers: 1, kvHeads: 2, group: 4 });
  const run = (anchor: Anchor, seed: number) => {
    const cache = new PlainCache(model, seed);
    const policy = kvcrush.create(kvcrush.options.parse({ budget: 100, representatives: 0.5, anchor }), model);
    cache.prompt(policy, plainPrompt(model, 400, plainRandom(1)));
    return held(cache);
  };
  expect(run('random', 3)).toEqual(run('random', 3));
  expect(run('random', 3)).not.toEqual(run('random', 4));
  for (const anchor of ANCHORS) if (anchor !== 'random') expect(run(anchor, 3)).toEqual(run(anchor, 4));
});

test('tokens that fill no block stay whatever they score, beside the budget if they must', () => {
  const kept = held(runPlain(kvcrush, { budget: 40, form: 'blocks' }, 32 + 5 * 32 + 31).cache)[0]![0]!;
  expect(kept).toEqual(range(63).map(i => 160 + i));
});

test('coverage: what is dropped lies nearer to something kept than without representatives', () => {
  const options = { budget: 100, window: 32, width: 1, bits: 'query', anchor: 'zeros' } as const;
  const shape = { layers: 1, kvHeads: 1, group: 8 };
  const { attention } = runPlain(snapkv, { budget: 100, window: 32, width: 1 }, 500, shape);
  const how = { w: 32, kvHeads: 8, rows: 'mean', kind: 'max', width: 1, group: 'mean' } as const;
  const heads = windowScores(attention[0]!, how).map(score => new Set(best(score, 68)));
  const signature = (i: number) => heads.map(set => (set.has(i) ? 1 : 0));
  const coverage = (representatives: number) => {
    const kept = held(runPlain(kvcrush, { ...options, representatives }, 500, shape).cache)[0]![0]!;
    const before = kept.filter(i => i < 468).map(signature);
    const dropped = range(468).filter(i => !kept.includes(i));
    const away = (i: number) => Math.min(...before.map(s => signature(i).filter((bit, n) => bit !== s[n]).length));
    return dropped.reduce((sum, i) => sum + away(i), 0) / dropped.length;
  };
  expect(coverage(0.25)).toBeLessThan(0.9 * coverage(0));
});

test('at a later turn, when heads hold different tokens, bits are matched by position', () => {
  const model = plainModel({ layers: 1, kvHeads: 2, group: 1 });
  const cache = new PlainCache(model);
  const policy = kvcrush.create(
    kvcrush.options.parse({ budget: 60, window: 8, representatives: 0.5, anchor: 'ones', width: 1 }),
    model,
  );
  cache.prompt(policy, plainPrompt(model, 200, plainRandom(1)));
  const [first, second] = held(cache)[0]!;
  expect(first).not.toEqual(second);
  cache.prompt(policy, plainPrompt(model, 100, plainRandom(2)));
  for (const kept of held(cache)[0]!) {
    expect(kept).toHaveLength(60);
    expect(kept.slice(-8)).toEqual(range(8).map(i => 292 + i));
  }
});

test('signatures and anchors', () => {
  const signatures = Uint8Array.of(1, 1, 0, 1, 0, 0, 0, 1, 1);
  expect([...anchorOf('mean', signatures, 3)]).toEqual([1, 1, 0]);
  // A half is not more than half.
  expect([...anchorOf('mean', Uint8Array.of(1, 0, 0, 0), 2)]).toEqual([0, 0]);
  expect([...anchorOf('alternating', signatures, 3)]).toEqual([0, 1, 0]);
  expect([...distances(signatures, Uint8Array.of(1, 1, 1))]).toEqual([1, 2, 1]);
});
