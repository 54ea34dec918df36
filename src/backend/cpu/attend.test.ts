import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { KIND_ATTEND, LAYOUT_BIAS } from '../../../kernels/abi.ts';
import {
  ALL,
  newAttend,
  prepare,
  type Queries,
  type Ref,
  reference,
  results,
  sameBits,
} from '../../../test/helpers/attention.ts';
import { type LayoutSpec, Scene } from '../../../test/helpers/scene.ts';
import { awkward, consecutive, question, rowsOf, splitAndMerge, view } from '../../../test/helpers/views.ts';
import { type CpuKernels, createKernels } from './kernels.ts';

const F32: LayoutSpec = { k: 'f32', v: 'f32' };
const F16: LayoutSpec = { k: 'f16', v: 'f16' };
const INT8: LayoutSpec = { k: 'int8', v: 'int8' };
const EXACT = 2e-5;
/** int8 keys and values meet queries and weights of 16 bits. */
const INTEGER = 5e-4;

function run(scene: Scene, refs: readonly Ref[], queries: Queries): Float32Array {
  const attend = prepare(scene, refs, queries);
  scene.kernels.run(KIND_ATTEND, newAttend(scene, attend), 1);
  return results(scene, attend);
}

function expectClose(actual: Float32Array, expected: Float64Array, tolerance: number): void {
  let worst = 0;
  for (let i = 0; i < expected.length; i++) {
    const error = Math.abs(actual[i]! - expected[i]!);
    if (!(error <= worst)) worst = error;
  }
  expect(worst).toBeLessThan(tolerance);
}

describe.each(['relaxed', 'plain', 'single'] as const)('attention, %s kernels', variant => {
  let kernels: CpuKernels;
  let scene: Scene;
  beforeAll(async () => {
    const { Arena } = await import('./arena.ts');
    kernels = await createKernels({ memory: new Arena({ limit: 2 ** 29, shared: variant !== 'single' }), variant });
  });
  afterAll(() => kernels.dispose());

  const withScene = (headDim: number, specs: LayoutSpec[], seed: number, test: () => void, rotary = headDim) => {
    scene = new Scene(kernels, headDim, specs, seed, rotary);
    try {
      test();
    } finally {
      scene.dispose();
    }
  };

  describe.each([
    ['f32', F32, EXACT],
    ['f16', F16, EXACT],
    ['int8', INT8, INTEGER],
    ['int8 keys, f16 values', { k: 'int8', v: 'f16' }, INTEGER],
    ['f32 keys, int8 values', { k: 'f32', v: 'int8' }, INTEGER],
  ] as [string, LayoutSpec, number][])('%s', (_, spec, tolerance) => {
    it.each([0, 1, 7, 63, 64, 65, 200])('one row over %i tokens', tokens => {
      for (const group of [1, 2, 3, 8]) {
        withScene(64, [spec], tokens * 10 + group, () => {
          const refs = view(scene, tokens);
          const queries = question(scene, [Math.max(tokens - 1, 0)], group);
          expectClose(run(scene, refs, queries), reference(scene, refs, queries), tolerance);
        });
      }
    });

    it.each([8, 16, 64, 80, 128, 256])('a prompt of 130 rows, head size %i', headDim => {
      for (const group of [1, 3]) {
        withScene(headDim, [spec], headDim + group, () => {
          const refs = view(scene, 130);
          const queries = question(scene, consecutive(0, 130), group);
          expectClose(run(scene, refs, queries), reference(scene, refs, queries), tolerance);
        });
      }
    });

    it('windows, holes, shifts and offsets', () => {
      for (let seed = 1; seed <= 8; seed++) {
        withScene(16, [spec, { ...spec, bias: true }, { ...spec, unrotated: true }, F16], seed, () => {
          const { refs, queries } = awkward(scene);
          expectClose(run(scene, refs, queries), reference(scene, refs, queries), tolerance);
        });
      }
    });

    it('gives a row the same bits however rows are grouped, and whatever lies after it in its page', () => {
      for (const headDim of variant === 'relaxed' ? [64, 80] : [64]) {
        withScene(headDim, [spec, { ...spec, bias: true }], headDim, () => {
          const count = 130;
          const refs = view(scene, count, page => page & 1);
          const queries = question(scene, consecutive(0, count), 3, 100);
          const together = run(scene, refs, queries);
          const width = 3 * headDim;
          for (const size of [1, 5, 21]) {
            for (let from = 0; from < count; from += size) {
              const part = rowsOf(scene, queries, from, Math.min(from + size, count));
              // Only what the last row may see is there at all.
              const known = refs.flatMap(ref => {
                const seen = Math.min(64, part.positions.at(-1)! + 1 - ref.page.positions[0]!);
                return seen > 0 ? [{ ...ref, count: Math.min(seen, ref.count) }] : [];
              });
              const alone = run(scene, known, part);
              expect(sameBits(alone, together.subarray(from * width, from * width + alone.length))).toBe(true);
            }
          }
        });
      }
    });
  });

  it('mixes formats in one softmax', () => {
    withScene(64, [F32, F16, INT8, { k: 'int8', v: 'f32' }], 5, () => {
      const refs = view(scene, 300, page => page % 4);
      const queries = question(scene, consecutive(280, 20), 8);
      expectClose(run(scene, refs, queries), reference(scene, refs, queries), INTEGER);
    });
  });

  it('takes groups of 1 to 16 and partly rotated heads', () => {
    for (const group of [4, 5, 6, 7, 9, 11, 13, 16]) {
      withScene(
        24,
        [F32],
        group,
        () => {
          const refs = view(scene, 70);
          const queries = question(scene, consecutive(60, 10), group);
          expectClose(run(scene, refs, queries), reference(scene, refs, queries), EXACT);
        },
        12,
      );
    }
  });

  it('gives zeros to rows that see nothing', () => {
    withScene(16, [F32, INT8], 9, () => {
      const refs = view(scene, 100, page => page & 1).map(ref => ({ ...ref, shift: 50 }));
      const queries = question(scene, [0, 49, 50, 120], 3);
      const out = run(scene, refs, queries);
      expect(out.slice(0, 2 * 3 * 16).every(x => x === 0)).toBe(true);
      expectClose(out, reference(scene, refs, queries), INTEGER);
      expect(run(scene, [], queries).every(x => x === 0)).toBe(true);
    });
  });

  it('leaves out holes that all rows share', () => {
    withScene(64, [F32, F16, INT8], 11, () => {
      const mask = ALL ^ (1n << 1n) ^ (1n << 30n) ^ (1n << 62n);
      const refs = view(scene, 192, page => page).map(ref => ({ ...ref, mask }));
      const queries = question(scene, [191, 250, 300], 3);
      expectClose(run(scene, refs, queries), reference(scene, refs, queries), INTEGER);
    });
  });

  it('has exponents as precise as f32 is', () => {
    withScene(8, [{ ...F32, bias: true }], 12, () => {
      // Scores are the biases alone, 0 and b; values 0 and 1: the result is e^b / (1 + e^b).
      const none = new Float32Array(16);
      const page = scene.page(
        { layout: 0, positions: [0, 1] },
        none,
        Float32Array.from(none, (_, i) => i >> 3),
      );
      const bias = (page.cell + scene.layoutField(0, LAYOUT_BIAS)) / 4;
      const refs = [{ page, first: 0, count: 2, shift: 0, mask: ALL }];
      let worst = 0;
      for (let i = 0; i <= 200; i++) {
        const b = Math.fround(-1.5 * (i / 200));
        kernels.memory.f32.set([0, b], bias);
        const weight = run(scene, refs, question(scene, [1], 1))[0]!;
        worst = Math.max(worst, Math.abs(weight / (1 - weight) / Math.exp(b) - 1));
      }
      expect(worst).toBeLessThan(5e-7);
    });
  });

  it('survives large scores', () => {
    withScene(64, [F32, INT8], 10, () => {
      const refs = view(scene, 130, page => page & 1);
      const queries = { ...question(scene, [129], 3), scale: 40 };
      const out = run(scene, refs, queries);
      expect(out.every(Number.isFinite)).toBe(true);
    });
  });

  it('merges splits of a view', () => {
    for (const tokens of [0, 1, 65, 400]) {
      withScene(64, [F32, INT8], tokens, () => {
        const refs = view(scene, tokens, page => page & 1);
        const queries = question(scene, tokens === 0 ? [0] : [0, tokens - 1, tokens >> 1], 3);
        for (const parts of [1, 2, 5]) {
          const out = splitAndMerge(scene, refs, queries, parts);
          expectClose(out, reference(scene, refs, queries), INTEGER);
          if (parts === 1) expect(sameBits(out, run(scene, refs, queries))).toBe(true);
        }
      });
    }
  });
});
