import {
  ATTEND_BYTES,
  ATTEND_GROUP,
  ATTEND_HEAD_DIM,
  ATTEND_KEY_COARSE,
  ATTEND_KEY_FINE,
  ATTEND_LAYOUTS,
  ATTEND_OUT,
  ATTEND_OUT_STRIDE,
  ATTEND_PARTIAL,
  ATTEND_POSITIONS,
  ATTEND_Q,
  ATTEND_Q_STRIDE,
  ATTEND_REF_COUNT,
  ATTEND_REFS,
  ATTEND_ROWS,
  ATTEND_SCALE,
  ATTEND_TURN_COUNT,
  ATTEND_TURNS,
  ATTEND_WINDOW,
  KEY_TURN_STEP,
  LAYOUT_BIAS,
  REF_BYTES,
  REF_CELL,
  REF_COUNT,
  REF_FIRST,
  REF_FLAG_CONTIGUOUS,
  REF_FLAG_FULL_MASK,
  REF_FLAGS,
  REF_LAYOUT,
  REF_MASK_HI,
  REF_MASK_LO,
  REF_POSITIONS,
  REF_SHIFT,
  TURN_BYTES,
} from '../../kernels/abi.ts';
import { attendRow, type Entry } from '../../kernels/reference/attend.ts';
import { turnRow, turnTable } from '../../kernels/reference/turn.ts';
import type { Page, Scene } from './scene.ts';

/** One reference of a view. */
export interface Ref {
  readonly page: Page;
  readonly first: number;
  readonly count: number;
  readonly shift: number;
  readonly mask: bigint;
}

export const ALL = (1n << 64n) - 1n;

export interface Queries {
  /** f32 [positions.length][group][headDim], before RoPE. */
  readonly q: Float32Array;
  readonly positions: readonly number[];
  readonly group: number;
  readonly scale: number;
  readonly window: number;
}

/** Writes a view's REFs; flags are set only where they hold. */
export function writeRefs(scene: Scene, refs: readonly Ref[]): number {
  const { memory } = scene.kernels;
  const address = scene.alloc(refs.length * REF_BYTES + 4);
  refs.forEach((ref, i) => {
    const at = address + i * REF_BYTES;
    const range = ((1n << BigInt(ref.count)) - 1n) << BigInt(ref.first);
    const positions = ref.page.positions;
    const contiguous = positions.every((position, j) => position === positions[0]! + j);
    const full = (ref.mask & range) === range;
    memory.u32[(at + REF_CELL) / 4] = ref.page.cell;
    memory.u32[(at + REF_POSITIONS) / 4] = ref.page.block;
    memory.u8[at + REF_FIRST] = ref.first;
    memory.u8[at + REF_COUNT] = ref.count;
    memory.u16[(at + REF_LAYOUT) / 2] = ref.page.layout;
    memory.i32[(at + REF_SHIFT) / 4] = ref.shift;
    memory.u32[(at + REF_MASK_LO) / 4] = Number(ref.mask & 0xffffffffn);
    memory.u32[(at + REF_MASK_HI) / 4] = Number(ref.mask >> 32n);
    memory.u32[(at + REF_FLAGS) / 4] = (contiguous ? REF_FLAG_CONTIGUOUS : 0) | (full ? REF_FLAG_FULL_MASK : 0);
  });
  return address;
}

/** TURN pairs of these positions, shift 0 first. */
export function writeTurns(scene: Scene, positions: readonly number[], shifts: readonly number[]): number {
  const turns = scene.alloc(shifts.length * TURN_BYTES);
  shifts.forEach((shift, i) => {
    const table = turnTable(
      positions.map(position => position - shift),
      scene.frequencies,
    );
    // An allocation may replace the memory's views: take the address first.
    const address = scene.floats(table);
    scene.kernels.memory.i32[(turns + i * TURN_BYTES) / 4] = shift;
    scene.kernels.memory.u32[(turns + i * TURN_BYTES) / 4 + 1] = address;
  });
  return turns;
}

export function shiftsOf(refs: readonly Ref[]): number[] {
  return [...new Set([0, ...refs.map(ref => ref.shift)])];
}

export interface Attend {
  readonly refs: number;
  readonly refCount: number;
  readonly queries: Queries;
  readonly turns: number;
  readonly turnCount: number;
  readonly q: number;
  readonly out: number;
  readonly positions: number;
  readonly partial?: number;
}

/** Writes one ATTEND record at `at`. */
export function writeAttend(scene: Scene, at: number, attend: Attend): void {
  const { queries } = attend;
  const stride = queries.group * scene.headDim;
  const set = (field: number, value: number) => {
    scene.kernels.memory.i32[(at + field) / 4] = value;
  };
  set(ATTEND_REFS, attend.refs);
  set(ATTEND_REF_COUNT, attend.refCount);
  set(ATTEND_Q, attend.q);
  set(ATTEND_Q_STRIDE, stride);
  set(ATTEND_ROWS, queries.positions.length);
  set(ATTEND_GROUP, queries.group);
  set(ATTEND_HEAD_DIM, scene.headDim);
  set(ATTEND_OUT, attend.out);
  set(ATTEND_OUT_STRIDE, stride);
  set(ATTEND_POSITIONS, attend.positions);
  set(ATTEND_TURNS, attend.turns);
  set(ATTEND_TURN_COUNT, attend.turnCount);
  set(ATTEND_WINDOW, queries.window);
  scene.kernels.memory.f32[(at + ATTEND_SCALE) / 4] = queries.scale;
  set(ATTEND_PARTIAL, attend.partial ?? 0);
  set(ATTEND_LAYOUTS, scene.layouts);
  if (scene.specs.some(spec => spec.unrotated)) {
    const steps = (count: number, step: number) => Array.from({ length: count }, (_, i) => i * step);
    set(ATTEND_KEY_COARSE, scene.floats(turnTable(steps(64, KEY_TURN_STEP), scene.frequencies)));
    set(ATTEND_KEY_FINE, scene.floats(turnTable(steps(KEY_TURN_STEP, 1), scene.frequencies)));
  }
}

/** Everything one record needs for these queries, written; the results lie at `out`. */
export function prepare(scene: Scene, refs: readonly Ref[], queries: Queries): Attend {
  const shifts = shiftsOf(refs);
  const positions = scene.alloc(queries.positions.length * 4 + 4);
  scene.kernels.memory.i32.set(queries.positions, positions / 4);
  return {
    refs: writeRefs(scene, refs),
    refCount: refs.length,
    queries,
    turns: writeTurns(scene, queries.positions, shifts),
    turnCount: shifts.length,
    q: scene.floats(queries.q),
    out: scene.alloc(queries.q.length * 4 + 4),
    positions,
  };
}

export function results(scene: Scene, attend: Attend): Float32Array {
  return scene.kernels.memory.f32.slice(attend.out / 4, attend.out / 4 + attend.queries.q.length);
}

/** One record over all rows. */
export function newAttend(scene: Scene, attend: Attend): number {
  const at = scene.alloc(ATTEND_BYTES);
  writeAttend(scene, at, attend);
  return at;
}

/** The entries of a view, in order. */
export function entriesOf(scene: Scene, refs: readonly Ref[]): Entry[] {
  const { headDim } = scene;
  const entries: Entry[] = [];
  for (const { page, first, count, shift, mask } of refs) {
    const spec = scene.specs[page.layout]!;
    const bias = scene.layoutField(page.layout, LAYOUT_BIAS);
    for (let i = first; i < first + count; i++) {
      if (((mask >> BigInt(i)) & 1n) === 0n) continue;
      const stored = page.k.subarray(i * headDim, (i + 1) * headDim);
      entries.push({
        key: turnRow(stored, shift + (spec.unrotated ? page.positions[i]! : 0), scene.frequencies),
        value: page.v.subarray(i * headDim, (i + 1) * headDim),
        position: page.positions[i]! + shift,
        bias: bias ? scene.kernels.memory.f32[(page.cell + bias) / 4 + i]! : 0,
      });
    }
  }
  return entries;
}

/** The same in float64. */
export function reference(scene: Scene, refs: readonly Ref[], queries: Queries): Float64Array {
  const { headDim } = scene;
  const entries = entriesOf(scene, refs);
  const out = new Float64Array(queries.q.length);
  queries.positions.forEach((position, r) => {
    for (let h = 0; h < queries.group; h++) {
      const at = (r * queries.group + h) * headDim;
      const turned = turnRow(queries.q.subarray(at, at + headDim), position, scene.frequencies);
      out.set(attendRow(turned, position, entries, queries.scale, queries.window), at);
    }
  });
  return out;
}

/** Whether two results agree in every bit. */
export function sameBits(a: Float32Array, b: Float32Array): boolean {
  const bytes = (x: Float32Array) => Buffer.from(x.buffer, x.byteOffset, x.byteLength);
  return bytes(a).equals(bytes(b));
}
