import { afterAll, beforeAll, expect, test } from 'vitest';
import { testPath } from '../../../test/golden.ts';
import { openKernels, openLoaded } from '../../../test/models.ts';
import { force, Written } from '../../../test/recipes.ts';
import type { Kernels } from '../../backend/types.ts';
import { PlainCache, plainRandom } from '../../methods/testing.ts';
import { type PlainView, plainProbabilities } from '../../methods/testing-signals.ts';
import { PlainDecoder } from '../../methods/testing-step.ts';
import type { Policy, StepRule } from '../../methods/types.ts';
import type { LoadedModel } from '../loaded-model.ts';
import { turnQueries } from '../retrieve/queries.ts';
import type { StepHooks } from '../work.ts';

let kernels: Kernels;
let model: LoadedModel;
beforeAll(async () => {
  kernels = await openKernels(2);
  model = await openLoaded(kernels, testPath('models/qwen3'), { mode: 'exact', tile: 64 });
  const { layers, kvHeads, fingerprint } = model.program('h2o')!.model;
  const retrieval = Array.from({ length: layers }, (_, layer) => (layer === 0 ? [kvHeads - 1] : []));
  model.setProfile('razor-attention', { kind: 'razor-attention', fingerprint, retrieval });
});
afterAll(async () => {
  await model.dispose();
  await kernels.dispose();
});

const tokens = (count: number, seed: number) => {
  const random = plainRandom(seed);
  return Array.from({ length: count }, () => 3 + Math.floor(random() * (model.info.vocab - 4)));
};

/** The views of a sequence in float64, and its rules read by the book on them. */
class Twin {
  readonly cache: PlainCache;
  readonly #written: Written;
  readonly #decoder: PlainDecoder;
  readonly #names: readonly string[];
  dropped = 0;

  constructor(written: Written) {
    const { run, sequence } = written;
    this.#written = written;
    this.cache = new PlainCache(run.program.model);
    this.cache.seen = run.seen;
    this.#names = sequence.options.pages.columns ?? [];
    for (const [layer, views] of this.cache.views.entries()) {
      for (const [head, view] of views.entries()) {
        const { k, v } = sequence.read(layer, head);
        view.k = Float64Array.from(k);
        view.v = Float64Array.from(v);
        view.positions = sequence.positions(layer, head);
        for (const name of this.#names) view.columns.set(name, sequence.column(layer, head, name));
      }
      this.cache.next[layer] = sequence.nextPosition(layer);
    }
    const { rules } = sequence.state<{ rules: (StepRule | null)[][] }>('run')!;
    expect(rules[0]!.some(Boolean)).toBe(true);
    this.#decoder = new PlainDecoder(this.cache, { step: layer => rules[0]![layer]! } satisfies Policy);
  }

  /** Takes in the newest row, whose turned query is `q`, and carries out the layer's rule. */
  step(layer: number, q: Float64Array): void {
    const { sequence } = this.#written;
    const { kvHeads, headDim, group, heads } = this.cache.model;
    if (layer === 0) this.cache.seen++;
    const rows = { k: new Float64Array(kvHeads * headDim), v: new Float64Array(kvHeads * headDim) };
    const position = this.cache.next[layer]!;
    for (let head = 0; head < kvHeads; head++) {
      const { k, v } = sequence.read(layer, head);
      rows.k.set(k.subarray(-headDim), head * headDim);
      rows.v.set(v.subarray(-headDim), head * headDim);
      expect(sequence.positions(layer, head).at(-1)).toBe(position);
    }
    this.cache.append(layer, rows, Int32Array.of(position));
    const before = this.cache.views[layer]!.reduce((sum, { positions }) => sum + positions.length, 0);
    const hidden = new Float64Array();
    const { keysUnrotated } = sequence.options.pages;
    const views = this.cache.views.map(heads => (keysUnrotated ? heads.map(view => turned(view, layer)) : heads));
    const scene = { headDim, group, window: 0, views, layer, q, hidden };
    const rowPositions = Int32Array.of(position);
    this.#decoder.settle(
      layer,
      Array.from({ length: heads }, (_, head) => plainProbabilities({ ...scene, rowPositions }, head, 0)),
    );
    this.dropped += before - this.cache.views[layer]!.reduce((sum, { positions }) => sum + positions.length, 0);
  }

  /** The engine's views are this one's: entries, positions, rows, columns. */
  check(layer: number): void {
    const { sequence } = this.#written;
    for (const [head, view] of this.cache.views[layer]!.entries()) {
      expect([...sequence.positions(layer, head)]).toEqual([...view.positions]);
      const { k, v } = sequence.read(layer, head);
      expect(difference(v, view.v)).toBeLessThan(1e-5);
      expect(difference(k, view.k)).toBeLessThan(1e-5);
      for (const name of this.#names)
        expect(difference(sequence.column(layer, head, name), view.columns.get(name)!)).toBeLessThan(1e-4);
    }
  }
}

/** A view whose keys are turned by the positions of their entries. */
function turned(view: PlainView, layer: number): PlainView {
  const { config, ropes } = model.forward.recipes;
  const rope = ropes[config.layerRope[layer]!]!;
  const half = rope.rotary / 2;
  const k = view.k.slice();
  for (const [entry, position] of view.positions.entries()) {
    const table = rope.row(position) / 4;
    for (let c = 0; c < half; c++) {
      const [cos, sin] = [kernels.memory.f32[table + c]!, kernels.memory.f32[table + half + c]!];
      const at = entry * config.headDim + c;
      const [x, y] = [view.k[at]!, view.k[at + half]!];
      k[at] = x * cos - y * sin;
      k[at + half] = y * cos + x * sin;
    }
  }
  return { ...view, k };
}

function difference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  expect(a.length).toBe(b.length);
  let most = 0;
  for (let i = 0; i < a.length; i++) most = Math.max(most, Math.abs(a[i]! - b[i]!) / Math.max(1, Math.abs(b[i]!)));
  return most;
}

/** Forces tokens; the twin follows at each layer of each step. */
async function follow(written: Written, twin: Twin, given: readonly number[]): Promise<void> {
  const { run, sequence } = written;
  const { config, ropes } = model.forward.recipes;
  const width = config.heads * config.headDim;
  const hooks: StepHooks = {
    beforeAttention: (layer, query) => run.beforeAttention(layer, query),
    afterAttention(layer, query) {
      const from = query.address / 4 + query.row * width;
      const q = turnQueries(kernels.memory.f32, { ropes, config }, layer, from, 1, () => query.position);
      twin.step(layer, Float64Array.from(q));
      run.afterAttention(layer, query);
      twin.check(layer);
    },
  };
  for (const token of given) {
    written.tokens.push(token);
    const from = written.tokens.length - 1;
    const work = { sequence, tokens: written.tokens, from, rows: 1, position: from, logits: 'last', hooks } as const;
    await model.forward.step([work], () => {});
    run.afterStep();
  }
}

test.each([
  'h2o(budget=40)',
  'h2o(keep=0.3, average=true)',
  'tova(budget=40)',
  'tova(budget=40, recent=8)',
  'cake(budget=40, window=8)',
  'cake(budget=40, window=8, pool=max, group=max)',
  'treekv(budget=40, positions=kept)',
  'treekv(budget=40, block=8)',
  'streaming-llm(budget=40)',
  'streaming-llm(budget=40, positions=kept)',
  'razor-attention(minimum=30, sinks=2)',
  'razor-attention(minimum=30, compensate=false)',
])('%s: 120 steps after a prompt and 20 after a second are those of the rules read plainly', async kv => {
  using written = new Written(model, kv);
  await written.prompt(tokens(130, 1));
  const first = new Twin(written);
  await follow(written, first, tokens(120, 2));
  expect(first.dropped).toBeGreaterThanOrEqual(120);
  await written.prompt(tokens(33, 3));
  await follow(written, new Twin(written), tokens(20, 4));
});

test("TreeKV's pairs go on from the prompt's sweep, in a fork by themselves", async () => {
  using written = new Written(model, 'treekv(budget=40, block=1)');
  const cursors = (of: Written) => [...new Set(of.sequence.state<{ cursors: Int32Array }>('run')!.cursors)];
  await written.prompt(tokens(130, 5));
  // 110 tokens through a part of 20.
  expect(cursors(written)).toEqual([10]);
  using fork = written.fork();
  await force(written, tokens(13, 6));
  expect(cursors(written)).toEqual([3]);
  expect(cursors(fork)).toEqual([10]);
  await written.prompt(tokens(25, 7));
  expect(cursors(written)).toEqual([5]);
});
