import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  KIND_PROJECT,
  PROJECT_BASIS,
  PROJECT_BYTES,
  PROJECT_OUT,
  PROJECT_PART_STRIDE,
  PROJECT_PARTS,
  PROJECT_RANK,
  PROJECT_ROW_STRIDE,
  PROJECT_ROWS,
  PROJECT_WIDTH,
  PROJECT_X,
} from '../../../kernels/abi.ts';
import { project } from '../../../kernels/reference/project.ts';
import { random } from '../../../test/helpers/scene.ts';
import { Arena } from './arena.ts';
import { type CpuKernels, createKernels } from './kernels.ts';

describe.each(['relaxed', 'plain', 'single'] as const)('X B, %s kernels', variant => {
  let kernels: CpuKernels;
  const { normal } = random(variant.length);
  beforeAll(async () => {
    kernels = await createKernels({ memory: new Arena({ limit: 2 ** 27, shared: variant !== 'single' }), variant });
  });
  afterAll(() => kernels.dispose());

  /** X [rows][parts * width] laid out by part, or row by row. */
  function run(x: Float32Array, basis: Float32Array, parts: number, width: number, rank: number, byPart: boolean) {
    const { memory } = kernels;
    const rows = x.length / (parts * width);
    const bytes = (x.length + basis.length + rows * rank) * 4 + PROJECT_BYTES + 64;
    const at = memory.alloc(bytes);
    const basisAt = at + x.length * 4;
    const out = basisAt + basis.length * 4;
    const item = Math.ceil((out + rows * rank * 4) / 64) * 64;
    const { f32, i32 } = memory;
    f32.fill(Number.NaN, out / 4, item / 4);
    for (let i = 0; i < rows; i++)
      for (let c = 0; c < parts * width; c++) {
        const place = byPart ? (Math.floor(c / width) * rows + i) * width + (c % width) : i * parts * width + c;
        f32[at / 4 + place] = x[i * parts * width + c]!;
      }
    f32.set(basis, basisAt / 4);
    for (const [field, value] of [
      [PROJECT_X, at],
      [PROJECT_ROW_STRIDE, byPart ? width : parts * width],
      [PROJECT_PART_STRIDE, byPart ? rows * width : width],
      [PROJECT_ROWS, rows],
      [PROJECT_PARTS, parts],
      [PROJECT_WIDTH, width],
      [PROJECT_BASIS, basisAt],
      [PROJECT_RANK, rank],
      [PROJECT_OUT, out],
    ] as const)
      i32[(item + field) / 4] = value;
    kernels.run(KIND_PROJECT, item, 1);
    const got = memory.f32.slice(out / 4, out / 4 + rows * rank);
    memory.free(at, bytes);
    return got;
  }

  it.each([0, 1, 63, 64, 65, 130])('%i rows', rows => {
    for (const [parts, width, rank] of [
      [1, 8, 8],
      [3, 64, 72],
      [2, 256, 264],
      [8, 16, 24],
    ] as const) {
      const x = Float32Array.from({ length: rows * parts * width }, normal);
      const basis = Float32Array.from({ length: parts * width * rank }, normal);
      const wanted = project(x, basis, parts * width, rank);
      const got = run(x, basis, parts, width, rank, true);
      expect(run(x, basis, parts, width, rank, false)).toEqual(got);
      let far = 0;
      for (let i = 0; i < wanted.length; i++) far = Math.max(far, Math.abs(got[i]! - wanted[i]!));
      expect(far).toBeLessThan(2e-6 * parts * width);
    }
  });
});
