import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  ATTEND_OUT_STRIDE,
  GRAM_BYTES,
  GRAM_FROM,
  GRAM_OUT,
  GRAM_ROWS,
  GRAM_TO,
  GRAM_WIDTH,
  GRAM_X,
  KIND_GRAM,
  KIND_NEAREST,
  KIND_SENSE,
  KIND_SENSE_ROWS,
  NEAREST_BYTES,
  NEAREST_CENTROIDS,
  NEAREST_CHUNKS,
  NEAREST_HALF_NORMS,
  NEAREST_OUT,
  NEAREST_ROWS,
  NEAREST_WIDTH,
  NEAREST_X,
  SENSE_BYTES,
  SENSE_ENTROPY,
  SENSE_FROM,
  SENSE_GROUP,
  SENSE_M2,
  SENSE_MAX,
  SENSE_MEAN,
  SENSE_NORMS,
  SENSE_ROWS,
  SENSE_SCORE_STRIDE,
  SENSE_SCORES,
  SENSE_SEEN,
  SENSE_STRIDE,
  SENSE_SUM,
  SENSE_TO,
} from '../../../kernels/abi.ts';
import { probabilitiesOf, type Reduction, reduceRows } from '../../../kernels/reference/sense.ts';
import { turnRow } from '../../../kernels/reference/turn.ts';
import { ALL, entriesOf, newAttend, prepare, type Queries, type Ref } from '../../../test/helpers/attention.ts';
import { type LayoutSpec, Scene } from '../../../test/helpers/scene.ts';
import { type CpuKernels, createKernels } from './kernels.ts';

const EXACT = 2e-5;
/** int8 keys meet queries of 16 bits. */
const INTEGER = 5e-4;
const PLANES = [SENSE_SUM, SENSE_MAX, SENSE_ENTROPY, SENSE_MEAN, SENSE_M2];

let kernels: CpuKernels;
let scene: Scene;

function consecutive(from: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => from + i);
}

function view(tokens: number, layouts: number, mask = ALL): Ref[] {
  const refs: Ref[] = [];
  for (let from = 0; from < tokens; from += 64) {
    const positions = consecutive(from, Math.min(64, tokens - from));
    const page = scene.page({ layout: refs.length % layouts, positions });
    refs.push({ page, first: 0, count: positions.length, shift: 0, mask });
  }
  return refs;
}

function ask(positions: readonly number[], group: number, window = 0): Queries {
  const q = scene.normals(positions.length * group * scene.headDim);
  return { q, positions, group, scale: 1 / Math.sqrt(scene.headDim), window };
}

/** All statistics [group][entries] by kernel: rows in calls of `rowsPerCall`, entries in records of `entriesPerItem`. */
function sense(refs: readonly Ref[], queries: Queries, rowsPerCall: number, entriesPerItem: number) {
  const { group, positions } = queries;
  const entries = entriesOf(scene, refs).length;
  const stride = (entries + 3) & ~3;
  const planes = PLANES.map(() => scene.alloc(group * stride * 4 + 16));
  for (const plane of planes) kernels.memory.f32.fill(0, plane / 4, plane / 4 + group * stride);
  for (let from = 0; from < positions.length; from += rowsPerCall) {
    const width = group * scene.headDim;
    const to = Math.min(positions.length, from + rowsPerCall);
    const part = { ...queries, positions: positions.slice(from, to), q: queries.q.slice(from * width, to * width) };
    const norms = scene.alloc((to - from) * group * 8);
    const scores = scene.alloc((to - from) * group * stride * 4 + 16);
    const item = newAttend(scene, { ...prepare(scene, refs, part), partial: norms, out: scores });
    kernels.memory.i32[(item + ATTEND_OUT_STRIDE) / 4] = stride;
    kernels.run(KIND_SENSE_ROWS, item, 1);
    const count = Math.ceil(entries / entriesPerItem);
    const items = scene.alloc(Math.max(1, count) * SENSE_BYTES);
    for (let i = 0; i < count; i++) {
      const fields = [
        [SENSE_SCORES, scores],
        [SENSE_SCORE_STRIDE, stride],
        [SENSE_NORMS, norms],
        [SENSE_ROWS, to - from],
        [SENSE_GROUP, group],
        [SENSE_FROM, i * entriesPerItem],
        [SENSE_TO, Math.min(entries, (i + 1) * entriesPerItem)],
        [SENSE_STRIDE, stride],
        [SENSE_SEEN, from],
        ...PLANES.map((field, p) => [field, planes[p]!] as const),
      ] as const;
      for (const [field, value] of fields) kernels.memory.i32[(items + i * SENSE_BYTES + field) / 4] = value;
    }
    kernels.run(KIND_SENSE, items, count);
  }
  return planes.map(plane =>
    Float32Array.from({ length: group * entries }, (_, i) => {
      const at = plane / 4 + Math.floor(i / entries) * stride + (i % entries);
      return kernels.memory.f32[at]!;
    }),
  );
}

/** The same in float64: sum, max, entropy, mean, sum of squared deviations. */
function reference(refs: readonly Ref[], queries: Queries): Float64Array[] {
  const { group, positions, scale, window } = queries;
  const entries = entriesOf(scene, refs);
  const heads = consecutive(0, group).map(h =>
    positions.map((position, r) => {
      const at = (r * group + h) * scene.headDim;
      const query = turnRow(queries.q.subarray(at, at + scene.headDim), position, scene.frequencies);
      return probabilitiesOf(query, position, entries, scale, window);
    }),
  );
  const all = (reduction: Reduction, factor = 1) =>
    Float64Array.from(heads.flatMap(rows => [...reduceRows(rows, reduction, entries.length)].map(x => x * factor)));
  return [all('sum'), all('max'), all('entropy'), all('mean'), all('variance', positions.length - 1)];
}

/** Sums over rows may be as wrong as `tolerance` for each row. */
function expectClose(actual: readonly Float32Array[], expected: readonly Float64Array[], tolerance: number): void {
  for (const [plane, values] of expected.entries()) {
    expect(actual[plane]!.length).toBe(values.length);
    let worst = 0;
    for (let i = 0; i < values.length; i++) {
      const error = Math.abs(actual[plane]![i]! - values[i]!) / Math.max(1, Math.abs(values[i]!));
      if (!(error <= worst)) worst = error;
    }
    expect(worst, `plane ${plane}`).toBeLessThan(tolerance);
  }
}

describe.each(['relaxed', 'plain', 'single'] as const)('signals of attention, %s kernels', variant => {
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
    ['f32', { k: 'f32', v: 'f32' }, EXACT],
    ['f16', { k: 'f16', v: 'int8' }, EXACT],
    ['int8', { k: 'int8', v: 'f16' }, INTEGER],
  ] as [string, LayoutSpec, number][])('%s', (_, spec, tolerance) => {
    it.each([0, 1, 63, 64, 65, 200])('the last rows over %i tokens', tokens => {
      for (const group of [1, 3, 8]) {
        withScene(64, [spec], tokens * 10 + group, () => {
          const refs = view(tokens, 1);
          const rows = Math.min(Math.max(tokens, 1), 40);
          const queries = ask(consecutive(Math.max(0, tokens - rows), rows), group);
          expectClose(sense(refs, queries, 100, 1000), reference(refs, queries), tolerance);
        });
      }
    });

    it('gaps, holes, shifts, windows, bias, unrotated keys', () => {
      for (let seed = 1; seed <= 8; seed++) {
        withScene(
          16,
          [spec, { ...spec, bias: true }, { ...spec, unrotated: true }, { k: 'f16', v: 'f16' }],
          seed,
          () => {
            const { refs, queries } = awkward();
            expectClose(sense(refs, queries, 7, 64), reference(refs, queries), tolerance);
          },
        );
      }
    });
  });

  it('counts rows that see no token of a page, whatever blocks they come in', () => {
    withScene(
      24,
      [
        { k: 'f32', v: 'f32' },
        { k: 'int8', v: 'int8', bias: true },
      ],
      3,
      () => {
        const refs = view(300, 2, ALL ^ (1n << 5n) ^ (0xffffn << 30n));
        const queries = ask(consecutive(0, 300), 3, 90);
        const expected = reference(refs, queries);
        for (const [rows, items] of [
          [300, 400],
          [64, 128],
          [11, 4],
        ] as const) {
          expectClose(sense(refs, queries, rows, items), expected, INTEGER);
        }
      },
      12,
    );
  });

  it('gives each entry the same bits however entries are dealt out', () => {
    withScene(
      64,
      [
        { k: 'f32', v: 'f32' },
        { k: 'f16', v: 'f16' },
      ],
      4,
      () => {
        const refs = view(500, 2);
        const queries = ask(consecutive(470, 30), 3);
        const whole = sense(refs, queries, 30, 600);
        for (const [p, plane] of sense(refs, queries, 30, 20).entries()) expect(plane).toEqual(whole[p]);
      },
    );
  });

  it('gives zeros where no row sees anything', () => {
    withScene(16, [{ k: 'f32', v: 'f32' }], 5, () => {
      const refs = view(70, 1).map(ref => ({ ...ref, shift: 50 }));
      const result = sense(refs, ask([0, 20, 49], 2), 3, 64);
      for (const plane of result) expect(plane.every(x => x === 0)).toBe(true);
    });
  });

  it.each([
    [1, 8],
    [65, 64],
    [300, 72],
    [129, 192],
  ])('Gram matrix of %i rows of width %i', (rows, width) => {
    withScene(8, [{ k: 'f32', v: 'f32' }], rows + width, () => {
      const x = scene.normals(rows * width);
      const at = scene.floats(x);
      const out = scene.floats(new Float32Array(width * width).fill(1));
      const items = scene.alloc(Math.ceil(width / 64) * GRAM_BYTES);
      const count = Math.ceil(width / 64);
      for (let i = 0; i < count; i++) {
        const set = (field: number, value: number) => {
          kernels.memory.i32[(items + i * GRAM_BYTES + field) / 4] = value;
        };
        set(GRAM_X, at);
        set(GRAM_ROWS, rows);
        set(GRAM_WIDTH, width);
        set(GRAM_OUT, out);
        set(GRAM_FROM, i * 64);
        set(GRAM_TO, Math.min(width, i * 64 + 64));
      }
      kernels.run(KIND_GRAM, items, count);
      const result = kernels.memory.f32.slice(out / 4, out / 4 + width * width);
      let worst = 0;
      for (let i = 0; i < width; i++) {
        for (let j = i; j < width; j++) {
          let sum = 1;
          for (let r = 0; r < rows; r++) sum += x[r * width + i]! * x[r * width + j]!;
          worst = Math.max(worst, Math.abs(result[i * width + j]! - sum));
        }
        // Below the diagonal, outside the squares that it crosses, nothing was touched.
        for (let j = 0; j < i - (i % 8); j++) expect(result[i * width + j]).toBe(1);
      }
      expect(worst).toBeLessThan(1e-6 * rows + 1e-5);
    });
  });
});

describe('nearest centroids', () => {
  beforeAll(async () => {
    kernels = await createKernels({ limit: 2 ** 27 });
  });
  afterAll(() => kernels.dispose());

  // Small whole numbers: distances are exact, so that ties are ties.
  it.each([
    [1, 8, 1],
    [63, 8, 64],
    [64, 64, 65],
    [65, 256, 3],
    [300, 16, 200],
  ])('of %i rows of width %i among %i', (rows, width, count) => {
    scene = new Scene(kernels, 8, [{ k: 'f32', v: 'f32' }], rows + count);
    const whole = (length: number) => Float32Array.from({ length }, () => scene.random.int(3));
    const [x, centroids] = [whole(rows * width), whole(count * width)];
    const chunks = Math.ceil(count / 64);
    const packed = new Float32Array(chunks * 64 * width);
    const half = new Float32Array(chunks * 64).fill(Number.POSITIVE_INFINITY);
    for (let j = 0; j < count; j++) {
      const row = centroids.subarray(j * width, (j + 1) * width);
      half[j] = row.reduce((sum, c) => sum + (c * c) / 2, 0);
      row.forEach((value, c) => {
        packed[(j >> 6) * 64 * width + c * 64 + (j & 63)] = value;
      });
    }
    const fields = [
      [NEAREST_X, scene.floats(x)],
      [NEAREST_ROWS, rows],
      [NEAREST_WIDTH, width],
      [NEAREST_CENTROIDS, scene.floats(packed)],
      [NEAREST_CHUNKS, chunks],
      [NEAREST_HALF_NORMS, scene.floats(half)],
      [NEAREST_OUT, scene.alloc(rows * 4)],
    ] as const;
    const item = scene.alloc(NEAREST_BYTES);
    for (const [field, value] of fields) kernels.memory.i32[(item + field) / 4] = value;
    kernels.run(KIND_NEAREST, item, 1);
    const out = fields.at(-1)![1] / 4;
    for (let i = 0; i < rows; i++) {
      const distances = consecutive(0, count).map(j =>
        consecutive(0, width).reduce((sum, c) => sum + (x[i * width + c]! - centroids[j * width + c]!) ** 2, 0),
      );
      expect(kernels.memory.u32[out + i]).toBe(distances.indexOf(Math.min(...distances)));
    }
    scene.dispose();
  });
});

/** Views out of order, with shifts, holes, windows, offsets into pages, gaps between positions. */
function awkward(): { refs: Ref[]; queries: Queries } {
  const { random } = scene;
  const pages = [1, 63, 64, 17, 64, 2].map(count => {
    let position = random.int(100);
    const gaps = random.int(2) === 1;
    const positions = Array.from({ length: count }, () => {
      position += gaps ? 1 + random.int(3) : 1;
      return position;
    });
    return scene.page({ layout: random.int(scene.specs.length), positions });
  });
  const refs = pages.flatMap(page =>
    [0, 1].map(() => {
      const first = random.int(page.positions.length);
      const count = 1 + random.int(page.positions.length - first);
      const mask = random.int(2) === 1 ? ALL : BigInt(Math.floor(random.uniform() * 2 ** 53)) << BigInt(random.int(12));
      return { page, first, count, shift: [0, 0, 7, -5, 300][random.int(5)]!, mask };
    }),
  );
  const positions = Array.from({ length: 20 }, () => random.int(400));
  return { refs, queries: ask(positions, 1 + random.int(4), random.int(2) === 1 ? 0 : 1 + random.int(150)) };
}
