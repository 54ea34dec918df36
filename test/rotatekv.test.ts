import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { PAGE_TOKENS } from '../kernels/abi.ts';
import { encodeJoint } from '../kernels/reference/joint.ts';
import { encodeScalar, hadamard } from '../kernels/reference/scalar.ts';
import { KvCache } from '../src/cache/cache.ts';
import type { JointFormat, ScalarFormat } from '../src/cache/format.ts';
import { openBackend } from '../src/cache/testing-backends.ts';
import { appendRows } from '../src/cache/testing-model.ts';
import { act } from '../src/engine/program/act.ts';
import { peakRows } from '../src/engine/sense/hidden-peaks.ts';
import { keyMeans } from '../src/methods/calibrate/rotatekv.ts';
import { rotatekv } from '../src/methods/format/rotatekv.ts';
import { PlainCache, plainModel, plainPrompt, plainRandom } from '../src/methods/testing.ts';
import { codeOf, drawnRows, unturned } from './helpers/golden-codes.ts';

/** Codes [64][channels] as stored; scale and zero (in steps) [64][channels / group]. */
interface Plane {
  readonly codes: string;
  readonly scale: readonly number[];
  readonly zero: readonly number[];
}

/** See golden/methods/README.md. */
interface Case {
  readonly options: { readonly bits: 2 | 4; readonly heads: number; readonly group: number; readonly clip: number };
  readonly seed: number;
  readonly headDim: number;
  /** Every group has a whole number of steps below zero: their minimum in steps is then no other than ours. */
  readonly whole: boolean;
  readonly order: readonly number[];
  readonly k: Plane;
  readonly v: Plane;
  /** Tokens of the greatest elements of hidden rows. */
  readonly exact: readonly number[];
}

const HIDDEN = 24;
const file = new URL('golden/methods/rotatekv.json', import.meta.url);
const cases: readonly Case[] = JSON.parse(readFileSync(file, 'utf8'));

/** `whole` of make_rotatekv.py: f64 [64][width]. */
function wholeSteps(seed: number, width: number, group: number, bits: number): Float64Array {
  const levels = 2 ** bits - 1;
  const random = plainRandom(seed + 1000);
  const x = Float64Array.from(drawnRows(seed, width));
  for (let at = 0; at < x.length; at += group) {
    const part = x.subarray(at, at + group);
    const step = (8 + Math.floor(8 * random())) / 16;
    const below = 1 + Math.floor((levels - 1) * random());
    const [least, most] = [Math.min(...part), Math.max(...part)];
    part.forEach((value, i) => {
      part[i] = ((value - least) / (most - least)) * levels * step - below * step;
    });
  }
  return x;
}

/** Channels [.][width] in another order: channel i of the result is order[i] of x, or the other way round. */
function reordered(x: ArrayLike<number>, order: readonly number[], back = false): Float64Array {
  const out = new Float64Array(x.length);
  for (let at = 0; at < x.length; at++) {
    const i = at % order.length;
    const other = at - i + order[i]!;
    if (back) out[other] = x[at]!;
    else out[at] = x[other]!;
  }
  return out;
}

test('there are cases of both kinds', () => {
  expect(cases.map(({ options, whole }) => [options.bits, options.clip, whole])).toEqual([
    [2, 1, true],
    [4, 1, true],
    [2, 0.8, false],
    [4, 1, false],
  ]);
});

describe.each(cases)('$options, whole steps: $whole', ({ options, seed, headDim, whole, order, k, v, exact }) => {
  const { bits, heads, group } = options;
  const width = heads * headDim;
  const model = plainModel({ layers: 1, kvHeads: heads, group: 1, headDim });
  const inOrder = Array.from({ length: width }, (_, c) => c);
  const rows = {
    k: whole
      ? Float32Array.from(hadamard(reordered(wholeSteps(seed, width, group, bits), order, true), width))
      : drawnRows(seed, width),
    v: whole
      ? Float32Array.from(hadamard(wholeSteps(seed + 10, width, group, bits), headDim))
      : drawnRows(seed + 10, width),
  };
  /** Rows in the form in which they are quantized, in the order in which they are stored. */
  const stored = {
    k: (x: ArrayLike<number>) => reordered(hadamard(Float64Array.from(x), width), order),
    v: (x: ArrayLike<number>) => hadamard(Float64Array.from(x), headDim),
  };

  const sample = drawnRows(seed + 100, width, 16);
  const sums = Float64Array.from(inOrder, c => sample.reduce((sum, x, i) => (i % width === c ? sum + x : sum), 0));
  const policy = rotatekv.create(
    rotatekv.options.parse({ ...options, peaks: 0 }),
    model,
    keyMeans([sums], 16, model.fingerprint),
  );
  const [join] = new PlainCache(model).prompt(policy, plainPrompt(model, PAGE_TOKENS, plainRandom(seed)))[0]!;
  if (join?.do !== 'join' || join.k.kind !== 'own' || join.v.kind !== 'own') throw new Error('nothing to join');
  const formats = { k: join.k.format as JointFormat, v: join.v.format as ScalarFormat };

  let backend: Awaited<ReturnType<typeof openBackend>>;
  beforeAll(async () => {
    backend = await openBackend('wasm');
  });
  afterAll(() => backend.kernels.dispose());

  /** What a cache reads back, heads side by side. */
  function readBack(): Record<'k' | 'v', Float32Array> {
    const cache = new KvCache({
      ...backend,
      shape: { slots: 1, kvHeads: heads, headDim, rotary: headDim },
      limit: 1 << 24,
    });
    const sequence = cache.create({ owner: 'test', pages: { formatK: 'f32', formatV: 'f32', keysUnrotated: true } });
    const given = [...rows.k, ...rows.v].values();
    const views = Array.from({ length: heads }, (_, head) => ({ slot: 0, head }));
    appendRows(
      cache,
      sequence,
      views.map(() => []),
      PAGE_TOKENS,
      () => given.next().value!,
    );
    act(sequence, [join], unturned);
    const read = views.map(({ head }) => sequence.read(0, head));
    cache.dispose();
    const beside = (plane: 'k' | 'v') =>
      Float32Array.from({ length: PAGE_TOKENS * width }, (_, at) => {
        const [t, c] = [Math.floor(at / width), at % width];
        return read[Math.floor(c / headDim)]![plane][t * headDim + (c % headDim)]!;
      });
    return { k: beside('k'), v: beside('v') };
  }

  test('channels that share parameters are those of the authors', () => {
    const groups = formats.k.parts.map(({ channels }) => [...channels!]);
    const theirs = Array.from({ length: width / group }, (_, n) =>
      order.slice(n * group, (n + 1) * group).sort((a, b) => a - b),
    );
    expect(groups).toEqual(theirs);
  });

  test('scales are those of the authors', () => {
    const near = (ours: ArrayLike<number>, theirs: readonly number[]) => {
      expect(ours.length).toBe(theirs.length);
      theirs.forEach((scale, i) => {
        expect(Math.abs(ours[i]! - scale)).toBeLessThan(2 ** -10 * scale);
      });
    };
    const headRows = (x: Float32Array, h: number) => x.filter((_, i) => Math.floor((i % width) / headDim) === h);
    const each = Array.from({ length: heads }, (_, h) => h);
    const joint = encodeJoint(
      each.map(h => headRows(rows.k, h)),
      PAGE_TOKENS,
      headDim,
      formats.k,
    );
    const perToken = (scales: readonly Float64Array[], of: readonly number[]) => {
      for (const [n, own] of scales.entries())
        near(
          own,
          of.filter((_, i) => i % scales.length === n),
        );
    };
    perToken(
      joint.parts.map(({ scale }) => scale),
      k.scale,
    );
    // [groups of a head][64] of each head.
    const values = each.flatMap(h => {
      const { scale } = encodeScalar(headRows(rows.v, h), PAGE_TOKENS, headDim, formats.v).parts[0]!;
      return Array.from({ length: headDim / group }, (_, g) => scale.subarray(g * PAGE_TOKENS, (g + 1) * PAGE_TOKENS));
    });
    perToken(values, v.scale);
  });

  test(whole ? 'codes are those of the authors' : 'what is read is no farther off than what the authors read', () => {
    const read = readBack();
    for (const [plane, golden] of [
      ['k', k],
      ['v', v],
    ] as const) {
      const x = stored[plane](rows[plane]);
      const ours = stored[plane](read[plane]);
      let [differing, lost, theirsLost] = [0, 0, 0];
      for (let at = 0; at < x.length; at++) {
        const scale = golden.scale[Math.floor(at / group)]!;
        const code = codeOf(golden.codes[at]!);
        const theirs = scale * (code - golden.zero[Math.floor(at / group)]!);
        lost += (ours[at]! - x[at]!) ** 2;
        theirsLost += (theirs - x[at]!) ** 2;
        const apart = Math.abs(ours[at]! - theirs) / scale;
        // Their zero is rounded to a step, which moves all that is read by up to half a step.
        if (!whole) {
          if (options.clip === 1) expect(apart).toBeLessThan(1.01);
          continue;
        }
        if (apart < 2e-3) continue;
        differing++;
        const z = x[at]! / scale;
        expect(Math.abs(z - Math.floor(z) - 0.5)).toBeLessThan(1e-4);
        expect(apart).toBeLessThan(1.01);
      }
      if (whole) expect(differing).toBeLessThan(0.01 * x.length);
      else expect(lost).toBeLessThan(theirsLost);
    }
  });

  test('tokens of the greatest elements are those of the authors', () => {
    const hidden = drawnRows(seed + 20, HIDDEN);
    const { peaks } = rotatekv.options.parse({});
    expect([...peakRows(hidden, HIDDEN, peaks)]).toEqual(exact);
    expect(exact.length).toBeGreaterThan(1);
  });
});
