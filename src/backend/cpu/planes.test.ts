import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ENCODE_CLAMPED, KIND_ENCODE } from '../../../kernels/abi.ts';
import { encodeHalf } from '../../../kernels/reference/half.ts';
import { decodeLatent, storeLatent } from '../../../kernels/reference/latent.ts';
import {
  chooseOutliers,
  decodeScalar,
  encodeScalar,
  half,
  type SharedPart,
} from '../../../kernels/reference/scalar.ts';
import { PlaneCell } from '../../../test/helpers/plane-cell.ts';
import { random } from '../../../test/helpers/scene.ts';
import type { LatentFormat, OutlierRule, ScalarBits, ScalarFormat, ScalarPart } from '../../cache/format.ts';
import { Arena } from './arena.ts';
import { type CpuKernels, createKernels } from './kernels.ts';

const PLANES = ['k', 'v'] as const;

describe.each(['relaxed', 'plain', 'single'] as const)('encoded planes, %s kernels', variant => {
  let kernels: CpuKernels;
  let draw: ReturnType<typeof random>;
  beforeAll(async () => {
    kernels = await createKernels({ memory: new Arena({ limit: 2 ** 27, shared: variant !== 'single' }), variant });
    draw = random(variant.length);
  });
  afterAll(() => kernels.dispose());

  /** Rows with channels of different sizes and offsets, as keys have. */
  const input = (rows: number, width: number) => {
    const size = Array.from({ length: width }, () => 0.2 + 3 * draw.uniform() ** 4);
    const offset = Array.from({ length: width }, () => draw.normal());
    return Float32Array.from({ length: rows * width }, (_, i) => offset[i % width]! + size[i % width]! * draw.normal());
  };

  /** Encodes random rows and holds codes, parameters, outliers and decoded numbers against the reference. */
  const check = (format: ScalarFormat, headDim: number, rows: number, shared: SharedPart[] = []) => {
    const name = `${JSON.stringify(format).slice(0, 200)}, head size ${headDim}, ${rows} rows`;
    const block = shared.flatMap(part => [...list(part.scale), ...list(part.offset), ...list(part.side)]);
    const blocks = block.length > 0 ? { k: block, v: block } : {};
    const cell = new PlaneCell(kernels, headDim, format, format, blocks);
    const x = { k: input(rows, headDim), v: input(rows, headDim) };
    cell.encode(rows, x.k, x.v);
    const back = cell.read();
    for (const plane of PLANES) {
      const plan = cell.plans[plane];
      const stored = format.parts.map((part, p) => {
        const { scale, offset } = plan.parts[p]!;
        if (shared[p]?.scale) return { scale: shared[p].scale, offset: shared[p].offset ?? new Float64Array(headDim) };
        const width = part.channels?.length ?? headDim;
        const count = (64 * width) / (part.group ?? (part.along === 'token' ? 64 : width));
        return {
          scale: scale < 0 ? new Float64Array(0) : cell.halves(plane, scale, count),
          offset: offset < 0 ? new Float64Array(count) : cell.halves(plane, offset, count),
        };
      });
      const wanted = encodeScalar(x[plane], rows, headDim, format, shared, stored);
      let borders = 0;
      const parts = wanted.parts.map((part, p) => {
        const codes = cell.codes(plane, p);
        const { scale, offset } = stored[p]!;
        for (let i = 0; i < part.scale.length; i++) {
          // f32 sums may fall on the other side of a border between two halves; means of like numbers are not quite alike.
          const slack = 2 ** -23 + 2 ** -18 * Math.abs(part.offset[i]!);
          const near = (a: number, b: number) => Math.abs(a - b) <= Math.max(2 ** -10 * Math.abs(b), slack);
          const size = part.scale[i]! * 2 ** format.parts[p]!.bits + Math.abs(part.offset[i]!);
          if (!near(scale[i]!, part.scale[i]!)) expect([name, plane, i, scale[i]]).toEqual([part.scale[i]]);
          if (Math.abs(offset[i]! - part.offset[i]!) > size * 2 ** -10)
            expect([name, plane, i]).toEqual(part.offset[i]);
        }
        let wrong = 0;
        // On a border between two codes f32 may take the other one.
        for (let i = 0; i < codes.length; i++) if (codes[i] !== part.codes[i]) borders++;
        for (let i = 0; i < codes.length; i++) if (codes[i] !== part.codes[i] && part.margin[i]! > 1e-5) wrong++;
        expect([name, plane, 'wrong codes', wrong]).toEqual([name, plane, 'wrong codes', 0]);
        return { ...part, codes, scale: Float64Array.from(scale), offset: Float64Array.from(offset) };
      });
      // What the stored codes and parameters mean, with outliers and the pair as stored.
      const slots = plan.outliers;
      const values = cell.halves(plane, plan.outlierValue, slots);
      const from = (cell.cell + cell.at[plane] + plan.outlierIndex) / 2;
      const index = kernels.memory.u16.slice(from, from + slots);
      expect(new Set(index.filter((at, i) => at > 0 || values[i] !== 0))).toEqual(
        new Set([...wanted.outliers.keys()].filter((at, i) => at > 0 || i > 0 || values[0] !== 0)),
      );
      const outliers = new Map<number, number>();
      index.forEach((at, i) => {
        outliers.set(at, (outliers.get(at) ?? 0) + values[i]!);
      });
      const a = cell.halves(plane, plan.a, 64 * plan.rank);
      const b = cell.halves(plane, plan.b, plan.rank * headDim);
      const meant = decodeScalar({ parts, outliers, a, b }, headDim, format, shared);
      const full = decodeScalar(wanted, headDim, format, shared);
      const top = x[plane].reduce((most, value) => Math.max(most, Math.abs(value)), 0);
      let far = 0;
      let sum = 0;
      for (let i = 0; i < meant.length; i++) {
        far = Math.max(far, Math.abs(back[plane][i]! - meant[i]!));
        if (i < rows * headDim) sum += (back[plane][i]! - full[i]!) ** 2;
      }
      expect(far, `${name}, ${plane}: decoded`).toBeLessThan(4e-6 * top);
      if (borders === 0)
        expect(Math.sqrt(sum / (rows * headDim)), `${name}, ${plane}: as a whole`).toBeLessThan(4e-3 * top);
      for (const i of wanted.outliers.keys()) {
        const rest = Math.abs(back[plane][i]! - x[plane][i]!);
        expect(rest, `${name}, ${plane}: outlier`).toBeLessThan(2 ** -10 * (Math.abs(x[plane][i]!) + top));
      }
    }
    const some = cell.read(5, Math.min(rows, 40));
    const slice = (all: Float32Array, length: number) => all.slice(5 * headDim, 5 * headDim + length);
    expect(some.k).toEqual(slice(back.k, some.k.length));
    expect(some.v).toEqual(slice(back.v, some.v.length));
    cell.dispose();
  };

  const one = (part: ScalarPart, rest: Partial<ScalarFormat> = {}): ScalarFormat => ({
    kind: 'scalar',
    parts: [part],
    ...rest,
  });
  const ROWS = [1, 63, 64];
  // All sizes with one build: the builds differ in how they multiply, not in what lies where.
  const SIZES = variant === 'relaxed' ? [8, 32, 64, 128] : [8, 64];

  describe.each([1, 2, 3, 4, 8, 16] as const)('%i bits', bits => {
    it.each(['token', 'channel'] as const)('along %ss, all groups and ranges', along => {
      for (const headDim of SIZES) {
        for (const group of [16, 32, 64]) {
          if (along === 'channel' && headDim % group !== 0) continue;
          for (const range of ['minmax', 'absmax', 'sign'] as const) {
            if ((range === 'sign' && bits !== 1) || (range === 'absmax' && (bits === 1 || bits === 16))) continue;
            check(one({ bits, along, group, range }), headDim, ROWS[draw.int(3)]!);
          }
        }
        check(one({ bits, along }), headDim, 64);
      }
    });

    it('with LUTs inside and at the ends of their range', () => {
      if (bits === 16) return;
      const lut = Array.from({ length: 2 ** bits }, (_, i) => Math.sinh((2 * i) / (2 ** bits - 1) - 1));
      for (const along of ['token', 'channel'] as const) {
        check(one({ bits, along, lut }), 64, 64);
        check(one({ bits, along, lut, lutRange: [-1.5, 1.4] }), 32, 63);
        check(one({ bits, along, lut, borders: lut.slice(1).map(x => Math.fround(x - 0.1)) }), 64, 65 - bits);
        if (bits > 1) check(one({ bits, along, lut, range: 'absmax' }), 32, 9);
      }
    });
  });

  const rules: OutlierRule[] = [
    { share: 0.02, per: 'channel' },
    { share: 0.05, per: 'token' },
    { share: 0.25, per: 'channel' },
  ];
  it.each(rules)('keeps outliers apart: %o', outliers => {
    for (const headDim of SIZES) {
      for (const rows of ROWS) {
        check(one({ bits: 2, along: 'token', group: 32 }, { outliers }), headDim, rows);
        check(one({ bits: 4, along: 'channel' }, { outliers }), headDim, rows);
      }
    }
    check(one({ bits: 2, along: 'token', transform: 'hadamard' }, { outliers, lowRank: { rank: 2 } }), 64, 63);
  });

  it.each([1, 2, 4, 8])('fits a pair of rank %i', rank => {
    for (const headDim of SIZES) {
      for (const rows of ROWS) {
        check(one({ bits: 2, along: 'token' }, { lowRank: { rank } }), headDim, rows);
        check(one({ bits: 2, along: 'channel' }, { lowRank: { rank, rounds: 1 } }), headDim, rows);
      }
    }
    check(one({ bits: 16, along: 'token' }, { lowRank: { rank } }), 32, 64);
  });

  const shared = (width: number, side: boolean, range: boolean): SharedPart => ({
    ...(range && {
      scale: Array.from({ length: width }, () => half(0.05 + draw.uniform())),
      offset: Array.from({ length: width }, () => half(draw.normal() - 1)),
    }),
    ...(side && { side: Array.from({ length: width }, () => half(0.3 + draw.uniform())) }),
  });

  it('uses shared parameters and side factors', () => {
    for (const headDim of SIZES) {
      for (const bits of [2, 3, 4] as const) {
        for (const rows of ROWS) {
          const format = one({ bits, along: 'token', scope: 'shared' });
          check(format, headDim, rows, [shared(headDim, false, true)]);
          const outliers = { share: 0.03, per: 'range' } as const;
          check({ ...format, outliers }, headDim, rows, [shared(headDim, false, true)]);
          const both = one({ bits, along: 'token', scope: 'shared', side: true }, { outliers, lowRank: { rank: 2 } });
          check(both, headDim, rows, [shared(headDim, true, true)]);
          const cst = one({ bits, along: 'channel', side: true });
          check(cst, headDim, rows, [shared(headDim, true, false)]);
        }
      }
    }
    const lut = [-1, -0.2, 0.3, 1];
    const format = one({ bits: 2, along: 'token', scope: 'shared', lut, lutRange: [-1.1, 1.2] });
    check({ ...format, outliers: { share: 0.01, per: 'range' } }, 64, 64, [shared(64, false, true)]);
  });

  it('mixes parts with channel sets, widths and transforms of their own', () => {
    for (const headDim of [32, 64, 128]) {
      const order = Array.from({ length: headDim }, (_, i) => i).sort(() => draw.uniform() - 0.5);
      const parts = (bits: readonly ScalarBits[]): ScalarPart[] => [
        { bits: bits[0]!, along: 'token', channels: order.slice(0, 3) },
        { bits: bits[1]!, along: 'channel', channels: order.slice(3, 19), transform: 'hadamard', side: true },
        { bits: bits[2]!, along: 'token', channels: order.slice(19), group: 16 },
      ];
      for (const bits of [
        [3, 2, 1],
        [16, 4, 2],
        [8, 1, 16],
        [4, 3, 3],
      ] as const) {
        const block: SharedPart[] = [{}, shared(16, true, false), {}];
        for (const rows of ROWS) {
          check({ kind: 'scalar', parts: parts(bits) }, headDim, rows, block);
          check(
            { kind: 'scalar', parts: parts(bits), outliers: rules[1]!, lowRank: { rank: 2 } },
            headDim,
            rows,
            block,
          );
        }
      }
    }
    for (const width of [2, 4, 8, 64]) {
      const rest = Array.from({ length: 64 - width }, (_, i) => i);
      const transformed = { bits: 4, along: 'channel', transform: 'hadamard' } as const;
      if (width === 64) check(one(transformed), 64, 64);
      else {
        const channels = Array.from({ length: width }, (_, i) => 64 - width + i);
        check(
          {
            kind: 'scalar',
            parts: [
              { bits: 2, along: 'token', channels: rest },
              { ...transformed, channels },
            ],
          },
          64,
          7,
        );
      }
    }
  });

  it('takes groups that are no multiple of a vector', () => {
    for (const group of [1, 2, 3, 6, 12, 24]) {
      for (const bits of [1, 2, 3, 4, 8] as const) {
        check(one({ bits, along: 'channel', group }), 24, 64);
        if (bits === 1) check(one({ bits, along: 'channel', group, range: 'sign' }), 24, 5);
      }
    }
  });

  it('decodes constant groups exactly and never gives NaN', () => {
    const [clip, signs, steps] = [{ clip: 0.8 }, { range: 'sign' }, { range: 'ternary' }] as const;
    const ranges = { 1: [signs, { range: 'deviation' }], 2: [clip, steps], 3: [], 4: [clip], 8: [], 16: [] } as const;
    for (const bits of [1, 2, 3, 4, 8, 16] as const) {
      for (const along of ['token', 'channel'] as const) {
        const lut = Array.from({ length: 2 ** bits }, (_, i) => i - 0.5);
        for (const extra of [{}, bits < 16 ? { lut } : {}, ...ranges[bits]]) {
          for (const constant of [0, 0.1, -7.3, 1e-7, 60000]) {
            const format = one({ bits, along, ...extra }, { outliers: rules[0]!, lowRank: { rank: 2 } });
            const cell = new PlaneCell(kernels, 32, format, format);
            const rows = new Float32Array(64 * 32).fill(constant);
            cell.encode(64, rows, rows);
            const { k, v } = cell.read();
            for (const x of [k, v]) {
              const worst = x.reduce((most, value) => Math.max(most, Math.abs(value - constant)), 0);
              expect(worst).toBeLessThanOrEqual(2 ** -10 * Math.abs(constant) + 2 ** -24);
            }
            const wild = rows.map((_, i) => [Number.NaN, Infinity, -Infinity, 1e9, 1, 0][i % 6]!);
            cell.encode(64, wild, wild);
            const back = cell.read();
            expect([...back.k, ...back.v].every(Number.isFinite)).toBe(true);
            cell.dispose();
          }
        }
      }
    }
  });

  it('has the errors of iid Gaussian data that the literature gives', () => {
    // Relative errors of min-max quantization (bits, group): measured for iid standard normal groups in float64.
    for (const [bits, group, wanted] of [
      [2, 32, 0.394],
      [2, 64, 0.45],
      [3, 32, 0.168],
      [3, 64, 0.193],
      [4, 32, 0.079],
      [4, 64, 0.09],
      [8, 64, 0.005],
    ] as const) {
      for (const along of ['token', 'channel'] as const) {
        const format = one({ bits, along, group });
        let wrong = 0;
        let all = 0;
        for (let page = 0; page < 12; page++) {
          const cell = new PlaneCell(kernels, 64, format, format);
          const x = Float32Array.from({ length: 64 * 64 }, () => draw.normal());
          cell.encode(64, x, x);
          const { k, v } = cell.read();
          for (let i = 0; i < x.length; i++) {
            wrong += ((k[i]! - x[i]!) ** 2 + (v[i]! - x[i]!) ** 2) / 2;
            all += x[i]! ** 2;
          }
          cell.dispose();
        }
        const error = Math.sqrt(wrong / all);
        expect(Math.abs(error - wanted) / wanted).toBeLessThan(bits === 8 ? 0.1 : 0.02);
      }
    }
  });

  it('stores latent rows that views read through bases and norms', () => {
    for (const headDim of SIZES) {
      for (const bits of [16, 8, 4] as const) {
        for (const rank of [headDim, 8, 48, 136]) {
          for (const rows of rank === headDim ? ROWS : [ROWS[draw.int(3)]!]) {
            const format: LatentFormat = {
              kind: 'latent',
              bits,
              rank,
              basis: rank !== headDim,
              norms: draw.uniform() < 0.7,
            };
            const basis = Array.from({ length: rank * headDim }, () => draw.normal());
            const cell = new PlaneCell(kernels, headDim, format, format, format.basis ? { k: basis, v: basis } : {});
            const x = { k: input(rows, rank), v: input(rows, rank) };
            const norms = format.norms ? input(rows, 1) : undefined;
            cell.encode(rows, x.k, x.v, norms, norms);
            const back = cell.read(0, rows);
            for (const plane of PLANES) {
              const stored = storeLatent(x[plane], format);
              const wanted = decodeLatent(stored, format, headDim, format.basis ? basis : undefined, norms);
              // A code on a border may fall to either side: one step in one element of a row.
              const norm = Math.sqrt(wanted.reduce((sum, value) => sum + value ** 2, 0));
              const error = Math.sqrt(wanted.reduce((sum, value, i) => sum + (back[plane][i]! - value) ** 2, 0));
              expect(error / norm, JSON.stringify([format, headDim, rows, plane])).toBeLessThan(2e-3);
            }
            cell.dispose();
          }
        }
      }
    }
  });

  it('decodes latent rows of any rank and head size, whole or in part', () => {
    const ranks: Record<number, number[]> = { 8: [8, 1024], 64: [56, 264], 256: [16, 72] };
    for (const headDim of [8, 64, 256]) {
      for (const rank of ranks[headDim]!) {
        for (const rows of variant === 'relaxed' ? ROWS : [63]) {
          const format: LatentFormat = { kind: 'latent', bits: 16, rank, basis: true, norms: rank === 56 };
          const bases = { k: input(rank, headDim), v: input(rank, headDim) };
          const cell = new PlaneCell(kernels, headDim, format, format, { k: [...bases.k], v: [...bases.v] });
          const x = { k: input(rows, rank), v: input(rows, rank) };
          const norms = format.norms ? input(rows, 1) : undefined;
          cell.encode(rows, x.k, x.v, norms, norms);
          const from = draw.int(rows);
          const back = { whole: cell.read(0, rows), part: cell.read(from, rows - from) };
          for (const plane of PLANES) {
            const wanted = decodeLatent(storeLatent(x[plane], format), format, headDim, bases[plane], norms);
            const top = wanted.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
            const far = wanted.reduce((most, y, i) => Math.max(most, Math.abs(back.whole[plane][i]! - y)), 0);
            expect(far / top, JSON.stringify([format, headDim, rows, plane])).toBeLessThan(5e-6);
            expect(back.part[plane].slice(0, (rows - from) * headDim)).toEqual(
              back.whole[plane].slice(from * headDim, rows * headDim),
            );
          }
          cell.dispose();
        }
      }
    }
  });

  it('leaves alone what it was not given', () => {
    const latent: LatentFormat = { kind: 'latent', bits: 8, rank: 32, basis: false, norms: true };
    const cell = new PlaneCell(kernels, 32, latent, one({ bits: 2, along: 'channel' }));
    const [k, v, norms] = [input(64, 32), input(64, 32), input(64, 1)];
    cell.encode(64, k, v, norms);
    const before = cell.read();
    cell.encode(64, undefined, v);
    expect(cell.read()).toEqual(before);
    const twice = norms.map(x => x * 2);
    cell.encode(64, undefined, undefined, twice);
    expect(cell.read().k).toEqual(before.k.map(x => x * 2));
    cell.encode(0, v, v, norms);
    expect(cell.read().v).toEqual(before.v);
    cell.dispose();
  });

  it('gives the same bytes again, whatever lay there', () => {
    const format = one({ bits: 3, along: 'token', group: 16 }, { outliers: rules[0]!, lowRank: { rank: 4 } });
    const x = input(37, 64);
    const bytes = [0, 1].map(fill => {
      const cell = new PlaneCell(kernels, 64, format, format);
      kernels.memory.u8.fill(fill * 0xa5, cell.cell + 64, cell.cell + 64 + cell.plans.k.bytes + cell.plans.v.bytes);
      cell.encode(37, x, x);
      const taken = kernels.memory.u8.slice(cell.cell + 64, cell.cell + cell.at.v + cell.plans.v.bytes);
      cell.dispose();
      return taken;
    });
    expect(bytes[0]).toEqual(bytes[1]);
  });

  it.each([1, 2, 3, 4, 8] as const)('%i bits clipped, around means and in three steps', bits => {
    for (const headDim of SIZES) {
      const rows = ROWS[draw.int(3)]!;
      for (const along of ['token', 'channel'] as const) {
        const group = along === 'channel' ? 8 : 32;
        check(one({ bits, along, group, clip: 0.8 }), headDim, rows);
        if (bits === 1) check(one({ bits, along, group, range: 'deviation' }), headDim, rows);
        for (const threshold of bits === 2 ? [0.5, 0.7] : [])
          check(one({ bits, along, group, range: 'ternary', threshold }), headDim, rows);
      }
    }
  });
});

it('gives the same bytes and numbers in every build', async () => {
  const part: ScalarPart = { bits: 3, along: 'token', group: 32 };
  const k: ScalarFormat = { kind: 'scalar', parts: [part], outliers: { share: 0.05, per: 'channel' } };
  const lut = [-1, -0.3, 0.4, 1];
  const v: ScalarFormat = { kind: 'scalar', parts: [{ bits: 2, along: 'channel', lut, transform: 'hadamard' }] };
  const draw = random(6);
  const x = Float32Array.from({ length: 50 * 64 }, () => draw.normal());
  const made = [];
  for (const variant of ['relaxed', 'plain', 'single'] as const) {
    const kernels = await createKernels({
      memory: new Arena({ limit: 2 ** 26, shared: variant !== 'single' }),
      variant,
    });
    const cell = new PlaneCell(kernels, 64, k, v);
    cell.encode(50, x, x);
    const numbers = cell.read();
    const end = cell.cell + cell.at.v + cell.plans.v.bytes;
    made.push({ numbers, bytes: kernels.memory.u8.slice(cell.cell + cell.at.k, end) });
    cell.dispose();
    await kernels.dispose();
  }
  expect(made[1]).toEqual(made[0]);
  expect(made[2]).toEqual(made[0]);
});

it('chooses outliers as the reference does where numbers tie', async () => {
  const kernels = await createKernels({ limit: 2 ** 26 });
  const draw = random(5);
  for (const [share, per] of [
    [0.1, 'channel'],
    [0.01, 'channel'],
    [0.1, 'token'],
    [0.01, 'token'],
    [0.04, 'token'],
  ] as const) {
    const outliers: OutlierRule = { share, per };
    const format: ScalarFormat = { kind: 'scalar', parts: [{ bits: 2, along: 'token' }], outliers };
    // One element is far off, so that ranges differ; all others tie with some.
    const x = Float32Array.from({ length: 64 * 16 }, (_, i) => draw.int(5 + (i % 3)) + (i === 77 ? 40 : 0));
    const cell = new PlaneCell(kernels, 16, format, format);
    kernels.run(KIND_ENCODE, cell.record(64, x, x), 1);
    const wanted = [...chooseOutliers(Float64Array.from(x), 64, 16, format)].sort((i, j) => i - j);
    expect(wanted).toContain(77);
    for (const plane of PLANES) {
      const from = (cell.cell + cell.at[plane] + cell.plans[plane].outlierIndex) / 2;
      // Slots that would narrow no range stay empty.
      const unused = Array(cell.plans[plane].outliers - wanted.length).fill(0);
      const chosen = kernels.memory.u16.slice(from, from + cell.plans[plane].outliers);
      expect(Array.from(chosen)).toEqual([...wanted, ...unused]);
    }
    cell.dispose();
  }
  await kernels.dispose();
});

it('counts what lies beyond a shared range and finds no slot', async () => {
  const kernels = await createKernels({ limit: 2 ** 26 });
  const draw = random(8);
  const part: ScalarPart = { bits: 2, along: 'token', scope: 'shared', lut: [-0.8, -0.3, 0.3, 0.8], lutRange: [-1, 1] };
  const block = [...Array(16).fill(1), ...Array(16).fill(0)];
  for (const share of [0.01, 0.05, 0.25]) {
    for (const rows of [1, 63, 64]) {
      const format: ScalarFormat = { kind: 'scalar', parts: [part], outliers: { share, per: 'range' } };
      const cell = new PlaneCell(kernels, 16, format, format, { k: block, v: block });
      const x = Float32Array.from({ length: rows * 16 }, () => draw.normal());
      const beyond = x.filter(value => Math.abs(value) > 1).length;
      for (const [k, v, planes] of [
        [x, x, 2],
        [x, undefined, 1],
        [undefined, undefined, 0],
      ] as const) {
        const item = cell.record(rows, k, v);
        kernels.run(KIND_ENCODE, item, 1);
        const clamped = Math.max(0, beyond - 8 * Math.ceil(share * 128));
        expect(kernels.memory.u32[(item + ENCODE_CLAMPED) / 4]).toBe(planes * clamped);
      }
      cell.dispose();
    }
  }
  await kernels.dispose();
});

function list(values: ArrayLike<number> | undefined): number[] {
  const out = values ? Array.from(values) : [];
  for (const x of out) if (half(x) !== x) throw new Error(`${x} is no half: ${encodeHalf(x)}`);
  return out;
}
