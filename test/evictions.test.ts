import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { findMethod } from '../src/methods/index.ts';
import { PlainCache, type PlainRows, plainModel } from '../src/methods/testing.ts';
import { PlainDecoder } from '../src/methods/testing-step.ts';
import { goldenTensors } from './helpers/golden-tensors.ts';

/** See golden/methods/README.md. */
interface Case {
  readonly method: string;
  readonly options: object;
  readonly seed: number;
  readonly rows: number;
  readonly steps: number;
  readonly heads: number;
  readonly kvHeads: number;
  /** After the prompt, and after all steps if there are any. */
  readonly kept: readonly (readonly (readonly number[])[])[];
}

const file = new URL('golden/methods/evictions.json', import.meta.url);
const cases: readonly Case[] = JSON.parse(readFileSync(file, 'utf8'));
const headDim = 16;

/** All tokens; the value of an entry is its number. */
function drawn({ seed, rows, steps, heads, kvHeads }: Case): PlainRows {
  const { q, k } = goldenTensors(seed, rows + steps, heads, kvHeads, headDim);
  const v = k.map((_, i) => Math.floor(i / (kvHeads * headDim)));
  return { q, k, v, hidden: new Float64Array(rows + steps) };
}

test('there are cases of each method', () => {
  const count = (name: string) => cases.filter(({ method }) => method === name).length;
  expect(['h2o', 'tova', 'streaming-llm', 'kvcrush'].map(count)).toEqual([3, 3, 6, 12]);
});

describe.each(cases)('$method $options of $rows tokens and $steps more, $heads heads on $kvHeads', golden => {
  const { rows, steps, heads, kvHeads, kept } = golden;
  const whole = drawn(golden);
  const part = (from: number, to: number): PlainRows => {
    const of = (x: Float64Array) => {
      const width = x.length / (rows + steps);
      return x.slice(from * width, to * width);
    };
    return { q: of(whole.q), k: of(whole.k), v: of(whole.v), hidden: of(whole.hidden) };
  };

  test('keeps what the authors keep, at the end of the prompt and of every step after it', () => {
    const method = findMethod(golden.method)!;
    const model = plainModel({ layers: 1, kvHeads, group: heads / kvHeads, headDim });
    const policy = method.create(method.options.parse(golden.options), model);
    const cache = new PlainCache(model);
    const held = () => cache.views[0]!.map(({ v, positions }) => Array.from(positions, (_, i) => v[i * headDim]!));
    cache.prompt(policy, [part(0, rows)]);
    expect(held()).toEqual(kept[0]);
    if (steps === 0) return;
    const decoder = new PlainDecoder(cache, policy);
    for (let at = rows; at < rows + steps; at++) decoder.step([part(at, at + 1)]);
    expect(held()).toEqual(kept[1]);
  });
});
