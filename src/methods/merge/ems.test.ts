import { describe, expect, test } from 'vitest';
import { composable, memberOf } from '../composition.ts';
import { parseRecipe } from '../recipe.ts';
import { PlainCache, type PlainRows, plainModel, plainPrompt, plainRandom } from '../testing.ts';
import { attentionOf, best, differences, type Matrix, pool, range } from '../testing-cards.ts';
import { held, keeps, lengths, SHAPES, SIZES } from '../testing-policy.ts';
import type { PlainView } from '../testing-signals.ts';
import { PlainDecoder } from '../testing-step.ts';
import type { MergeAction, ModelShape } from '../types.ts';
import { ems } from './ems.ts';

const D = 8;
const sum = (x: readonly number[]) => x.reduce((a, b) => a + b, 0);
const row = (x: Float64Array, i: number) => [...x.subarray(i * D, (i + 1) * D)];
const norm = (x: readonly number[]) => Math.hypot(...x);

function run(options: object, rows: number, shape: Parameters<typeof plainModel>[0] = {}, given?: PlainRows[]) {
  const model = plainModel({ headDim: D, ...shape });
  const prompt = given ?? plainPrompt(model, rows, plainRandom(rows + 1));
  const cache = new PlainCache(model);
  const policy = ems.create(ems.options.parse(options), model);
  const actions = cache.prompt(policy, prompt);
  return { model, prompt, cache, policy, actions, merges: (layer: number) => actions[layer]!.filter(isMerge) };
}

const isMerge = (action: { do: string }): action is MergeAction => action.do === 'merge';

/** Steps 1 to 5 of the card for one KV head, straight from the attention of its group and the head's rows. */
function card(group: readonly Matrix[], k: number[][], v: number[][], o: { w: number; budget: number; theta: number }) {
  const n = k.length;
  const column = (i: number, from: number) =>
    sum(group.map(matrix => sum(matrix.slice(from).map(line => line[i]!)))) / group.length;
  const candidates = range(n - o.w);
  const global = candidates.map(i => column(i, 0) / (n - i));
  const local = candidates.map(i => column(i, n - o.w));
  const s = candidates.map(i => Math.max(global[i]! / sum(global), local[i]! / sum(local)));
  const ranking = pool(s, 'max', 7);
  const c = o.budget - o.w;
  const centres = best(ranking, c);
  const toMerge = best(ranking, 2 * c).filter(i => !centres.includes(i));
  const cosine = (a: number[], b: number[]) => sum(a.map((x, i) => x * b[i]!)) / (norm(a) * norm(b));
  const classes = new Map(centres.map(i => [i, [i]]));
  for (const i of toMerge) {
    const like = centres.map(j => cosine(k[i]!, k[j]!));
    const most = Math.max(...like);
    if (most >= o.theta) classes.get(centres[like.indexOf(most)]!)!.push(i);
  }
  const mixed = (rows: number[][], members: number[], weight: (i: number) => number) =>
    range(D).map(c => sum(members.map(i => weight(i) * rows[i]![c]!)));
  const merged = [...classes].map(([centre, members]) => {
    if (members.length === 1) return { centre, k: k[centre]!, v: v[centre]!, members };
    const total = sum(members.map(i => s[i]!));
    const direction = mixed(k, members, i => s[i]! / norm(k[i]!));
    const length = sum(members.map(i => s[i]! * norm(k[i]!))) / total;
    return {
      centre,
      members,
      k: direction.map(x => (x * length) / norm(direction)),
      v: mixed(v, members, i => s[i]! / total),
    };
  });
  return { ranking, merged };
}

const rowsOf = ({ kvHeads }: ModelShape, plane: Float64Array, head: number) =>
  range(plane.length / (kvHeads * D)).map(i => row(plane, i * kvHeads + head));

describe.each(SHAPES)('%o', shape => {
  test.each([...SIZES, 300])('%i tokens: classes, rows and places of the card', rows => {
    const o = { w: 10, budget: Math.max(10, Math.floor(0.4 * rows)), theta: 0.5 };
    const { model, prompt, cache } = run({ keep: 0.4, window: 10, theta: 0.5 }, rows, shape);
    cache.views.forEach((views, layer) => {
      const attention = attentionOf(model, prompt[layer]!);
      views.forEach((view, head) => {
        if (rows <= o.budget) {
          expect(view.positions).toHaveLength(rows);
          return;
        }
        const group = attention.slice(head * model.group, (head + 1) * model.group);
        const [k, v] = [rowsOf(model, prompt[layer]!.k, head), rowsOf(model, prompt[layer]!.v, head)];
        const { ranking, merged } = card(group, k, v, o);
        const kept = [...view.positions];
        expect(kept).toHaveLength(o.budget);
        expect(kept.slice(-10)).toEqual(range(10).map(i => rows - 10 + i));
        expect(differences(kept.slice(0, -10), merged.map(m => m.centre), ranking)).toEqual([]); // biome-ignore format: one line
        // Where pooled scores tie, other entries may be merged: what is compared is what has the same centre.
        let same = 0;
        for (const entry of merged) {
          const i = kept.indexOf(entry.centre);
          if (i < 0) continue;
          const off = Math.max(...range(D).map(c => Math.abs(view.k[i * D + c]! - entry.k[c]!)));
          if (off > 1e-5) continue;
          same++;
          for (const [c, x] of entry.v.entries()) expect(view.v[i * D + c]!).toBeCloseTo(x, 5);
        }
        expect(same).toBeGreaterThanOrEqual(merged.length - 2);
      });
    });
  });
});

describe('theta', () => {
  const pairs = (merges: MergeAction[]) => sum(merges.map(({ members, targets }) => members.length - targets.length));

  test('above 1 it is eviction by the same score, bit for bit', () => {
    for (const options of [{ theta: 2 }, { theta: 1.0001 }]) {
      const { cache, actions, prompt, model } = run({ budget: 80, ...options }, 300);
      const evicted = run({ budget: 80, ratio: 0 }, 300);
      expect(actions).toEqual(evicted.actions);
      expect(actions.flat().filter(isMerge)).toEqual([]);
      cache.views.forEach((views, layer) => {
        views.forEach((view, head) => {
          for (const plane of ['k', 'v'] as const) {
            const before = rowsOf(model, prompt[layer]![plane], head);
            expect([...view[plane]]).toEqual([...view.positions].flatMap(i => before[i]!));
          }
        });
      });
    }
  });

  test('at -1 all that may be is merged', () => {
    const { merges, cache } = run({ budget: 80, theta: -1 }, 300);
    for (const layer of [0, 1]) for (const head of [0, 1]) expect(pairs(merges(layer).filter(m => m.head === head))).toBe(48); // biome-ignore format: one line
    expect(lengths(cache).flat()).toEqual([80, 80, 80, 80]);
  });

  test('between, heads merge more or less, as their keys are', () => {
    const model = plainModel({ kvHeads: 4, layers: 1, headDim: D });
    const prompt = plainPrompt(model, 300, plainRandom(4));
    // Keys of later heads have more in common.
    prompt[0]!.k.forEach((_, i) => {
      if (i % D === 0) prompt[0]!.k[i]! += 0.8 * (Math.floor(i / D) % 4);
    });
    const { merges } = run({ budget: 80, theta: 0.8 }, 300, { kvHeads: 4, layers: 1 }, prompt);
    const histogram = range(4).map(head => pairs(merges(0).filter(merge => merge.head === head)));
    expect(new Set(histogram).size).toBe(4);
    expect(histogram[3]).toBeGreaterThan(histogram[0]!);
    for (const count of histogram) expect(count).toBeLessThanOrEqual(48);
  });
});

test('keys of centres without members are as they were; others are as long as some of their class', () => {
  const { model, prompt, cache, actions } = run({ budget: 80, theta: 0.3 }, 300);
  cache.views.forEach((views, layer) => {
    const [keep] = keeps(actions[layer]!);
    views.forEach((view, head) => {
      const before = rowsOf(model, prompt[layer]!.k, head);
      const merge = actions[layer]!.filter(isMerge).find(action => action.head === head)!;
      // Entry numbers of the merge are those after the keep.
      const members = (g: number) => [...merge.members.subarray(merge.starts[g], merge.starts[g + 1])].map(i => keep!.entries[head]![i]!); // biome-ignore format: one line
      const classOf = new Map([...merge.targets].map((target, g) => [keep!.entries[head]![target]!, members(g)]));
      expect(classOf.size).toBeGreaterThan(5);
      for (const [i, position] of view.positions.entries()) {
        const found = classOf.get(position);
        if (!found) {
          expect(row(view.k, i)).toEqual(before[position]);
          continue;
        }
        const norms = found.map(member => norm(before[member]!));
        expect(norm(row(view.k, i))).toBeGreaterThanOrEqual(Math.min(...norms) - 1e-5);
        expect(norm(row(view.k, i))).toBeLessThanOrEqual(Math.max(...norms) + 1e-5);
      }
    });
  });
});

/** What queries get from a view. */
function attend(view: Pick<PlainView, 'k' | 'v' | 'columns'>, q: readonly number[]): number[] {
  const bias = view.columns.get('bias');
  const logits = range(view.k.length / D).map(
    i => sum(row(view.k, i).map((x, c) => x * q[c]!)) / Math.sqrt(D) + (bias?.[i] ?? 0),
  );
  const top = Math.max(...logits);
  const weights = logits.map(x => Math.exp(x - top));
  return range(D).map(c => sum(weights.map((w, i) => w * view.v[i * D + c]!)) / sum(weights));
}

test('on text that repeats itself the output is nearer to that of the full cache than where the same scores evict', () => {
  const model = plainModel({ layers: 1, kvHeads: 2, group: 2, headDim: D });
  const rows = 400;
  const random = plainRandom(11);
  const prompt = plainPrompt(model, rows, random, 1);
  // 60 sentences' worth of tokens, said again and again with small changes.
  const { k, v } = prompt[0]!;
  const width = 2 * D;
  for (const x of [k, v]) for (let i = 60 * width; i < x.length; i++) x[i] = x[i % (60 * width)]! + 0.3 * x[i]!;
  const queries = range(50).map(() => range(D).map(() => 4 * (random() - 0.5)));
  const error = (options: object) => {
    const { cache } = run({ budget: 60, window: 16, theta: 0.6, ...options }, rows, model, prompt);
    return sum(
      cache.views[0]!.flatMap((view, head) => {
        const plane = (x: Float64Array) => Float64Array.from(rowsOf(model, x, head).flat());
        const full = { k: plane(k), v: plane(v), columns: new Map() };
        return queries.map(q => {
          const [o, mine] = [attend(full, q), attend(view, q)];
          return norm(o.map((x, c) => x - mine[c]!)) / norm(o);
        });
      }),
    );
  };
  const [merged, evicted] = [error({}), error({ theta: 2 })];
  expect(merged).toBeLessThan(evicted);
});

describe('what is merged again', () => {
  test('weighs by the scores of all that it stands for, not as one', () => {
    const model = plainModel({ layers: 1, kvHeads: 1, group: 1, headDim: 2 });
    const cache = new PlainCache(model);
    const policy = ems.create(ems.options.parse({ budget: 3, window: 1, width: 1, theta: 0.9, mass: 'bias' }), model);
    const view = cache.views[0]![0]!;
    for (const name of policy.pages!.columns!) view.columns.set(name, new Float32Array(0));
    const put = (k: number[], v: number[], score: number) => {
      cache.append(0, { k: Float64Array.of(...k), v: Float64Array.of(...v) }, Int32Array.of(cache.seen++));
      view.columns.get('ems-score')!.fill(score, -1);
      view.columns.get('ems-queries')!.fill(1, -1);
    };
    put([2, 0], [1, 0], 0.5);
    put([0, 1], [0, 1], 0.4);
    put([1, 0], [0, 10], 0.1);
    put([0, 1], [0, 1], 0);
    cache.apply(policy.filled!(cache.at(0)));
    expect([...view.positions]).toEqual([0, 1, 3]);
    // 0.5 of the first and 0.1 of the third: their sum is what it has from now on.
    for (const [c, x] of [5 / 6, 10 / 6].entries()) expect(view.v[c]).toBeCloseTo(x, 6);
    expect(view.k[0]).toBeCloseTo((0.5 * 2 + 0.1 * 1) / 0.6, 6);
    expect([...view.columns.get('ems-score')!].map(x => x.toFixed(2))).toEqual(['0.60', '0.40', '0.00']);
    expect(view.columns.get('bias')![0]).toBeCloseTo(Math.log(2), 6);
    // The last of before is a candidate now; its key is like the second's.
    view.columns.get('ems-score')![2] = 0.1;
    put([3, 0], [0, 0], 0.2);
    cache.apply(policy.filled!(cache.at(0)));
    expect([...view.positions]).toEqual([0, 1, 4]);
    expect([...view.columns.get('ems-score')!].map(x => x.toFixed(2))).toEqual(['0.60', '0.50', '0.20']);
    view.columns.get('ems-local')!.fill(0);
    put([0, 0], [0, 0], 0);
    cache.apply(policy.filled!(cache.at(0)));
    // 0.6 stands for two, 0.2 for one: three parts to one.
    for (const [c, x] of [(0.75 * 5) / 6, (0.75 * 10) / 6].entries()) expect(view.v[c]).toBeCloseTo(x, 6);
    expect(view.columns.get('bias')![0]).toBeCloseTo(Math.log(3), 6);
  });

  test('entries stand for all that was merged into them, at later turns too', () => {
    const { cache, policy, model } = run({ budget: 60, theta: -1, window: 8, mass: 'bias' }, 300);
    const counts = (head: number) => [...cache.at(0).column('bias', head)].map(x => Math.round(Math.exp(x)));
    for (const head of [0, 1]) expect(sum(counts(head))).toBe(60 + 52);
    cache.prompt(policy, plainPrompt(model, 40, plainRandom(5)));
    for (const head of [0, 1]) expect(sum(counts(head))).toBe(60 + 52 + 40);
    expect(lengths(cache).flat()).toEqual([60, 60, 60, 60]);
  });
});

describe('decoding', () => {
  test('a page is a buffer: when it is full, what exceeds the budget is merged by running scores', () => {
    const { cache, policy, model } = run({ budget: 80, theta: 0.2, window: 16 }, 300);
    const decoder = new PlainDecoder(cache, policy);
    for (let page = 0; page < 3; page++) {
      for (let step = 0; step < 64; step++) decoder.step(plainPrompt(model, 1, plainRandom(64 * page + step)));
      expect(lengths(cache).flat()).toEqual([144, 144, 144, 144]);
      for (const layer of [0, 1]) {
        const actions = policy.filled!(cache.at(layer));
        expect(actions.some(isMerge)).toBe(true);
        cache.apply(actions);
      }
      expect(lengths(cache).flat()).toEqual([80, 80, 80, 80]);
      for (const kept of held(cache).flat())
        expect(kept.slice(-16)).toEqual(range(16).map(i => 300 + 64 * (page + 1) - 16 + i));
    }
  });

  test('running scores: global ones add up and are averaged, local ones fade by 1 - 1 / window', () => {
    const { cache, policy, model, prompt } = run({ budget: 400, window: 4 }, 20, { layers: 1, kvHeads: 1, group: 1 });
    const local = [...cache.at(0).column('ems-local', 0)];
    const matrix = attentionOf(model, prompt[0]!)[0]!;
    range(20).forEach(i => {
      expect(local[i]).toBeCloseTo(sum(matrix.slice(-4).map(line => line[i]!)), 5);
    });
    new PlainDecoder(cache, policy).settle(0, [Float64Array.from({ length: 20 }, (_, i) => (i === 3 ? 1 : 0))]);
    const after = cache.at(0).column('ems-local', 0);
    range(20).forEach(i => {
      expect(after[i]).toBeCloseTo(0.75 * local[i]! + (i === 3 ? 1 : 0), 5);
    });
    expect(cache.at(0).column('ems-queries', 0)[19]).toBe(2);
  });

  test('decode=grow leaves it alone, and goes with formats', () => {
    const { policy } = run({ budget: 80, decode: 'grow' }, 100);
    expect([policy.step, policy.filled]).toEqual([undefined, undefined]);
    const [grow, merge, kivi] = ['ems(decode=grow)', 'ems', 'kivi'].map(text => memberOf(parseRecipe(text)[0]!));
    expect(composable(grow!, kivi!)).toBe(true);
    expect(composable(merge!, kivi!)).toBe(false);
  });
});

test('what has been encoded stays or goes, and is never merged', () => {
  const { cache, policy } = run({ budget: 400 }, 300, { layers: 1 });
  const small = ems.create(ems.options.parse({ budget: 80, theta: -1 }), cache.model);
  const actions = small.filled!({ ...cache.at(0), exact: () => [[200, 300]] });
  const [keep] = keeps(actions);
  for (const merge of actions.filter(isMerge))
    for (const i of merge.members) expect(keep!.entries[merge.head]![i]).toBeGreaterThanOrEqual(200);
  cache.apply(actions);
  expect(lengths(cache)).toEqual([[80, 80]]);
  expect(policy.pages).toEqual({ columns: ['ems-score', 'ems-queries', 'ems-local'] });
});
