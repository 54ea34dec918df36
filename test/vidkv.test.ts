import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { PAGE_TOKENS } from '../kernels/abi.ts';
import { type CpuKernels, createKernels } from '../src/backend/cpu/kernels.ts';
import type { ScalarFormat } from '../src/cache/format.ts';
import { TrackedLayer } from '../src/methods/format/testing.ts';
import { vidkv } from '../src/methods/format/vidkv.ts';
import { plainModel } from '../src/methods/testing.ts';
import { codeOf, compareCodes, drawnRows, type GoldenCodes } from './helpers/golden-codes.ts';
import { PlaneCell } from './helpers/plane-cell.ts';

/** See golden/methods/README.md. */
interface Case {
  readonly options: { readonly bitsK: number; readonly bitsV: number };
  readonly seed: number;
  readonly wide: readonly number[];
  /** Of the channels with 2 bits, and of the others. */
  readonly k: readonly [GoldenCodes, GoldenCodes];
  readonly v: readonly [GoldenCodes];
}

const WIDTH = 32;
const file = new URL('golden/methods/vidkv.json', import.meta.url);
const cases: readonly Case[] = JSON.parse(readFileSync(file, 'utf8'));
const model = plainModel({ layers: 1, kvHeads: 1, headDim: WIDTH });

let kernels: CpuKernels;
beforeAll(async () => {
  kernels = await createKernels({ limit: 2 ** 26 });
});
afterAll(() => kernels.dispose());

test('there are cases of each width', () => {
  expect(cases.map(({ options }) => [options.bitsK, options.bitsV])).toEqual([
    [1.5, 1.58],
    [1.25, 1.58],
    [1.5, 2],
  ]);
});

describe.each(cases)('$options', ({ options, seed, wide, k, v }) => {
  const x = drawnRows(seed, WIDTH);
  const columns = Array.from({ length: WIDTH }, (_, c) => x.filter((_, i) => i % WIDTH === c));
  const rowsOf = (channels: readonly number[]) =>
    Float32Array.from(
      { length: PAGE_TOKENS * channels.length },
      (_, i) => columns[channels[i % channels.length]!]![Math.floor(i / channels.length)]!,
    );

  /** A page in the formats that the method asks for, 1-bit codes being plain signs. */
  function encoded(): PlaneCell {
    const layer = new TrackedLayer(model);
    layer.signal = () => [
      Float32Array.of(...columns.map(of => Math.min(...of)), ...columns.map(of => Math.max(...of))),
    ];
    layer.prompt(vidkv.create(vidkv.options.parse({ ...options, normal: 'sign' }), model), 128);
    const page = layer.pages[0]![0]! as unknown as Record<'k' | 'v', ScalarFormat>;
    const cell = new PlaneCell(kernels, WIDTH, page.k, page.v);
    cell.encode(PAGE_TOKENS, x, x);
    return cell;
  }

  test('has the channels, codes and parameters of the authors', () => {
    const cell = encoded();
    const [two, one] = cell.plans.k.parts.map(({ channels }) => [...channels]);
    expect(two).toEqual(wide);
    compareCodes(cell, 'k', 0, k[0], rowsOf(two!));
    expect([...cell.codes('k', 1)]).toEqual([...k[1].codes].map(codeOf));
    const { scale } = cell.plans.k.parts[1]!;
    cell.halves('k', scale, k[1].scale.length).forEach((ours, i) => {
      expect(Math.abs(ours - k[1].scale[i]!)).toBeLessThan(2 ** -10 * k[1].scale[i]!);
    });
    expect(one!.length).toBe(WIDTH - wide.length);
    if (options.bitsV === 2) compareCodes(cell, 'v', 0, v[0], x);
    else expect([...cell.codes('v', 0)]).toEqual([...v[0].codes].map(codeOf));
    cell.dispose();
  });
});
