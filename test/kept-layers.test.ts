import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { type Importance, importanceRecorder, prefixProfile } from '../src/methods/calibrate/prefixkv.ts';
import { findMethod } from '../src/methods/index.ts';
import { PlainCache, type PlainRows, plainModel, plainPrompt, plainRandom } from '../src/methods/testing.ts';
import { differences } from '../src/methods/testing-cards.ts';
import { PlainDecoder } from '../src/methods/testing-step.ts';
import type { AttentionSignal, PerHead, Policy, RowsAction } from '../src/methods/types.ts';

/** See golden/methods/README.md. */
interface Case {
  readonly method: string;
  readonly options: { readonly keep?: number };
  readonly seed: number;
  readonly rows: number;
  readonly heads: number;
  readonly kvHeads: number;
  /** By layer: what its queries are multiplied by. */
  readonly sharp: readonly number[];
  /** By layer: the entries of each head, or one set for all heads. */
  readonly kept: readonly (readonly (readonly number[])[])[];
  /** FastKV: tokens that run on. */
  readonly chosen?: readonly number[];
  /** PrefixKV: by layer the share that goes by the profile of another prompt; what is left after STEPS of decoding. */
  readonly forgets?: readonly number[];
  readonly after?: readonly (readonly (readonly number[])[])[];
}

const file = new URL('golden/methods/kept-layers.json', import.meta.url);
const cases: readonly Case[] = JSON.parse(readFileSync(file, 'utf8'));
const headDim = 16;
const STEPS = 20;
const FROM_END = 25;

/** `prompt` of make_kept_layers.py. */
function drawn({ seed, rows, heads, kvHeads, sharp }: Case): PlainRows[] {
  return sharp.map((scale, layer) => {
    const random = plainRandom(1000 * seed + layer);
    const fill = (length: number, by: number) =>
      Float64Array.from({ length: length * rows * headDim }, () => Math.fround(by * (2 * random() - 1)));
    const q = fill(heads, 4).map(x => scale * x);
    const k = fill(kvHeads, 1);
    return { q, k, v: new Float64Array(k.length), hidden: new Float64Array(rows) };
  });
}

const modelOf = ({ sharp, heads, kvHeads }: Case) =>
  plainModel({ layers: sharp.length, kvHeads, group: heads / kvHeads, headDim });

function run(golden: Case) {
  const { forgets, options } = golden;
  const method = findMethod(golden.method)!;
  const model = modelOf(golden);
  const profile = forgets && {
    kind: 'prefixkv',
    fingerprint: model.fingerprint,
    shares: [options.keep],
    layers: forgets.map(share => ({ sum: [1 - share], average: [1 - share] })),
  };
  const policy = method.create(method.options.parse(options), model, profile);
  const cache = new PlainCache(model);
  /** By layer: the scores of its first signal. */
  const scores: PerHead[] = [];
  let chosen: RowsAction['rows'] | undefined;
  const spying: Policy = {
    ...policy,
    decide(at) {
      const [request] = (policy.sense?.(at.layer) ?? []) as AttentionSignal[];
      if (request) scores[at.layer] = at.signal(request).map(head => head.slice());
      return policy.decide!(at).map(action => {
        if (action.do !== 'rows') return action;
        chosen = action.rows;
        // Of tokens that tie others may run on: later layers see the authors'.
        return { ...action, rows: Uint32Array.from(golden.chosen!) };
      });
    },
  };
  cache.prompt(spying, drawn(golden));
  return { cache, policy, scores, chosen };
}

const held = (cache: PlainCache) => cache.views.map(heads => heads.map(view => [...view.positions]));

test('there are cases of each of the methods', () => {
  expect(new Set(cases.map(({ method }) => method))).toEqual(new Set(['cake', 'windowkv', 'fastkv', 'prefixkv']));
});

describe.each(cases)('$method $options of $rows tokens, $heads heads on $kvHeads', golden => {
  const { cache, policy, scores, chosen } = run(golden);
  const kept = held(cache);
  /** One set may stand for those of all heads. */
  const theirs = (sets: Case['kept'], layer: number, head: number) => sets[layer]![head] ?? sets[layer]![0]!;

  test('keeps the same entries in all layers', () => {
    kept.forEach((heads, layer) => {
      for (const [head, entries] of heads.entries()) {
        const expected = theirs(golden.kept, layer, head);
        expect(entries).toHaveLength(expected.length);
        if (golden.method !== 'fastkv') expect(entries).toEqual(expected);
        else {
          // Neighbours that a maximum is pooled over tie.
          const rows = layer > 1 ? [...golden.chosen!] : entries.map((_, i) => i);
          const place = layer > 1 ? (i: number) => rows.indexOf(i) : (i: number) => i;
          expect(differences(entries.map(place), expected.map(place), scores[layer]![head]!)).toEqual([]);
        }
      }
    });
  });

  if (golden.chosen)
    test('the same tokens run on', () => {
      const total = scores[1]![0]!.map((_, i) => scores[1]!.reduce((sum, head) => sum + head[i]!, 0));
      expect(chosen).toHaveLength(golden.chosen!.length);
      expect(differences(chosen!, golden.chosen!, total)).toEqual([]);
    });

  if (golden.after)
    test('while decoding the same ones go; the authors round up what a layer may hold, we down', () => {
      const decoder = new PlainDecoder(cache, policy);
      for (let step = 0; step < STEPS; step++) decoder.step(plainPrompt(cache.model, 1, plainRandom(step)));
      held(cache).forEach((heads, layer) => {
        for (const [head, entries] of heads.entries()) {
          const expected = theirs(golden.after!, layer, head);
          const { length } = kept[layer]![head]!;
          const place = length > FROM_END ? length - FROM_END : length >> 1;
          expect([0, 1]).toContain(expected.length - entries.length);
          expect(entries).toEqual(expected.toSpliced(place, expected.length - entries.length));
        }
      });
    });

  if (golden.forgets)
    test('a profile gives each layer nearly the same', () => {
      const model = modelOf(golden);
      const found: Importance = { sum: [], average: [] };
      new PlainCache(model).prompt(importanceRecorder(found), drawn({ ...golden, seed: golden.seed + 50 }));
      const { shares, layers } = prefixProfile([found], model);
      const at = shares.indexOf(golden.options.keep!);
      layers.forEach(({ sum }, layer) => {
        // The authors round towards 0.
        expect(Math.abs(1 - sum[at]! - golden.forgets![layer]!) * golden.rows).toBeLessThan(1);
      });
    });
});
