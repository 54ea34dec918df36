import {
  ATTEND_BYTES,
  KIND_ATTEND,
  KIND_MERGE,
  MERGE_BYTES,
  MERGE_GROUP,
  MERGE_HEAD_DIM,
  MERGE_OUT,
  MERGE_OUT_STRIDE,
  MERGE_PART_STRIDE,
  MERGE_PARTIAL,
  MERGE_PARTS,
  MERGE_ROWS,
  REF_BYTES,
} from '../../kernels/abi.ts';
import { ALL, prepare, type Queries, type Ref, results, writeAttend } from './attention.ts';
import type { Page, Scene } from './scene.ts';

/** Views and questions that tests of attention share. */

export function consecutive(from: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => from + i);
}

/** Pages of up to 64 consecutive positions. */
export function view(scene: Scene, tokens: number, layoutOf: (page: number) => number = () => 0): Ref[] {
  const refs: Ref[] = [];
  for (let from = 0; from < tokens; from += 64) {
    const positions = consecutive(from, Math.min(64, tokens - from));
    const page = scene.page({ layout: layoutOf(refs.length), positions });
    refs.push({ page, first: 0, count: positions.length, shift: 0, mask: ALL });
  }
  return refs;
}

export function question(scene: Scene, positions: readonly number[], group: number, window = 0): Queries {
  const q = scene.normals(positions.length * group * scene.headDim);
  return { q, positions, group, scale: 1 / Math.sqrt(scene.headDim), window };
}

/** The rows [from, to) of a question. */
export function rowsOf(scene: Scene, queries: Queries, from: number, to: number): Queries {
  const width = queries.group * scene.headDim;
  return { ...queries, positions: queries.positions.slice(from, to), q: queries.q.slice(from * width, to * width) };
}

/** Views out of order, with shifts, holes, windows, offsets into pages, gaps between positions. */
export function awkward(scene: Scene, rows = 20): { refs: Ref[]; queries: Queries } {
  const { random } = scene;
  const pages: Page[] = [];
  for (let i = 0; i < 6; i++) {
    const count = [1, 63, 64, 17, 64, 2][i]!;
    let position = random.int(100);
    const gaps = random.int(2) === 1;
    const positions = Array.from({ length: count }, () => {
      position += gaps ? 1 + random.int(3) : 1;
      return position;
    });
    pages.push(scene.page({ layout: random.int(scene.specs.length), positions }));
  }
  const refs = pages.flatMap(page =>
    [0, 1].map(() => {
      const first = random.int(page.positions.length);
      const count = 1 + random.int(page.positions.length - first);
      const mask = random.int(2) === 1 ? ALL : BigInt(Math.floor(random.uniform() * 2 ** 53)) << BigInt(random.int(12));
      return { page, first, count, shift: [0, 0, 7, -5, 300][random.int(5)]!, mask };
    }),
  );
  const positions = Array.from({ length: rows }, () => random.int(400));
  return {
    refs,
    queries: question(scene, positions, 1 + random.int(4), random.int(2) === 1 ? 0 : 1 + random.int(150)),
  };
}

/** The view cut into `parts`, each attended apart, joined by MERGE. */
export function splitAndMerge(scene: Scene, refs: readonly Ref[], queries: Queries, parts: number): Float32Array {
  const { memory } = scene.kernels;
  const whole = prepare(scene, refs, queries);
  const count = queries.positions.length;
  const partBytes = count * queries.group * (scene.headDim + 2) * 4;
  const partial = scene.alloc(parts * partBytes);
  const items = scene.alloc(parts * ATTEND_BYTES);
  const share = Math.ceil(refs.length / parts);
  for (let part = 0; part < parts; part++) {
    const from = Math.min(part * share, refs.length);
    writeAttend(scene, items + part * ATTEND_BYTES, {
      ...whole,
      refs: whole.refs + from * REF_BYTES,
      refCount: Math.min(share, refs.length - from),
      partial: partial + part * partBytes,
    });
  }
  scene.kernels.run(KIND_ATTEND, items, parts);
  const at = scene.alloc(MERGE_BYTES) / 4;
  memory.i32[at + MERGE_PARTIAL / 4] = partial;
  memory.i32[at + MERGE_PART_STRIDE / 4] = partBytes;
  memory.i32[at + MERGE_PARTS / 4] = parts;
  memory.i32[at + MERGE_ROWS / 4] = count;
  memory.i32[at + MERGE_GROUP / 4] = queries.group;
  memory.i32[at + MERGE_HEAD_DIM / 4] = scene.headDim;
  memory.i32[at + MERGE_OUT / 4] = whole.out;
  memory.i32[at + MERGE_OUT_STRIDE / 4] = queries.group * scene.headDim;
  scene.kernels.run(KIND_MERGE, at * 4, 1);
  return results(scene, whole);
}
