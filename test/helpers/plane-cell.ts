import {
  ENCODE_BYTES,
  ENCODE_CELL,
  ENCODE_K,
  ENCODE_LAYOUT,
  ENCODE_LAYOUTS,
  ENCODE_NORM_K,
  ENCODE_NORM_V,
  ENCODE_ROWS,
  ENCODE_V,
  FORMAT_LATENT,
  FORMAT_SCALAR,
  KIND_ENCODE,
  KIND_READ,
  LAYOUT_BYTES,
  LAYOUT_FORMAT_K,
  LAYOUT_FORMAT_V,
  LAYOUT_HEAD_DIM,
  LAYOUT_HEADER,
  LAYOUT_PLANE_K,
  LAYOUT_PLANE_V,
  PAGE_TOKENS,
  READ_BYTES,
  READ_CELL,
  READ_COUNT,
  READ_FIRST,
  READ_K,
  READ_LAYOUT,
  READ_LAYOUTS,
  READ_V,
} from '../../kernels/abi.ts';
import { decodeHalf, encodeHalf } from '../../kernels/reference/half.ts';
import type { CpuKernels } from '../../src/backend/cpu/kernels.ts';
import type { LatentFormat, ScalarFormat } from '../../src/cache/format.ts';
import { type PlanePlan, planPlane } from '../../src/cache/plane-layout.ts';
import { writePlane } from '../../src/cache/plane-record.ts';

export type Plane = 'k' | 'v';
type Format = ScalarFormat | LatentFormat;

/** One cell with scalar or latent planes in real memory, written and read by the kernels. */
export class PlaneCell {
  readonly plans: Readonly<Record<Plane, PlanePlan>>;
  readonly kernels: CpuKernels;
  readonly headDim: number;
  readonly layouts: number;
  readonly cell: number;
  /** Offset of each plane in the cell. */
  readonly at: Record<Plane, number> = { k: 64, v: 0 };
  /** Addresses of the shared rows. */
  readonly rows: Record<Plane, number> = { k: 0, v: 0 };
  readonly #bytes: [number, number][] = [];

  /** `blocks`: values of the parameter blocks. */
  constructor(
    kernels: CpuKernels,
    headDim: number,
    k: Format,
    v: Format,
    blocks: Partial<Record<Plane, number[]>> = {},
  ) {
    this.kernels = kernels;
    this.headDim = headDim;
    this.plans = { k: planPlane(k, headDim, 'k'), v: planPlane(v, headDim, 'v') };
    this.at.v = this.at.k + this.plans.k.bytes;
    this.layouts = this.alloc(LAYOUT_BYTES);
    this.cell = this.alloc(this.at.v + this.plans.v.bytes);
    const { memory } = kernels;
    memory.u8.fill(0, this.layouts, this.layouts + LAYOUT_BYTES);
    const header: number[] = [];
    for (const plane of ['k', 'v'] as const) {
      const plan = this.plans[plane];
      const block = blocks[plane];
      const tables = plan.tableBytes > 0 ? this.alloc(plan.tableBytes) : 0;
      if (plan.rowsBytes > 0) this.rows[plane] = this.alloc(plan.rowsBytes);
      let address = 0;
      if (block) {
        if (block.length !== plan.sharedValues) throw new Error(`${block.length} values, not ${plan.sharedValues}`);
        address = this.alloc(block.length * 2);
        for (const [i, x] of block.entries()) memory.u16[address / 2 + i] = encodeHalf(x);
      }
      header.push(this.rows[plane], address);
      writePlane(
        memory,
        this.layouts + (plane === 'k' ? LAYOUT_PLANE_K : LAYOUT_PLANE_V),
        tables,
        plan,
        this.at[plane],
      );
    }
    memory.u32.set(header, this.cell / 4);
    this.#set(this.layouts, LAYOUT_FORMAT_K, k.kind === 'scalar' ? FORMAT_SCALAR : FORMAT_LATENT);
    this.#set(this.layouts, LAYOUT_FORMAT_V, v.kind === 'scalar' ? FORMAT_SCALAR : FORMAT_LATENT);
    this.#set(this.layouts, LAYOUT_HEAD_DIM, headDim);
    this.#set(this.layouts, LAYOUT_HEADER, 1);
  }

  alloc(bytes: number): number {
    const address = this.kernels.memory.alloc(bytes);
    this.#bytes.push([address, bytes]);
    this.kernels.memory.u8.fill(0xff, address, address + bytes);
    return address;
  }

  floats(values: ArrayLike<number> | undefined): number {
    if (!values) return 0;
    const address = this.alloc(values.length * 4);
    this.kernels.memory.f32.set(values, address / 4);
    return address;
  }

  /** An ENCODE record at a fresh address. */
  record(rows: number, k?: Float32Array, v?: Float32Array, normK?: Float32Array, normV?: Float32Array): number {
    const item = this.alloc(ENCODE_BYTES);
    this.#set(item, ENCODE_K, this.floats(k));
    this.#set(item, ENCODE_V, this.floats(v));
    this.#set(item, ENCODE_ROWS, rows);
    this.#set(item, ENCODE_CELL, this.cell);
    this.#set(item, ENCODE_LAYOUT, 0);
    this.#set(item, ENCODE_LAYOUTS, this.layouts);
    this.#set(item, ENCODE_NORM_K, this.floats(normK));
    this.#set(item, ENCODE_NORM_V, this.floats(normV));
    return item;
  }

  encode(rows: number, k?: Float32Array, v?: Float32Array, normK?: Float32Array, normV?: Float32Array): void {
    this.kernels.run(KIND_ENCODE, this.record(rows, k, v, normK, normV), 1);
  }

  /** A READ record at a fresh address. */
  readRecord(first: number, count: number): number {
    const item = this.alloc(READ_BYTES);
    const bytes = count * this.headDim * 4;
    this.#set(item, READ_CELL, this.cell);
    this.#set(item, READ_LAYOUT, 0);
    this.#set(item, READ_FIRST, first);
    this.#set(item, READ_COUNT, count);
    this.#set(item, READ_K, this.alloc(bytes));
    this.#set(item, READ_V, this.alloc(bytes));
    this.#set(item, READ_LAYOUTS, this.layouts);
    return item;
  }

  read(first = 0, count = PAGE_TOKENS): Record<Plane, Float32Array> {
    const item = this.readRecord(first, count);
    this.kernels.run(KIND_READ, item, 1);
    const { f32, u32 } = this.kernels.memory;
    const rows = (field: number) => {
      const from = u32[(item + field) / 4]! / 4;
      return f32.slice(from, from + count * this.headDim);
    };
    return { k: rows(READ_K), v: rows(READ_V) };
  }

  /** Codes of a part [64][width], read byte by byte as kernels/abi.ts lays them out. */
  codes(plane: Plane, p: number): Float64Array {
    const { part, channels, codes, codesHigh } = this.plans[plane].parts[p]!;
    const width = channels.length;
    const { u8, u16 } = this.kernels.memory;
    const start = this.cell + this.at[plane];
    const [pairs, items] = plane === 'k' ? [Math.ceil(width / 2), PAGE_TOKENS] : [PAGE_TOKENS / 2, width];
    const out = new Float64Array(PAGE_TOKENS * width);
    const field = (offset: number, bits: number, row: number, item: number): number => {
      const perVector = 64 / bits;
      const stretch = Math.ceil(items / perVector) * 16;
      const vector = Math.floor(item / perVector);
      const slot = Math.floor((item % perVector) / 8);
      const byte = u8[start + offset + (row >> 1) * stretch + vector * 16 + (item % 8) * 2 + (row & 1)]!;
      return (byte >> (slot * bits)) & (2 ** bits - 1);
    };
    if (part.bits !== 16 && pairs * 2 < 1) throw new Error('a part without rows');
    for (let at = 0; at < out.length; at++) {
      const [t, i] = [Math.floor(at / width), at % width];
      const [row, item] = plane === 'k' ? [i, t] : [t, i];
      if (part.bits === 16) out[at] = decodeHalf(u16[(start + codes) / 2 + row * items + item]!);
      else if (part.bits === 3) out[at] = field(codes, 2, row, item) + 4 * field(codesHigh, 1, row, item);
      else out[at] = field(codes, part.bits, row, item);
    }
    return out;
  }

  /** f16 values in the cell, from an offset in a plane. */
  halves(plane: Plane, offset: number, count: number): Float64Array {
    const from = (this.cell + this.at[plane] + offset) / 2;
    return Float64Array.from(this.kernels.memory.u16.subarray(from, from + count), decodeHalf);
  }

  dispose(): void {
    for (const [address, bytes] of this.#bytes) this.kernels.memory.free(address, bytes);
  }

  #set(record: number, field: number, value: number): void {
    this.kernels.memory.u32[(record + field) / 4] = value;
  }
}
