import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { findMethod } from '../src/methods/index.ts';
import { PlainCache, type PlainRows, plainModel, plainRandom } from '../src/methods/testing.ts';
import { differences } from '../src/methods/testing-cards.ts';
import type { AttentionSignal } from '../src/methods/types.ts';

/** See golden/methods/README.md. */
interface Case {
  readonly method: string;
  readonly options: object;
  readonly seed: number;
  readonly rows: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly layer: number;
  readonly kept?: readonly (readonly number[])[];
  readonly scores?: readonly (readonly number[])[];
}

const read = (name: string): Case[] =>
  JSON.parse(readFileSync(new URL(`golden/methods/${name}.json`, import.meta.url), 'utf8'));
/** By kvpress, and by the code of Ada-KV's authors. */
const [kept, budgets] = [read('kept'), read('budgets')];
const headDim = 16;

/** The tensors of make_kept.py. */
function drawn({ seed, rows, heads, kvHeads }: Case): PlainRows {
  const random = plainRandom(seed);
  const fill = (length: number, scale: number) =>
    Float64Array.from({ length: length * rows * headDim }, () => Math.fround(scale * (2 * random() - 1)));
  const q = fill(heads, 4);
  const k = fill(kvHeads, 1);
  return { q, k, v: new Float64Array(k.length), hidden: new Float64Array(rows) };
}

test('there are cases of all methods that kvpress has', () => {
  const names = new Set(kept.map(({ method }) => method));
  expect([...names].sort()).toEqual(['adakv', 'h2o', 'pyramidkv', 'snapkv', 'streaming-llm', 'tova']);
  expect(new Set(budgets.map(({ method }) => method))).toEqual(new Set(['adakv', 'pyramidkv']));
});

describe.each([...kept, ...budgets])(
  '$method $options of $rows tokens, $heads heads on $kvHeads, layer $layer',
  golden => {
    const method = findMethod(golden.method)!;
    const model = plainModel({ layers: 4, kvHeads: golden.kvHeads, group: golden.heads / golden.kvHeads, headDim });
    const policy = method.create(method.options.parse(golden.options), model);
    const cache = new PlainCache(model);
    const rows = drawn(golden);
    let scores: readonly (readonly number[])[] = [];
    cache.prompt(
      {
        ...policy,
        decide(at) {
          const [request] = (policy.sense?.(at.layer) ?? []) as AttentionSignal[];
          if (request && at.layer === golden.layer) scores = at.signal(request).map(head => [...head]);
          return policy.decide!(at);
        },
      },
      [rows, rows, rows, rows],
    );
    const average = 'average' in golden.options;
    // Column sums over the number of queries that saw the entry.
    const ours = average ? scores.map(head => head.map((sum, i) => sum / (golden.rows - i))) : scores;

    const { kept, scores: theirs } = golden;
    if (kept)
      test('keeps the same entries', () => {
        kept.forEach((expected, head) => {
          const { positions } = cache.views[golden.layer]![head]!;
          expect(positions).toHaveLength(expected.length);
          expect(differences(positions, expected, ours[head] ?? [])).toEqual([]);
        });
      });

    if (theirs)
      test('gives the same scores', () => {
        theirs.forEach((expected, head) => {
          const mine = golden.method === 'tova' ? meanOf(ours) : ours[head]!;
          expected.forEach((score, i) => {
            expect(Math.abs(mine[i]! - score)).toBeLessThan(1e-6 + 1e-5 * Math.abs(score));
          });
        });
      });
  },
);

function meanOf(heads: readonly (readonly number[])[]): number[] {
  return heads[0]!.map((_, i) => heads.reduce((sum, head) => sum + head[i]!, 0) / heads.length);
}
