import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { project } from '../../../kernels/reference/project.ts';
import { KvCache } from '../../cache/cache.ts';
import type { CacheSequence } from '../../cache/sequence.ts';
import { openBackend } from '../../cache/testing-backends.ts';
import { fillSlot, numbers } from '../../cache/testing-model.ts';
import type { JoinedPlane } from '../../cache/types.ts';
import type { JoinAction, JoinPlane } from '../../methods/types.ts';
import { joinItem } from './join.ts';

const D = 16;
const random = numbers(29);
const draw = () => Float64Array.from({ length: D }, random);
const length = (x: Float64Array) => Math.hypot(...x);
const dot = (x: Float64Array, y: Float64Array) => x.reduce((sum, value, c) => sum + value * y[c]!, 0);
const scaled = (x: Float64Array, factor: number) => x.map(value => value * factor);
const angle = (x: Float64Array, y: Float64Array) => {
  const [p, q] = [scaled(x, 1 / length(x)), scaled(y, 1 / length(y))];
  return 2 * Math.atan2(length(p.map((value, c) => value - q[c]!)), length(p.map((value, c) => value + q[c]!)));
};

let backend: Awaited<ReturnType<typeof openBackend>>;
let cache: KvCache;
beforeAll(async () => {
  backend = await openBackend('wasm');
  cache = new KvCache({ ...backend, shape: { slots: 2, kvHeads: 1, headDim: D, rotary: D }, limit: 8 << 20 });
});
afterAll(() => {
  cache.dispose();
  return backend.kernels.dispose();
});

type Pair = readonly [lower: Float64Array, upper: Float64Array];

/** Two layers that hold the given rows as keys, and other ones as values; keys before RoPE, so that they lie as they are. */
function open(pairs: readonly Pair[]): CacheSequence {
  const sequence = cache.create({ owner: 'me', pages: { formatK: 'f32', formatV: 'f32', keysUnrotated: true } });
  sequence.prepareAppend(pairs.length);
  for (const slot of [0, 1]) {
    const rows = pairs.flatMap(pair => [...pair[slot]!]);
    const at = pairs.map((_, i) => i);
    let next = 0;
    fillSlot(cache, sequence, slot, at, () => rows[next++ % rows.length]!);
  }
  return sequence;
}

function action(count: number, plane: JoinPlane): JoinAction {
  const views = [0, 1].map(layer => ({ layer, head: 0 }));
  const entries = views.map(() => Uint32Array.from({ length: count }, (_, i) => i));
  return { do: 'join', views, entries, k: plane, v: plane };
}

/** As the rows are stored in f32. */
const stored = ([a, b]: Pair): Pair => [a.map(Math.fround), b.map(Math.fround)];

describe('directions that two layers share', () => {
  const shared = (pairs: readonly Pair[], t: number) => {
    const sequence = open(pairs);
    try {
      const { k, v } = joinItem(sequence, action(pairs.length, { kind: 'directions', t, bits: 16 }));
      expect(v).toEqual(k);
      const { rows, norms } = k as JoinedPlane;
      return pairs.map((_, i) => ({
        row: Float64Array.from(rows.subarray(i * D, (i + 1) * D)),
        norms: norms!.map(list => list[i]!),
      }));
    } finally {
      sequence.free();
    }
  };

  test.each([0, 0.2, 0.5, 0.6, 1])('lie on the great circle, t = %d of the way from the lower to the upper', t => {
    const pairs = Array.from({ length: 65 }, (_, i): Pair => {
      const lower = draw();
      // From nearly the same to nearly the opposite direction.
      const toward = i % 3 === 0 ? 0 : (i % 3 === 1 ? 1 : -1) * 10 ** -(i % 4);
      return stored([
        lower,
        draw().map((x, c) => (toward === 0 ? 3 * x : 5 * (x * Math.abs(toward) + Math.sign(toward) * lower[c]!))),
      ]);
    });
    for (const [i, { row, norms }] of shared(pairs, t).entries()) {
      const [lower, upper] = pairs[i]!;
      for (const [n, x] of [lower, upper].entries()) expect(norms[n]! / length(x)).toBeCloseTo(1, 6);
      // u, and the part of the other at right angles to it.
      const u = scaled(lower, 1 / length(lower));
      const rest = upper.map((x, c) => x - dot(upper, u) * u[c]!);
      const w = scaled(rest, 1 / length(rest));
      const turn = t * angle(lower, upper);
      for (let c = 0; c < D; c++) {
        const wanted = Math.cos(turn) * u[c]! + Math.sin(turn) * w[c]!;
        expect(Math.abs(row[c]! - wanted), `row ${i}, channel ${c}`).toBeLessThan(1e-5);
      }
      const most = Math.max(t, 1 - t) * angle(lower, upper);
      for (const x of [lower, upper]) expect(angle(row, x)).toBeLessThan(most + 1e-5);
    }
  });

  test.each([0, 0.3, 0.6, 1])(
    'are those of both where they agree, of the nearer where they are opposite, t = %d',
    t => {
      const pairs = Array.from({ length: 8 }, (_, i): Pair => {
        const [lower] = stored([draw(), draw()]);
        return [lower, scaled(lower, i % 2 === 0 ? 4 : -4)];
      });
      for (const [i, { row, norms }] of shared(pairs, t).entries()) {
        const [lower, upper] = pairs[i]!;
        const wanted = scaled(t < 0.5 ? lower : upper, 1 / length(t < 0.5 ? lower : upper));
        for (let c = 0; c < D; c++) expect(row[c]).toBeCloseTo(wanted[c]!, 6);
        expect(norms[1]! / norms[0]!).toBeCloseTo(4, 5);
      }
    },
  );

  test.each([0, 0.6, 1])('of a row of zeros are those of the other row, t = %d', t => {
    const zero = new Float64Array(D);
    const [x, y] = stored([draw(), draw()]);
    const [first, second, both] = shared(
      [
        [zero, x],
        [y, zero],
        [zero, zero],
      ],
      t,
    );
    expect(first!.norms).toEqual([0, Math.fround(length(x))]);
    expect(second!.norms).toEqual([Math.fround(length(y)), 0]);
    for (let c = 0; c < D; c++) {
      expect(first!.row[c]).toBeCloseTo(x[c]! / length(x), 6);
      expect(second!.row[c]).toBeCloseTo(y[c]! / length(y), 6);
    }
    expect([both!.norms, [...both!.row]]).toEqual([[0, 0], [...zero]]);
  });
});

describe('rows that layers project onto', () => {
  const rank = 8;
  const basis = Float32Array.from({ length: 2 * D * rank }, random);

  test.each([0, 1, 63, 64, 65, 1025])('%i of them', count => {
    // Every seventh entry stays out.
    const taken = Array.from({ length: Math.ceil((7 * count) / 6) + 1 }, (_, i) => i).filter(i => i % 7 !== 3);
    const entries = Uint32Array.from(taken.slice(0, count));
    const pairs = Array.from({ length: taken.length * 2 }, (): Pair => stored([draw(), draw()]));
    const sequence = open(pairs);
    const plane = { kind: 'project', basis, rank, bits: 16, key: 'x' } as const;
    const { k, v } = joinItem(sequence, { ...action(count, plane), entries: [entries, entries] });
    sequence.free();
    const { rows, bases } = k as JoinedPlane;
    expect((v as JoinedPlane).rows).toEqual(rows);
    const x = [...entries].flatMap(i => [...pairs[i]![0], ...pairs[i]![1]]);
    const wanted = project(x, basis, 2 * D, rank);
    expect(rows.length).toBe(count * rank);
    for (const [i, value] of wanted.entries()) expect(Math.abs(rows[i]! - value)).toBeLessThan(1e-5);
    expect(bases!.map(({ key }) => key)).toEqual(['x/k/0', 'x/k/1']);
    for (const [n, { values }] of bases!.entries())
      for (let c = 0; c < D; c++)
        for (let r = 0; r < rank; r++) expect(values[r * D + c]).toBe(basis[(n * D + c) * rank + r]);
  });
});
