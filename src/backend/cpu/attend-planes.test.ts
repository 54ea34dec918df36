import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { KIND_ATTEND } from '../../../kernels/abi.ts';
import { newAttend, prepare, type Queries, type Ref, reference, results } from '../../../test/helpers/attention.ts';
import { type LayoutSpec, Scene } from '../../../test/helpers/scene.ts';
import { awkward, consecutive, question, rowsOf, splitAndMerge, view } from '../../../test/helpers/views.ts';
import type { LatentFormat, ScalarBits, ScalarFormat, ScalarPart } from '../../cache/format.ts';
import { type CpuKernels, createKernels } from './kernels.ts';

/** Scalar and latent planes under attention: as they are stored for few query rows, decoded for many. */

const F32: LayoutSpec = { k: 'f32', v: 'f32' };
const INT8: LayoutSpec = { k: 'int8', v: 'int8' };
const TOLERANCE = 1e-3;

function scalar(part: ScalarPart, more: Omit<ScalarFormat, 'kind' | 'parts'> = {}): ScalarFormat {
  return { kind: 'scalar', parts: [part], ...more };
}

/** Keys with a scale a channel, values with a scale a token. */
function kivi(bits: ScalarBits, group = 32, more: Omit<ScalarFormat, 'kind' | 'parts'> = {}): LayoutSpec {
  return {
    k: scalar({ bits, along: 'token', group }, more),
    v: scalar({ bits, along: 'channel', group }, more),
  };
}

/** Keys with a scale a token, values with a scale a channel. */
function crossed(bits: ScalarBits, more: Partial<ScalarPart> = {}): LayoutSpec {
  return {
    k: scalar({ bits, along: 'channel', group: 32, ...more }),
    v: scalar({ bits, along: 'token', group: 16, ...more }),
  };
}

const latent = (rank: number, bits: 16 | 8 | 4, basis: boolean, norms: boolean): LatentFormat => ({
  kind: 'latent',
  ...{ rank, bits, basis, norms },
});

const even = Array.from({ length: 32 }, (_, i) => 2 * i);
const odd = even.map(i => i + 1);

/** For head size 64. */
const SPECS: [string, LayoutSpec][] = [
  ...([1, 2, 3, 4, 8, 16] as const).flatMap((bits): [string, LayoutSpec][] => [
    [`${bits} bits, keys by channel`, kivi(bits)],
    [`${bits} bits, keys by token`, crossed(bits)],
  ]),
  [
    'whole pages and rows as groups',
    { k: scalar({ bits: 2, along: 'token' }), v: scalar({ bits: 2, along: 'channel' }) },
  ],
  [
    'absmax',
    {
      k: scalar({ bits: 4, along: 'token', group: 16, range: 'absmax' }),
      v: scalar({ bits: 3, along: 'channel', range: 'absmax' }),
    },
  ],
  ['absmax crossed', crossed(2, { range: 'absmax' })],
  [
    'signs',
    { k: scalar({ bits: 1, along: 'token', range: 'sign' }), v: scalar({ bits: 1, along: 'channel', range: 'sign' }) },
  ],
  [
    'signs around means, in three steps',
    {
      k: scalar({ bits: 1, along: 'token', group: 32, range: 'deviation' }),
      v: scalar({ bits: 2, along: 'token', group: 32, range: 'ternary' }),
    },
  ],
  [
    'in three steps and signs around means, by the other axis',
    {
      k: scalar({ bits: 2, along: 'channel', range: 'ternary' }),
      v: scalar({ bits: 1, along: 'channel', range: 'deviation' }),
    },
  ],
  [
    'shared parameters',
    {
      k: scalar({ bits: 2, along: 'token', scope: 'shared' }),
      v: scalar({ bits: 2, along: 'token', scope: 'shared' }),
    },
  ],
  ['outliers and a pair', kivi(2, 32, { outliers: { share: 0.02, per: 'token' }, lowRank: { rank: 3 } })],
  ['outliers by channel', kivi(4, 64, { outliers: { share: 0.05, per: 'channel' } })],
  [
    'small groups',
    { k: scalar({ bits: 4, along: 'channel', group: 4 }), v: scalar({ bits: 4, along: 'channel', group: 4 }) },
  ],
  [
    'a LUT',
    {
      k: scalar({ bits: 2, along: 'token', lut: [-1.5, -0.4, 0.4, 1.5] }),
      v: scalar({ bits: 2, along: 'channel', lut: [-1, -0.3, 0.3, 1] }),
    },
  ],
  [
    'transform and side',
    {
      k: scalar({ bits: 4, along: 'channel', transform: 'hadamard' }),
      v: scalar({ bits: 4, along: 'channel', side: true }),
    },
  ],
  [
    'two parts',
    {
      k: {
        kind: 'scalar',
        parts: [
          { bits: 4, along: 'token', channels: even },
          { bits: 2, along: 'token', channels: odd },
        ],
      },
      v: {
        kind: 'scalar',
        parts: [
          { bits: 4, along: 'channel', channels: odd },
          { bits: 2, along: 'channel', channels: even },
        ],
      },
    },
  ],
  [
    'parts with orders, transforms and sides of their own',
    {
      k: {
        kind: 'scalar',
        parts: [
          { bits: 2, along: 'token', group: 32, channels: odd.toReversed(), side: true },
          { bits: 1, along: 'token', group: 32, channels: even, range: 'sign', transform: 'hadamard' },
        ],
      },
      v: {
        kind: 'scalar',
        parts: [
          { bits: 3, along: 'channel', group: 16, channels: even.toReversed(), transform: 'hadamard', clip: 0.9 },
          { bits: 2, along: 'token', channels: odd, range: 'ternary', side: true },
        ],
      },
    },
  ],
  [
    'first channels apart, rows transformed',
    {
      k: {
        kind: 'scalar',
        parts: [
          { bits: 4, along: 'channel', channels: Array.from({ length: 16 }, (_, i) => i), transform: 'hadamard' },
          { bits: 2, along: 'token', channels: Array.from({ length: 48 }, (_, i) => i + 16), range: 'ternary' },
        ],
      },
      v: scalar({ bits: 2, along: 'channel', clip: 0.8, transform: 'hadamard', side: true }),
    },
  ],
  [
    'rows transformed, with a scale a channel',
    {
      k: scalar({ bits: 3, along: 'token', group: 32, transform: 'hadamard' }),
      v: scalar({ bits: 2, along: 'token', group: 32, transform: 'hadamard' }),
    },
  ],
  ['latent rows', { k: latent(64, 16, false, true), v: latent(64, 8, false, true) }],
  ['latent with bases', { k: latent(24, 16, true, false), v: latent(96, 4, true, true) }],
  [
    'keys of four heads together',
    {
      k: {
        kind: 'joint',
        heads: 4,
        parts: [
          { bits: 2, along: 'channel', clip: 0.8, channels: Array.from({ length: 128 }, (_, i) => (i * 37) % 256) },
          { bits: 3, along: 'channel', channels: Array.from({ length: 128 }, (_, i) => ((i + 128) * 37) % 256) },
        ],
      },
      v: scalar({ bits: 2, along: 'channel', clip: 0.8, transform: 'hadamard' }),
    },
  ],
  ['scalar keys, f16 values', { k: scalar({ bits: 2, along: 'token' }), v: 'f16' }],
  ['f32 keys, scalar values', { k: 'f32', v: scalar({ bits: 2, along: 'channel' }) }],
];

function run(scene: Scene, refs: readonly Ref[], queries: Queries): Float32Array {
  const attend = prepare(scene, refs, queries);
  scene.kernels.run(KIND_ATTEND, newAttend(scene, attend), 1);
  return results(scene, attend);
}

/** Greatest difference, relative to the greatest magnitude of the result. */
function distance(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  let worst = 0;
  let size = 0;
  for (let i = 0; i < expected.length; i++) {
    const error = Math.abs(actual[i]! - expected[i]!);
    if (!(error <= worst)) worst = error;
    size = Math.max(size, Math.abs(expected[i]!));
  }
  return size === 0 ? worst : worst / size;
}

describe.each(['relaxed', 'plain', 'single'] as const)('attention over encoded planes, %s kernels', variant => {
  let kernels: CpuKernels;
  beforeAll(async () => {
    const { Arena } = await import('./arena.ts');
    kernels = await createKernels({ memory: new Arena({ limit: 2 ** 29, shared: variant !== 'single' }), variant });
  });
  afterAll(() => kernels.dispose());

  const withScene = (headDim: number, specs: LayoutSpec[], seed: number, test: (scene: Scene) => void) => {
    const scene = new Scene(kernels, headDim, specs, seed);
    try {
      test(scene);
    } finally {
      scene.dispose();
    }
  };

  it.each(SPECS)('%s: one row, and the same among many', (_, spec) => {
    for (const tokens of variant === 'relaxed' ? [0, 1, 63, 64, 65, 150] : [65]) {
      for (const group of [1, 3, 4, 8]) {
        withScene(64, [spec], tokens * 10 + group, scene => {
          const refs = view(scene, tokens);
          const queries = question(scene, [tokens, ...consecutive(0, 11)], group);
          const alone = rowsOf(scene, queries, 0, 1);
          const few = run(scene, refs, alone);
          const many = run(scene, refs, queries);
          expect(distance(few, reference(scene, refs, alone))).toBeLessThan(TOLERANCE);
          expect(distance(many, reference(scene, refs, queries))).toBeLessThan(1e-4);
          expect(distance(few, many.subarray(0, few.length))).toBeLessThan(TOLERANCE);
        });
      }
    }
  });

  it.each([8, 16, 80, 128, 256])('head size %i', headDim => {
    for (const bits of [1, 2, 3, 4, 8] as const) {
      const spec = {
        k: scalar({ bits, along: 'token', group: 16 }),
        v: scalar({ bits, along: 'channel', group: 8 }),
      } as const;
      withScene(headDim, [spec, { k: spec.v, v: spec.k }], headDim + bits, scene => {
        const refs = view(scene, 140, page => page & 1);
        const queries = question(scene, [139, 70], 2);
        expect(distance(run(scene, refs, queries), reference(scene, refs, queries))).toBeLessThan(TOLERANCE);
      });
    }
  });

  it.each([8, 64, 256])('latent rows of any rank through bases, head size %i', headDim => {
    for (const [n, rank] of [8, 72, headDim === 8 ? 1024 : 264].entries()) {
      for (const tokens of variant === 'relaxed' ? [0, 1, 63, 64, 65] : [65]) {
        const bits = ([16, 8, 4, 16] as const)[(n + tokens) % 4]!;
        const spec = { k: latent(rank, bits, true, n % 2 === 0), v: latent(rank, bits, true, tokens % 2 === 0) };
        const other = { k: latent(headDim, bits, false, true), v: latent(headDim, bits, false, true) };
        withScene(headDim, [{ ...spec, unrotated: true }, spec, other, { ...F32, unrotated: true }], rank, scene => {
          const mixed = view(scene, 2 * tokens, page => page & 3);
          for (const refs of [view(scene, tokens), mixed]) {
            for (const group of [1, 8]) {
              const queries = question(scene, [2 * tokens], group, tokens % 2 === 0 ? 0 : 40);
              expect(distance(run(scene, refs, queries), reference(scene, refs, queries))).toBeLessThan(1e-4);
            }
          }
        });
      }
    }
  });

  it('windows, holes, shifts, offsets, biases, keys before RoPE and all formats in one view', () => {
    const all = SPECS.map(([, spec]) => spec);
    for (let seed = 1; seed <= 12; seed++) {
      const specs = [F32, INT8, ...all].map((spec, i) => ({
        ...spec,
        bias: i % 3 === 0,
        unrotated: (i + seed) % 4 === 0,
      }));
      withScene(64, specs, seed, scene => {
        for (const rows of [1, 2, 20]) {
          const { refs, queries } = awkward(scene, rows);
          expect(distance(run(scene, refs, queries), reference(scene, refs, queries))).toBeLessThan(TOLERANCE);
        }
      });
    }
  });

  it('gives a row the same bits beside other rows of as few a record', () => {
    withScene(64, [kivi(2), crossed(3), kivi(8)], 3, scene => {
      const refs = view(scene, 190, page => page);
      const queries = question(scene, [100, 189], 4, 100);
      const together = run(scene, refs, queries);
      for (const row of [0, 1]) {
        const alone = run(scene, refs, rowsOf(scene, queries, row, row + 1));
        expect(Buffer.from(alone.buffer).equals(Buffer.from(together.slice(row * 256, row * 256 + 256).buffer))).toBe(
          true,
        );
      }
    });
  });

  it('merges splits of a view', () => {
    for (const tokens of [0, 1, 65, 400]) {
      withScene(64, [F32, kivi(2), INT8, crossed(4)], tokens, scene => {
        const refs = view(scene, tokens, page => page & 3);
        for (const positions of [[tokens], [0, tokens, tokens >> 1, 5]]) {
          const queries = question(scene, positions, 3);
          for (const parts of [1, 2, 5]) {
            expect(distance(splitAndMerge(scene, refs, queries, parts), reference(scene, refs, queries))).toBeLessThan(
              TOLERANCE,
            );
          }
        }
      });
    }
  });
});
