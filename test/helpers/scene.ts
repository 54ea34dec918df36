import {
  APPEND_BYTES,
  APPEND_CELL,
  APPEND_FIRST,
  APPEND_K,
  APPEND_LAYOUT,
  APPEND_LAYOUTS,
  APPEND_ROWS,
  APPEND_STRIDE,
  APPEND_TURN,
  APPEND_V,
  ENCODE_BYTES,
  ENCODE_CELL,
  ENCODE_K,
  ENCODE_LAYOUT,
  ENCODE_LAYOUTS,
  ENCODE_NORM_K,
  ENCODE_NORM_V,
  ENCODE_ROWS,
  ENCODE_V,
  KIND_APPEND,
  KIND_ENCODE,
  KIND_READ,
  LAYOUT_BIAS,
  LAYOUT_BYTES,
  LAYOUT_CELL_BYTES,
  POSITIONS_BYTES,
  POSITIONS_DELTA,
  READ_BYTES,
  READ_CELL,
  READ_COUNT,
  READ_FIRST,
  READ_K,
  READ_LAYOUT,
  READ_LAYOUTS,
  READ_V,
} from '../../kernels/abi.ts';
import { encodeHalf } from '../../kernels/reference/half.ts';
import { turnTable } from '../../kernels/reference/turn.ts';
import type { CpuKernels } from '../../src/backend/cpu/kernels.ts';
import { type CellPlan, planCell, writeCell } from '../../src/cache/cell-layout.ts';
import { isExact, type LatentFormat, type PlaneFormat } from '../../src/cache/format.ts';
import { jointSigns, type PlanePlan } from '../../src/cache/plane-layout.ts';

export interface LayoutSpec {
  readonly k: PlaneFormat;
  readonly v: PlaneFormat;
  readonly bias?: boolean;
  readonly unrotated?: boolean;
}

export interface PageSpec {
  readonly layout: number;
  /** Stored positions of its rows, at most 64. */
  readonly positions: readonly number[];
}

export interface Page extends PageSpec {
  readonly cell: number;
  readonly block: number;
  /** Decoded rows as stored. */
  readonly k: Float32Array;
  readonly v: Float32Array;
}

/** Random numbers, the same for the same seed (mulberry32); `normal` by Box and Muller. */
export function random(seed: number): { uniform(): number; int(below: number): number; normal(): number } {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  return {
    uniform,
    int: below => Math.floor(uniform() * below),
    normal: () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform()),
  };
}

/** Pages in real memory, written and read by the kernels themselves: what tests and benchmarks of attention stand on. */
export class Scene {
  readonly kernels: CpuKernels;
  readonly headDim: number;
  readonly frequencies: Float64Array;
  readonly layouts: number;
  readonly specs: readonly LayoutSpec[];
  readonly random: ReturnType<typeof random>;
  readonly #plans: CellPlan[] = [];
  readonly #blocks: [address: number, bytes: number][] = [];

  constructor(kernels: CpuKernels, headDim: number, specs: readonly LayoutSpec[], seed: number, rotary = headDim) {
    this.kernels = kernels;
    this.headDim = headDim;
    this.specs = specs;
    this.random = random(seed);
    this.frequencies = Float64Array.from({ length: rotary / 2 }, (_, i) => 10000 ** (-2 * (i / rotary)));
    this.layouts = this.alloc(specs.length * LAYOUT_BYTES);
    for (const [id, spec] of specs.entries()) this.#writeLayout(id, spec);
  }

  /** A block that lives as long as the scene; cleared to a pattern that reads as NaN in f32 and f16 alike. */
  alloc(bytes: number): number {
    const address = this.kernels.memory.alloc(bytes);
    this.#blocks.push([address, bytes]);
    this.kernels.memory.u8.fill(0xff, address, address + bytes);
    return address;
  }

  floats(values: ArrayLike<number>): number {
    const address = this.alloc(Math.max(values.length, 1) * 4);
    this.kernels.memory.f32.set(values, address / 4);
    return address;
  }

  normals(count: number): Float32Array {
    return Float32Array.from({ length: count }, () => this.random.normal());
  }

  layoutField(id: number, field: number): number {
    return this.kernels.memory.u32[(this.layouts + id * LAYOUT_BYTES + field) / 4]!;
  }

  /** A page of random rows, or of the given ones (exact formats); written in one go. */
  page(spec: PageSpec, k?: Float32Array, v?: Float32Array): Page {
    const { memory } = this.kernels;
    const count = spec.positions.length;
    const cell = this.alloc(this.layoutField(spec.layout, LAYOUT_CELL_BYTES));
    const block = this.alloc(POSITIONS_BYTES);
    const base = Math.min(...spec.positions, 2 ** 30);
    memory.i32[block / 4] = base;
    spec.positions.forEach((position, i) => {
      memory.u16[(block + POSITIONS_DELTA) / 2 + i] = position - base;
    });
    if (this.#plans[spec.layout]!.layout.kind === 'exact') this.#appendAll(spec, cell, k, v);
    else this.#encode(spec, cell);
    const bias = this.layoutField(spec.layout, LAYOUT_BIAS);
    if (bias) for (let i = 0; i < count; i++) memory.f32[(cell + bias) / 4 + i] = this.random.normal();
    return { ...spec, cell, block, ...this.read(spec.layout, cell, 0, count) };
  }

  #appendAll(spec: PageSpec, cell: number, k?: Float32Array, v?: Float32Array): void {
    const count = spec.positions.length;
    const keys = k ?? this.normals(count * this.headDim);
    const values = v ?? this.normals(count * this.headDim);
    this.append(spec.layout, cell, 0, spec.positions, keys, values);
  }

  /** Shared rows and parameter blocks of such a page are its own. */
  #encode(spec: PageSpec, cell: number): void {
    const { layout, planK, planV } = this.#plans[spec.layout]!;
    const count = spec.positions.length;
    const header = [planK, planV].flatMap(plan => [
      plan && plan.rowsBytes > 0 ? this.alloc(plan.rowsBytes) : 0,
      plan && plan.sharedValues > 0 ? this.#block(plan) : 0,
    ]);
    const rows = (plan: PlanePlan | null) => this.floats(this.normals(count * rowWidth(plan, this.headDim)));
    const norms = (plan: PlanePlan | null) =>
      isLatent(plan) && plan.format.norms
        ? this.floats(Float32Array.from({ length: count }, () => 0.5 + this.random.uniform()))
        : 0;
    const fields: [number, number][] = [
      [ENCODE_K, rows(planK)],
      [ENCODE_V, rows(planV)],
      [ENCODE_ROWS, count],
      [ENCODE_CELL, cell],
      [ENCODE_LAYOUT, spec.layout],
      [ENCODE_LAYOUTS, this.layouts],
      [ENCODE_NORM_K, norms(planK)],
      [ENCODE_NORM_V, norms(planV)],
    ];
    const at = this.alloc(ENCODE_BYTES);
    const { u32 } = this.kernels.memory;
    if (layout.headerAt >= 0) u32.set(header, (cell + layout.headerAt) / 4);
    for (const [field, value] of fields) u32[(at + field) / 4] = value;
    if (count > 0) this.kernels.run(KIND_ENCODE, at, 1);
  }

  /** A parameter block of random factors, a random basis, or the signs of one of the heads. */
  #block(plan: PlanePlan): number {
    const address = this.alloc(plan.sharedValues * 2);
    const { u16 } = this.kernels.memory;
    if (plan.format.kind === 'joint') {
      const { heads } = plan.format;
      u16.set(Uint16Array.from(jointSigns(heads, this.random.int(heads)), encodeHalf), address / 2);
      return address;
    }
    for (let i = 0; i < plan.sharedValues; i++) {
      const x = isLatent(plan) ? this.random.normal() / Math.sqrt(plan.rank) : 0.5 + this.random.uniform();
      u16[address / 2 + i] = encodeHalf(x);
    }
    return address;
  }

  append(
    layout: number,
    cell: number,
    first: number,
    positions: readonly number[],
    k: Float32Array,
    v: Float32Array,
  ): void {
    const at = this.alloc(APPEND_BYTES);
    const set = (field: number, value: number) => {
      this.kernels.memory.i32[(at + field) / 4] = value;
    };
    set(APPEND_K, this.floats(k));
    set(APPEND_V, this.floats(v));
    set(APPEND_STRIDE, this.headDim);
    set(APPEND_ROWS, positions.length);
    set(APPEND_CELL, cell);
    set(APPEND_LAYOUT, layout);
    set(APPEND_FIRST, first);
    set(APPEND_TURN, this.floats(turnTable(positions, this.frequencies)));
    set(APPEND_LAYOUTS, this.layouts);
    this.kernels.run(KIND_APPEND, at, 1);
  }

  read(layout: number, cell: number, first: number, count: number): { k: Float32Array; v: Float32Array } {
    const { memory } = this.kernels;
    const at = this.alloc(READ_BYTES);
    const k = this.alloc(count * this.headDim * 4 + 4);
    const v = this.alloc(count * this.headDim * 4 + 4);
    const set = (field: number, value: number) => {
      memory.i32[(at + field) / 4] = value;
    };
    set(READ_CELL, cell);
    set(READ_LAYOUT, layout);
    set(READ_FIRST, first);
    set(READ_COUNT, count);
    set(READ_K, k);
    set(READ_V, v);
    set(READ_LAYOUTS, this.layouts);
    this.kernels.run(KIND_READ, at, 1);
    const rows = (from: number) => memory.f32.slice(from / 4, from / 4 + count * this.headDim);
    return { k: rows(k), v: rows(v) };
  }

  dispose(): void {
    for (const [address, bytes] of this.#blocks) this.kernels.memory.free(address, bytes);
  }

  #writeLayout(id: number, spec: LayoutSpec): void {
    const shape = { slots: 1, kvHeads: 1, headDim: this.headDim, rotary: this.frequencies.length * 2 };
    const columns = spec.bias ? ['bias'] : [];
    const plan = planCell({ formatK: spec.k, formatV: spec.v, columns, keysUnrotated: spec.unrotated ?? false }, shape);
    const tables = this.alloc(plan.tableBytes + 16);
    writeCell(this.kernels.memory, this.layouts + id * LAYOUT_BYTES, tables, plan, shape);
    this.#plans[id] = plan;
  }
}

function isLatent(plan: PlanePlan | null): plan is PlanePlan & { readonly format: LatentFormat } {
  return plan !== null && !isExact(plan.format) && plan.format.kind === 'latent';
}

function rowWidth(plan: PlanePlan | null, headDim: number): number {
  if (plan?.format.kind === 'joint') return plan.format.heads * headDim;
  return isLatent(plan) ? plan.rank : headDim;
}
