import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Kernels } from '../src/backend/types.ts';
import { EpisodeCaches } from '../src/engine/episodes.ts';
import { LayerPrefill } from '../src/engine/layer-prefill.ts';
import type { LoadedModel } from '../src/engine/loaded-model.ts';
import { Run } from '../src/engine/program/run.ts';
import { logSumExp } from '../src/engine/sampler.ts';
import { parseEpicacheProfile } from '../src/methods/profiles.ts';
import { BUNDLED, openKernels, openLoaded } from './models.ts';

let kernels: Kernels;
let model: LoadedModel;
beforeAll(async () => {
  kernels = await openKernels(2);
  model = await openLoaded(kernels, BUNDLED, { mode: 'fast', deterministic: true });
  model.setProfile('epicache', JSON.parse(await readFile(BUNDLED.replace('.gguf', '.epicache.json'), 'utf8')));
}, 60_000);
afterAll(async () => {
  await model.dispose();
  await kernels.dispose();
});

const encode = (text: string) => model.tokenizer.encode(text);

/** Two topics, each spoken of twice; every figure is said once. */
const GARDEN = ['roses', 'tulips', 'carrots', 'pears', 'onions', 'cherries', 'lettuce', 'beans', 'lilies', 'plums'];
const SHIPS = ['Falcon', 'Albatross', 'Neptune', 'Victory', 'Swallow', 'Triton', 'Pegasus', 'Orion', 'Kestrel', 'Argo'];
const code = (topic: number, i: number) => String(1000 + ((i * 4177 + topic * 2711 + 1234) % 8999));
const garden = (i: number) =>
  `In the garden the gardener planted the ${GARDEN[i]} in the soil behind the house, watered the seeds and the leaves, and wrote on a label that the number of the ${GARDEN[i]} is ${code(0, i)}. The flowers and the fruit grew in the sun beside the old wall.\n`;
const ship = (i: number) =>
  `The captain sailed the ship ${SHIPS[i]} over the stormy sea, the sailors raised the mast and the sails in the wind, and the pilot of the harbour wrote that the number of the ${SHIPS[i]} is ${code(1, i)}. The crew rowed the boats to the deck and the anchor.\n`;
const run = (topic: (i: number) => string, from: number) => [0, 1, 2, 3, 4].map(i => topic(from + i)).join('');
const TEXT = run(garden, 0) + run(ship, 0) + run(garden, 5) + run(ship, 5);
const questions = [
  ...GARDEN.map((name, i) => ({
    topic: 0,
    text: `In the garden the gardener planted the ${name} in the soil, and the number of the ${name} is`,
    answer: ` ${code(0, i)}`,
  })),
  ...SHIPS.map((name, i) => ({
    topic: 1,
    text: `The captain sailed the ship ${name} over the sea, and the number of the ${name} is`,
    answer: ` ${code(1, i)}`,
  })),
];

describe('two topics', () => {
  let caches: EpisodeCaches;
  /** Which episode is which topic: the one that most of its questions go to. */
  let routed: number[];
  beforeAll(async () => {
    const settings = { budget: 300, block: 128, episodes: 2, segment: 64, nearest: 12 };
    caches = await EpisodeCaches.build(model, encode(TEXT), settings);
    routed = [];
    for (const { text } of questions) routed.push(await caches.route(encode(text)));
  }, 120_000);
  afterAll(() => caches[Symbol.dispose]());

  test('questions are routed by topic', () => {
    const right = questions.filter(({ topic }, i) => (routed[i] === routed[0]) === (topic === 0));
    expect(caches.count).toBe(2);
    expect(right.length / questions.length).toBeGreaterThan(0.9);
  });

  test("a topic's own cache answers better than the other's, and answering leaves nothing behind", async () => {
    const before = caches.held;
    const loss = async (episode: number, text: string, answer: string) => {
      const asked = encode(text);
      const wanted = encode(answer);
      let sum = 0;
      for (const n of wanted.keys())
        await caches.force(episode, [...asked, ...wanted.slice(0, n)], logits => {
          sum += logSumExp(logits) - logits[wanted[n]!]!;
        });
      return sum / wanted.length;
    };
    const own: number[] = [];
    const other: number[] = [];
    for (const { topic, text, answer } of questions) {
      const home = topic === 0 ? routed[0]! : 1 - routed[0]!;
      own.push(await loss(home, text, answer));
      other.push(await loss(1 - home, text, answer));
    }
    const mean = (x: readonly number[]) => x.reduce((a, b) => a + b, 0) / x.length;
    // Of each topic: by a clear margin.
    for (const at of [0, 10]) expect(mean(own.slice(at, at + 10))).toBeLessThan(mean(other.slice(at, at + 10)) - 0.2);
    expect(own.filter((x, i) => x < other[i]!).length).toBeGreaterThanOrEqual(15);
    const [{ text }] = questions as [(typeof questions)[0]];
    const first = await caches.ask(encode(text), 6);
    expect(await caches.ask(encode(text), 6)).toEqual(first);
    expect(caches.held).toEqual(before);
  }, 120_000);
});

describe('one prompt', () => {
  const read = async (kv: string, tokens: readonly number[], use: (run: Run) => void) => {
    const program = model.program(kv)!;
    const sequence = model.cache.create({ owner: 'test', pages: program.pages('f32') });
    const run = new Run(program, sequence, model.forward.recipes, 1);
    const prefill = new LayerPrefill(model.forward, sequence, tokens, 0, run);
    try {
      for (;;) {
        const done = await prefill.next();
        use(run);
        if (done) break;
      }
      await prefill.finish('last', () => {});
      return { sequence };
    } finally {
      prefill.dispose();
    }
  };
  const entries = (run: Run, layer: number) => {
    const { kvHeads } = model.info;
    return Array.from({ length: kvHeads }, (_, head) => run.sequence.entries(layer, head));
  };
  const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);

  test.each(['layer', 'head'])(
    'never holds more than its budget and a block, budgets sum to layers x budget: per %s',
    async per => {
      const [budget, block] = [192, 128];
      const { layers, kvHeads } = model.info;
      const most = Array.from({ length: layers }, () => 0);
      const kv = `epicache(budget=${budget}, block=${block}, segment=32, per=${per})`;
      const { sequence } = await read(kv, encode(TEXT), run => {
        for (const layer of most.keys()) most[layer] = Math.max(most[layer]!, sum(entries(run, layer)));
      });
      const kept = most.map((_, layer) =>
        sum(Array.from({ length: kvHeads }, (_, head) => sequence.entries(layer, head))),
      );
      expect(sum(kept)).toBe(layers * budget * kvHeads);
      for (const [layer, peak] of most.entries()) expect(peak).toBeLessThanOrEqual(kept[layer]! + block * kvHeads);
      const profile = parseEpicacheProfile(
        JSON.parse(await readFile(BUNDLED.replace('.gguf', '.epicache.json'), 'utf8')),
        model.shape,
      );
      for (const [a, { similarity }] of profile.layers.entries())
        for (const [b, other] of profile.layers.entries())
          if (similarity < other.similarity) expect(kept[a]).toBeGreaterThanOrEqual(kept[b]! - kvHeads);
      const end = encode(TEXT).length;
      for (let layer = 0; layer < layers; layer++)
        for (let head = 0; head < kvHeads; head++) {
          const positions = [...sequence.positions(layer, head)];
          expect(positions.slice(0, 4)).toEqual([0, 1, 2, 3]);
          expect(positions.slice(-32)).toEqual(Array.from({ length: 32 }, (_, i) => end - 32 + i));
        }
      sequence.free();
    },
  );
});
