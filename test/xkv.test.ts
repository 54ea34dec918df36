import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { PAGE_TOKENS } from '../kernels/abi.ts';
import { KvCache } from '../src/cache/cache.ts';
import { openBackend } from '../src/cache/testing-backends.ts';
import { appendRows } from '../src/cache/testing-model.ts';
import { act } from '../src/engine/program/act.ts';
import { xkv } from '../src/methods/lowrank/xkv.ts';
import { PlainCache, plainModel, plainRandom } from '../src/methods/testing.ts';
import { drawnRows, unturned } from './helpers/golden-codes.ts';

/** See golden/methods/README.md. */
interface Case {
  readonly options: { readonly group: number; readonly rankK: number; readonly rankV: number };
  readonly seed: number;
  readonly layers: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** By layer: one token of `EVERY`, heads side by side. */
  readonly read: readonly { readonly k: readonly number[]; readonly v: readonly number[] }[];
}

const EVERY = 4;
const file = new URL('golden/methods/xkv.json', import.meta.url);
const cases: readonly Case[] = JSON.parse(readFileSync(file, 'utf8'));

/** `related` of make_xkv.py: f32 [64][width] of each layer. */
function related(seed: number, layers: number, width: number): Float32Array[] {
  const shared = width / 4;
  const all = layers * width;
  const x = drawnRows(seed, all);
  const random = plainRandom(seed + 1000);
  const draw = (length: number) => Float64Array.from({ length }, () => 2 * random() - 1);
  const common = draw(PAGE_TOKENS * shared);
  const mix = draw(shared * all);
  const at = (t: number, c: number) => {
    let sum = 0;
    for (let r = 0; r < shared; r++) sum += common[t * shared + r]! * mix[r * all + c]!;
    return x[t * all + c]! / 4 + sum;
  };
  return Array.from({ length: layers }, (_, layer) =>
    Float32Array.from({ length: PAGE_TOKENS * width }, (_, i) =>
      at(Math.floor(i / width), layer * width + (i % width)),
    ),
  );
}

let backend: Awaited<ReturnType<typeof openBackend>>;
beforeAll(async () => {
  backend = await openBackend('wasm');
});
afterAll(() => backend.kernels.dispose());

test('there are groups of some layers and of all', () => {
  expect(cases.map(({ layers, options }) => [layers, options.group])).toEqual([
    [4, 2],
    [3, 3],
  ]);
});

describe.each(cases)('$options of $layers layers', ({ options, seed, layers, kvHeads, headDim, read }) => {
  test('keys and values are read back as the authors read them', () => {
    const width = kvHeads * headDim;
    const planes = { k: related(seed, layers, width), v: related(seed + 10, layers, width) };
    const model = plainModel({ layers, kvHeads, group: 1, headDim });
    const none = new Float64Array(PAGE_TOKENS * width);
    const prompt = planes.k.map((k, layer) => ({
      ...{ k: Float64Array.from(k), v: Float64Array.from(planes.v[layer]!) },
      ...{ q: none, hidden: none },
    }));
    const policy = xkv.create(xkv.options.parse({ ...options, always: true }), model);
    const actions = new PlainCache(model).prompt(policy, prompt).flat();
    expect(actions.length).toBe(layers / options.group);

    const shape = { slots: layers, kvHeads, headDim, rotary: headDim };
    const cache = new KvCache({ ...backend, shape, limit: 1 << 24 });
    const sequence = cache.create({ owner: 'test', pages: { formatK: 'f32', formatV: 'f32', keysUnrotated: true } });
    const given = planes.k.flatMap((k, layer) => [...k, ...planes.v[layer]!]).values();
    const views = Array.from({ length: layers * kvHeads }, () => []);
    appendRows(cache, sequence, views, PAGE_TOKENS, () => given.next().value!);
    act(sequence, actions, unturned);
    for (const plane of ['k', 'v'] as const) {
      const most = Math.max(...planes[plane].flatMap(x => [...x]).map(Math.abs));
      let lost = 0;
      for (const [layer, golden] of read.entries()) {
        const heads = Array.from({ length: kvHeads }, (_, head) => sequence.read(layer, head)[plane]);
        golden[plane].forEach((theirs, i) => {
          const [t, c] = [EVERY * Math.floor(i / width), i % width];
          const ours = heads[Math.floor(c / headDim)]![t * headDim + (c % headDim)]!;
          // Shared rows and bases are f16 numbers.
          expect(Math.abs(ours - theirs)).toBeLessThan(2 ** -9 * most);
          lost = Math.max(lost, Math.abs(theirs - planes[plane][layer]![t * width + c]!));
        });
      }
      // What both lose is far above what f16 does.
      expect(lost).toBeGreaterThan(2 ** -5 * most);
    }
    cache.dispose();
  });
});
