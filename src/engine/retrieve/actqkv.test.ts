import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { testPath } from '../../../test/golden.ts';
import { openKernels, openLoaded } from '../../../test/models.ts';
import { force, Written } from '../../../test/recipes.ts';
import type { Kernels } from '../../backend/types.ts';
import { plainRandom } from '../../methods/testing.ts';
import type { LoadedModel } from '../loaded-model.ts';
import type { RawQueries } from './retrieval.ts';

/** ActQKV's choices read once more from raw queries and representatives in float64: card, steps 2 to 4. */

let kernels: Kernels;
beforeAll(async () => {
  kernels = await openKernels(2);
});
afterAll(() => kernels.dispose());

type Row = readonly number[];
const range = (n: number) => Array.from({ length: n }, (_, i) => i);
const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
const meanRow = (rows: readonly Row[]): Row => rows[0]!.map((_, c) => mean(rows.map(row => row[c]!)));
const cosine = (a: Row, b: Row) => {
  const dot = (x: Row, y: Row) => x.reduce((sum, value, i) => sum + value * y[i]!, 0);
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
};

interface Choice {
  readonly layer: number;
  readonly scores: readonly number[];
  readonly chosen: readonly number[];
}

const OPTIONS = 'block=8, blocks=4, least=2, most=9, sinks=4, local=24, window=64, distance=40, history=3, resident=64';

/** Runs a recipe with every choice read again beside it. */
async function read(model: LoadedModel, options: string, warmup: number, weight: number): Promise<Choice[]> {
  const { config } = model.forward.recipes;
  const { heads, kvHeads, headDim, layers } = config;
  const width = heads * headDim;
  const random = plainRandom(3);
  const tokens = (count: number) => range(count).map(() => 3 + Math.floor(random() * (model.info.vocab - 4)));
  using written = new Written(model, `actqkv(${OPTIONS}, warmup=${warmup}, weight=${weight}${options})`);
  const retrieval = written.run.retrieval!;

  const turned = ({ address, rows }: Pick<RawQueries, 'address' | 'rows'>, layer: number): Row[] => {
    const { inverseFrequencies, magnitude } = config.ropes[config.layerRope[layer]!]!;
    const half = inverseFrequencies.length;
    return range(rows).map(row => {
      const q = Array.from(model.cache.memory.f32.subarray(address / 4 + row * width, address / 4 + (row + 1) * width));
      return q.map((x, at) => {
        const c = at % headDim;
        if (c >= 2 * half) return x;
        const angle = 40 * inverseFrequencies[c % half]!;
        const other = c < half ? -q[at + half]! : q[at - half]!;
        return magnitude * (x * Math.cos(angle) + other * Math.sin(angle));
      });
    });
  };
  const seen: Row[][][] = range(layers).map(() => []);
  const questions: (Row | null)[] = range(layers).map(() => null);
  const probe = (layer: number, rows: readonly Row[]): Row => {
    seen[layer]!.push([...rows]);
    if (seen[layer]!.length <= warmup || rows.length === 1) return meanRow(rows);
    // All windows are of the same weight, whatever their length.
    const each = seen[layer]!.map(window => meanRow(window));
    const middle = meanRow(each);
    const variance = range(width).map(c =>
      mean(seen[layer]!.map(window => mean(window.map(row => (row[c]! - middle[c]!) ** 2)))),
    );
    const floor = mean(variance) / 100;
    const bias = rows.map(row => mean(row.map((x, c) => (x - middle[c]!) ** 2 / (variance[c]! + floor))));
    const total = bias.reduce((a, b) => a + b, 0);
    return range(width).map(c => rows.reduce((sum, row, t) => sum + (bias[t]! / total) * row[c]!, 0));
  };

  const choices: Choice[] = [];
  const note = (layer: number, query: RawQueries) => {
    const count = written.sequence.units(layer, 0).count;
    if (count === 0) return;
    const p = probe(layer, turned(query, layer));
    const group = heads / kvHeads;
    const keys = range(count).map(unit =>
      range(heads).flatMap(h => {
        const { index } = written.sequence.units(layer, Math.floor(h / group));
        return Array.from(index.subarray(unit * headDim, (unit + 1) * headDim));
      }),
    );
    const question = questions[layer];
    const scores = keys.map(key => cosine(p, key) + (question ? weight * cosine(question, key) : 0));
    const state = written.sequence.state<{ layers: { chosen: Uint32Array[] }[] }>('retrieval')!;
    for (const chosen of state.layers[layer]!.chosen) choices.push({ layer, scores, chosen: [...chosen] });
  };
  const { prompt, step, question, endPrompt } = retrieval;
  retrieval.prompt = (layer, query, rows) => {
    prompt.call(retrieval, layer, query, rows);
    note(layer, query);
  };
  retrieval.step = (layer, query) => {
    step.call(retrieval, layer, query);
    note(layer, query);
  };
  retrieval.question = (layer, query) => {
    question.call(retrieval, layer, query);
    questions[layer] = meanRow(turned(query, layer));
  };
  retrieval.endPrompt = () => {
    endPrompt.call(retrieval);
    questions.fill(null);
  };
  await written.prompt(tokens(300));
  await force(written, tokens(3));
  await written.prompt(tokens(130));
  await force(written, tokens(2));
  return choices;
}

describe.each(['qwen3', 'llama-linear', 'mistral'])('%s', name => {
  let model: LoadedModel;
  beforeAll(async () => {
    model = await openLoaded(kernels, testPath(`models/${name}`), { mode: 'exact', tile: 63 });
  });
  afterAll(() => model.dispose());

  test.each([
    [1000, 0],
    [1000, 4],
    [1, 4],
  ])(
    'warm-up of %i windows, question weighs %i: the best blocks by the card, no more than there are for all layers',
    async (warmup, weight) => {
      const choices = await read(model, '', warmup, weight);
      expect(choices.length).toBeGreaterThan(20);
      for (const { scores, chosen } of choices) {
        const best = range(scores.length).sort((a, b) => scores[b]! - scores[a]! || a - b);
        const cut = scores[best[chosen.length - 1]!]!;
        for (const unit of chosen) expect(scores[unit]!).toBeGreaterThanOrEqual(cut - 1e-4);
        expect(chosen.length).toBeLessThanOrEqual(9);
      }
      const { kvHeads, layers } = model.info;
      for (let i = 0; i < choices.length; i += kvHeads * layers) {
        const pass = choices.slice(i, i + kvHeads * layers).filter((_, n) => n % kvHeads === 0);
        expect(pass.reduce((sum, { chosen }) => sum + chosen.length, 0)).toBeLessThanOrEqual(4 * layers);
      }
    },
  );
});

test('the question has its say in what a window reads, and none in a step of decoding', async () => {
  const model = await openLoaded(kernels, testPath('models/qwen3'), { mode: 'exact', tile: 63 });
  try {
    const [without, beside] = [await read(model, '', 1000, 0), await read(model, '', 1000, 4)];
    expect(beside.map(({ chosen }) => chosen)).not.toEqual(without.map(({ chosen }) => chosen));
    expect(Math.max(...beside.flatMap(({ scores }) => scores))).toBeGreaterThan(1);
    const steps = beside.slice(-2 * model.info.layers * model.info.kvHeads);
    for (const score of steps.flatMap(({ scores }) => scores)) expect(Math.abs(score)).toBeLessThanOrEqual(1);
  } finally {
    await model.dispose();
  }
});
