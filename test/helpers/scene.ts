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
  FORMAT_F16,
  FORMAT_F32,
  FORMAT_INT8,
  KIND_APPEND,
  KIND_READ,
  LAYOUT_BIAS,
  LAYOUT_BYTES,
  LAYOUT_CELL_BYTES,
  LAYOUT_FORMAT_K,
  LAYOUT_FORMAT_V,
  LAYOUT_HEAD_DIM,
  LAYOUT_K,
  LAYOUT_K_SCALE,
  LAYOUT_KEYS_UNROTATED,
  LAYOUT_ROTARY,
  LAYOUT_V,
  LAYOUT_V_SCALE,
  PAGE_TOKENS,
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
import { turnTable } from '../../kernels/reference/turn.ts';
import type { CpuKernels } from '../../src/backend/cpu/kernels.ts';

export const FORMATS = { f32: FORMAT_F32, f16: FORMAT_F16, int8: FORMAT_INT8 } as const;
export type Format = keyof typeof FORMATS;

export interface LayoutSpec {
  readonly k: Format;
  readonly v: Format;
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

  /** A page of random rows, or of the given ones; appended in one go. */
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
    const keys = k ?? this.normals(count * this.headDim);
    const values = v ?? this.normals(count * this.headDim);
    this.append(spec.layout, cell, 0, spec.positions, keys, values);
    const bias = this.layoutField(spec.layout, LAYOUT_BIAS);
    if (bias) for (let i = 0; i < count; i++) memory.f32[(cell + bias) / 4 + i] = this.random.normal();
    return { ...spec, cell, block, ...this.read(spec.layout, cell, 0, count) };
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
    const size = { f32: 4, f16: 2, int8: 1 };
    const plane = this.headDim * PAGE_TOKENS;
    let bytes = 0;
    const take = (length: number) => {
      bytes += length;
      return bytes - length;
    };
    const set = (field: number, value: number) => {
      this.kernels.memory.u32[(this.layouts + id * LAYOUT_BYTES + field) / 4] = value;
    };
    set(LAYOUT_FORMAT_K, FORMATS[spec.k]);
    set(LAYOUT_FORMAT_V, FORMATS[spec.v]);
    set(LAYOUT_HEAD_DIM, this.headDim);
    set(LAYOUT_K, take(plane * size[spec.k]));
    set(LAYOUT_V, take(plane * size[spec.v]));
    set(LAYOUT_K_SCALE, spec.k === 'int8' ? take(256) : 0);
    set(LAYOUT_V_SCALE, spec.v === 'int8' ? take(256) : 0);
    set(LAYOUT_BIAS, spec.bias ? take(256) : 0);
    set(LAYOUT_CELL_BYTES, bytes);
    set(LAYOUT_KEYS_UNROTATED, spec.unrotated ? 1 : 0);
    set(LAYOUT_ROTARY, this.frequencies.length * 2);
  }
}
