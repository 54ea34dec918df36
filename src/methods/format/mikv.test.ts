import { describe, expect, test } from 'vitest';
import { decodeScalar, encodeScalar } from '../../../kernels/reference/scalar.ts';
import type { ScalarFormat } from '../../cache/format.ts';
import { plainModel, plainRandom } from '../testing.ts';
import { type PlainScene, plainProbabilities, plainSignal } from '../testing-signals.ts';
import type { Action, Policy, SignalRequest } from '../types.ts';
import { keyFactors, mikv } from './mikv.ts';
import { TrackedLayer, type TrackedPage } from './testing.ts';

const [HEADS, GROUP, D] = [2, 2, 8];
const SHAPE = plainModel({ kvHeads: HEADS, group: GROUP, headDim: D });
const random = plainRandom(34);
const normal = () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
const normals = (length: number, scale = 1) => Float64Array.from({ length }, () => scale * normal());
const upTo = (n: number) => Array.from({ length: n }, (_, i) => i);
const policyOf = (given: object = {}, shape = SHAPE) => mikv.create(mikv.options.parse(given), shape);
const bitsOf = ({ k }: TrackedPage) => (k === 'f32' ? 32 : (k as ScalarFormat).parts[0]!.bits);

function sceneOf(rows: number): PlainScene {
  const positions = Int32Array.from(upTo(rows));
  const view = () => ({ k: normals(rows * D), v: normals(rows * D), positions, columns: new Map() });
  const views = [upTo(HEADS).map(view)];
  const q = normals(rows * HEADS * GROUP * D, 2);
  return {
    headDim: D,
    group: GROUP,
    window: 0,
    views,
    layer: 0,
    q,
    rowPositions: positions,
    hidden: new Float64Array(0),
  };
}

/** By KV head and position: what all rows of all heads of the group give, in float64. */
function attentionSums(scene: PlainScene): number[][] {
  return upTo(HEADS).map(kv => {
    const sums = upTo(scene.rowPositions.length).map(() => 0);
    for (const head of upTo(GROUP))
      for (const row of scene.rowPositions)
        plainProbabilities(scene, kv * GROUP + head, row).forEach((p, i) => {
          sums[i]! += p;
        });
    return sums;
  });
}

/** The card's steps 1, 2 and 6 in whole pages: which of the important positions of `seen` are retained from now on. */
function demoted(seen: number, kept: readonly number[], score: readonly number[], important: number, share: number) {
  const limit = Math.floor(important * seen + 1e-9);
  const recent = Math.floor(limit * share + 1e-9);
  const due = Math.max(0, kept.length - limit);
  const older = kept.slice(0, Math.max(0, kept.length - recent - (due % 64)));
  return older.sort((a, b) => score[a]! - score[b]! || b - a).slice(0, due - (due % 64));
}

/** A prompt and steps after it; scores lie with positions, and retained ones have none. */
class Run {
  readonly layer = new TrackedLayer(SHAPE);
  readonly stored: Map<number, number>[] = upTo(HEADS).map(() => new Map());
  /** By head: what the reference sums up, and what it keeps important. */
  readonly sums: number[][];
  readonly kept: number[][] = upTo(HEADS).map(() => []);
  readonly blocks = new Map<string, Float32Array>();
  packs = 0;
  readonly #policy: Policy;

  constructor(policy: Policy, scene: PlainScene) {
    this.sums = attentionSums(scene);
    this.layer.signal = (request: SignalRequest) => plainSignal(scene, request);
    this.layer.columns = (name, head) => {
      expect(name).toBe('mikv-score');
      return Float32Array.from(this.#positions(head), position => this.stored[head]!.get(position) ?? 0);
    };
    const seen = (actions: readonly Action[]) => actions.filter(action => this.#store(action));
    this.#policy = { ...policy, decide: at => seen(policy.decide!(at)), filled: at => seen(policy.filled!(at)) };
    for (const kept of this.kept) kept.push(...scene.rowPositions);
    this.layer.prompt(this.#policy, scene.rowPositions.length);
  }

  /** Steps up to and with the next that asks the policy; false where `limit` steps do not. */
  step(limit: number): boolean {
    const before = this.layer.encoded.length;
    const packs = this.packs;
    for (let i = 0; i < limit; i++) {
      const position = this.layer.seen;
      for (const head of upTo(HEADS)) {
        this.kept[head]!.push(position);
        // The column's expression gives each exact or important entry its share of the step.
        for (const at of this.kept[head]!) {
          const p = random() ** 8;
          this.sums[head]![at] = (this.sums[head]![at] ?? 0) + GROUP * p;
          this.stored[head]!.set(at, Math.fround((this.stored[head]!.get(at) ?? 0) + p));
        }
      }
      this.layer.decode(this.#policy, 1);
      if (this.layer.encoded.length > before || this.packs > packs) return true;
    }
    return false;
  }

  /** Positions of a head by bits of their keys, ascending. */
  classes(head: number): Record<number, number[]> {
    const found: Record<number, number[]> = {};
    for (const page of this.layer.pages[head]!)
      found[bitsOf(page)] = [...(found[bitsOf(page)] ?? []), ...page.positions];
    for (const list of Object.values(found)) list.sort((a, b) => a - b);
    return found;
  }

  #positions(head: number) {
    return this.layer.pages[head]!.flatMap(({ positions }) => positions);
  }

  #store(action: Action): boolean {
    if (action.do === 'column')
      for (const head of upTo(HEADS))
        for (const [i, position] of this.#positions(head).entries())
          this.stored[head]!.set(position, action.values[head]![i]!);
    if (action.do === 'encode' && 'entries' in action) {
      const positions = this.#positions(action.head);
      if (action.without?.includes('mikv-score'))
        for (const entry of action.entries) this.stored[action.head]!.delete(positions[entry]!);
      this.blocks.set(action.sharedK?.key ?? '', action.sharedK?.values ?? new Float32Array(0));
    }
    if (action.do === 'keep') {
      this.packs++;
      // Nothing leaves: exact entries only move together.
      expect(action.entries.map(list => [...(list as Uint32Array)])).toEqual(
        upTo(HEADS).map(head => upTo(this.#positions(head).length)),
      );
    }
    return action.do === 'encode';
  }
}

describe.each([
  {},
  { important: 0.37, recent: 0.3, bitsRetained: 3 },
  { important: 0.5, bitsImportant: 8 },
  { important: 0.21, recent: 1, bitsImportant: 4, balancer: false },
  { important: 0.9, recent: 0 },
])('%o', given => {
  const { important, recent, bitsImportant, bitsRetained } = mikv.options.parse(given);

  test.each([1, 63, 64, 65, 79, 80, 81, 127, 128, 200, 321])('%i tokens and 200 steps: what is retained', rows => {
    const run = new Run(policyOf(given), sceneOf(rows));
    const check = () => {
      for (const head of upTo(HEADS)) {
        const { [bitsRetained]: low = [] } = run.classes(head);
        const left = new Set(demoted(run.layer.seen, run.kept[head]!, run.sums[head]!, important, recent));
        run.kept[head] = run.kept[head]!.filter(position => !left.has(position));
        // Never promoted, and demoted at once: what is not kept is retained.
        const gone = new Set(run.kept[head]);
        expect(low).toEqual(upTo(run.layer.seen).filter(position => !gone.has(position)));
        expect(low.length % 64).toBe(0);
      }
    };
    check();
    for (let left = 200; left > 0; ) {
      const from = run.layer.seen;
      if (!run.step(left)) break;
      left -= run.layer.seen - from;
      check();
    }
    for (const head of upTo(HEADS)) {
      const { [bitsRetained]: low = [], 8: eight = [], 4: four = [], 32: exact = [] } = run.classes(head);
      expect(low.length + eight.length + four.length + exact.length).toBe(rows + 200);
      // What is over the budget waits for a page of 64, and for the growing page to be full.
      expect(rows + 200 - low.length).toBeLessThan(important * (rows + 200) + 128);
      expect([eight.length > 0, four.length > 0]).toEqual([bitsImportant === 8, bitsImportant === 4]);
      if (bitsImportant !== 16) expect(exact.length).toBeLessThan(128);
    }
  });
});

test('all important and exact is the full cache; none important is plain rounding of each token to the nearest of four', () => {
  expect(policyOf({ important: 1 })).toEqual({});
  expect(policyOf({ important: 1, bitsImportant: 8 }).decide).toBeDefined();
  const run = new Run(policyOf({ important: 0, balancer: false }), sceneOf(200));
  for (const head of upTo(HEADS)) expect(run.classes(head)[2]!.length).toBe(192);
  const { k, v } = run.layer.pages[0]![0]!;
  expect(v).toEqual(k);
  const rows = normals(64 * D);
  const read = decodeScalar(encodeScalar(rows, 64, D, k as ScalarFormat), D, k as ScalarFormat);
  for (let start = 0; start < rows.length; start += D / 2) {
    const part = rows.subarray(start, start + D / 2);
    const [least, most] = [Math.min(...part), Math.max(...part)];
    part.forEach((x, i) => {
      const step = (most - least) / 3;
      const nearest = least + Math.round((x - least) / step) * step;
      // Parameters are f16: a value half way between two codes may fall to either.
      const between = Math.abs((((x - least) / step) % 1) - 0.5) < 0.01;
      expect(Math.abs(read[start + i]! - nearest)).toBeLessThan((between ? 1.02 : 0.004) * step + 2e-3);
    });
  }
});

test('what is asked while decoding goes on with the sum that the prompt began', () => {
  const policy = policyOf();
  expect(policy.sense!(0)).toEqual([
    { signal: 'attention', rows: 'all', reduce: 'sum', group: 'mean' },
    { signal: 'ranges', of: 'q' },
    { signal: 'ranges', of: 'k' },
  ]);
  expect(policyOf({ balancer: false }).sense!(0).length).toBe(1);
  expect(policy.step!(0, new Run(policy, sceneOf(10)).layer as never)).toEqual({
    columns: [
      {
        name: 'mikv-score',
        value: { op: 'add', a: { op: 'column', name: 'mikv-score' }, b: { op: 'attention', group: 'mean' } },
      },
    ],
  });
});

describe('the balancer', () => {
  const E = 128;
  const rangesOf = (rows: Float64Array) => {
    const out = new Float32Array(2 * E);
    rows.forEach((x, i) => {
      out[i % E] = Math.min(out[i % E]!, x);
      out[E + (i % E)] = Math.max(out[E + (i % E)]!, x);
    });
    return out;
  };
  const logits = (q: Float64Array, k: ArrayLike<number>, t: number, row: number) => {
    let sum = 0;
    for (let c = 0; c < E; c++) sum += q[row * E + c]! * k[t * E + c]!;
    return sum;
  };
  const loss = (q: Float64Array, k: Float64Array, format: ScalarFormat, side?: Float32Array) => {
    const read = decodeScalar(encodeScalar(k, 64, E, format, side && [{ side }]), E, format, side && [{ side }]);
    let [lost, all] = [0, 0];
    for (const row of upTo(64))
      for (const t of upTo(64)) {
        const exact = logits(q, k, t, row);
        lost += (logits(q, read, t, row) - exact) ** 2;
        all += exact ** 2;
      }
    return Math.sqrt(lost / all);
  };
  const channel = (rows: Float64Array, at: number, factor: number) =>
    rows.map((x, i) => (i % E === at ? factor * x : x));
  const format = (group: number, side: boolean): ScalarFormat => ({
    kind: 'scalar',
    parts: [{ bits: 2, along: 'channel', group, ...(side && { side }) }],
  });

  test('keys are stored times sqrt(max |q| / max |k|) of their channel', () => {
    const [q, k] = [normals(64 * E, 3), normals(64 * E)];
    const factors = keyFactors(rangesOf(q), rangesOf(k));
    for (const c of upTo(E)) {
      const most = (rows: Float64Array) => Math.max(...upTo(64).map(t => Math.abs(rows[t * E + c]!)));
      expect(factors[c]! * Math.sqrt(most(q) / most(k))).toBeCloseTo(1, 5);
    }
    // In real arithmetic, q / b against k b is q against k.
    const balanced = k.map((x, i) => x / factors[i % E]!);
    const turned = q.map((x, i) => x * factors[i % E]!);
    for (const t of upTo(64)) expect(logits(turned, balanced, t, t)).toBeCloseTo(logits(q, k, t, t), 9);
  });

  test('channels of zeros are left alone, and no factor is out of bounds', () => {
    // Minima first: queries of 0, 1, 1, 1e20 and 1e-20 at the most.
    const queries = Float32Array.of(0, -1, 0, 0, 0, 0, 0, 1, 1e20, 1e-20);
    const keys = Float32Array.of(-1, 0, -4, 0, 0, 0, 0, 0, 1, 1);
    expect([...keyFactors(queries, keys)]).toEqual([1, 1, 2, 1e-4, 1e4].map(Math.fround));
    const nothing = Float32Array.of(Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY);
    expect([...keyFactors(nothing, nothing)]).toEqual([1]);
  });

  test('one loud channel of queries and one of keys: the error of logits falls by more than half', () => {
    const q = channel(normals(64 * E), 5, 30);
    const k = channel(normals(64 * E), 77, 12);
    const side = keyFactors(rangesOf(q), rangesOf(k));
    const [half, whole] = [E / 2, E].map(group => ({
      plain: loss(q, k, format(group, false)),
      balanced: loss(q, k, format(group, true), side),
    })) as [{ plain: number; balanced: number }, { plain: number; balanced: number }];
    // Two halves of a head have ranges of their own: a loud key spoils only its half.
    expect(half.plain).toBeLessThan(whole.plain);
    for (const { plain, balanced } of [half, whole]) expect(balanced).toBeLessThan(0.7 * plain);
    expect(half.balanced).toBeLessThan(whole.balanced);
  });

  test('a policy hands out the factors of the prompt, and formats in halves of a head', () => {
    const scene = sceneOf(150);
    const run = new Run(policyOf(), scene);
    const expected = upTo(HEADS).map(head => {
      const [q, k] = (['q', 'k'] as const).map(of => plainSignal(scene, { signal: 'ranges', of })[head]!);
      return [`mikv-0-${head}`, keyFactors(q!, k!)];
    });
    expect([...run.blocks]).toEqual(expected);
    const [page] = run.layer.pages[0]!;
    expect(page!.k).toEqual({ kind: 'scalar', parts: [{ bits: 2, along: 'channel', group: D / 2, side: true }] });
    expect(page!.v).toEqual({ kind: 'scalar', parts: [{ bits: 2, along: 'channel', group: D / 2 }] });
    for (let i = 0; i < 3 && run.step(200); i++) expect([...run.blocks]).toEqual(expected);
  });
});

test('what a late query asks for is mostly there, where evicting the same tokens loses it', () => {
  const [n, W] = [320, 64];
  const shape = plainModel({ kvHeads: 1, group: 1, headDim: W });
  const positions = Int32Array.from(upTo(n));
  const view = { k: normals(n * W), v: normals(n * W), positions, columns: new Map() };
  const q = normals(n * W);
  const scene = { headDim: W, group: 1, window: 0, views: [[view]], layer: 0, q, rowPositions: positions };
  const layer = new TrackedLayer(shape);
  layer.signal = request => plainSignal({ ...scene, hidden: new Float64Array(0) }, request);
  const policy = policyOf({ important: 0.2 }, shape);
  const sides: (readonly Float32Array[])[] = [];
  layer.prompt(
    {
      decide(at) {
        const encoded = policy.decide!(at).filter(action => action.do === 'encode');
        for (const { sharedK } of encoded) sides.push([sharedK!.values]);
        return encoded;
      },
    },
    n,
  );
  const side = sides[0]![0]!;
  const low = layer.pages[0]!.filter(page => bitsOf(page) === 2);
  expect(low.length).toBe(4);
  const [k, v] = [view.k.slice(), view.v.slice()];
  for (const page of low) {
    for (const [plane, format] of [
      [k, page.k],
      [v, page.v],
    ] as const) {
      const rows = page.positions.flatMap(t => [...plane.subarray(t * W, (t + 1) * W)]);
      const shared = [{ side: format === page.k ? side : new Float32Array(W).fill(1) }];
      const read = decodeScalar(
        encodeScalar(rows, 64, W, format as ScalarFormat, shared),
        W,
        format as ScalarFormat,
        shared,
      );
      page.positions.forEach((t, i) => {
        plane.set(read.subarray(i * W, (i + 1) * W), t * W);
      });
    }
  }
  const retained = low.flatMap(page => page.positions);
  const attend = (keys: Float64Array, values: Float64Array, query: Float64Array, without: ReadonlySet<number>) => {
    const weights = upTo(n).map(t => {
      let logit = 0;
      for (let c = 0; c < W; c++) logit += (query[c]! * keys[t * W + c]!) / Math.sqrt(W);
      return without.has(t) ? 0 : Math.exp(logit);
    });
    const sum = weights.reduce((a, b) => a + b, 0);
    return upTo(W).map(c => weights.reduce((out, w, t) => out + (w / sum) * values[t * W + c]!, 0));
  };
  let [kept, evicted] = [0, 0];
  for (const target of retained.slice(0, 40)) {
    const query = view.k.slice(target * W, (target + 1) * W).map(x => 1.5 * x);
    const full = attend(view.k, view.v, query, new Set());
    const error = (out: number[]) => Math.hypot(...out.map((x, c) => x - full[c]!)) / Math.hypot(...full) / 40;
    kept += error(attend(k, v, query, new Set()));
    evicted += error(attend(view.k, view.v, query, new Set(retained)));
  }
  expect(evicted).toBeGreaterThan(0.9);
  expect(kept).toBeLessThan(0.5 * evicted);
});
