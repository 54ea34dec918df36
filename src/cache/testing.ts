import * as abi from '../../kernels/abi.ts';
import type { Kernels, Memory } from '../backend/types.ts';
import { KvasirError } from '../errors.ts';
import { floatToHalf, halfToFloat } from '../model/float16.ts';
import { blockBytes } from './arrays.ts';

/**
 * The cache's reference executor: a plain memory, and the records of kernels/abi.ts carried out row by row in float64.
 * Slow and simple; the tests of this folder run on it, and the real kernels are held against it.
 */

/** A memory of fixed size with free lists by size. It keeps no address below 64, so that 0 is never a block. */
export class PlainMemory implements Memory {
  readonly buffer: ArrayBuffer;
  readonly u8: Uint8Array;
  readonly u16: Uint16Array;
  readonly i32: Int32Array;
  readonly u32: Uint32Array;
  readonly f32: Float32Array;
  held = 0;
  peak = 0;
  #top = 64;
  readonly #free = new Map<number, number[]>();
  /** Allocations that still succeed; tests lower it to make the memory run out at a chosen moment. */
  allowance = Number.POSITIVE_INFINITY;

  constructor(bytes = 32 << 20) {
    this.buffer = new ArrayBuffer(bytes);
    this.u8 = new Uint8Array(this.buffer);
    this.u16 = new Uint16Array(this.buffer);
    this.i32 = new Int32Array(this.buffer);
    this.u32 = new Uint32Array(this.buffer);
    this.f32 = new Float32Array(this.buffer);
  }

  alloc(bytes: number): number {
    const size = blockBytes(bytes);
    let address = this.allowance > 0 ? this.#free.get(size)?.pop() : undefined;
    if (address === undefined) {
      if (this.allowance <= 0 || this.#top + size > this.buffer.byteLength) {
        throw new KvasirError('memory_limit', `Out of memory: ${bytes} bytes.`, { field: 'memory', value: bytes });
      }
      address = this.#top;
      this.#top += size;
    }
    this.allowance--;
    this.held += size;
    this.peak = Math.max(this.peak, this.held);
    // What a block holds is undefined: make a reader of stale bytes fail.
    this.u8.fill(0xa5, address, address + size);
    return address;
  }

  free(address: number, bytes: number): void {
    const size = blockBytes(bytes);
    this.held -= size;
    this.u8.fill(0x5a, address, address + size);
    const list = this.#free.get(size);
    if (list?.includes(address)) throw new Error(`Block ${address} is freed twice.`);
    if (list) list.push(address);
    else this.#free.set(size, [address]);
  }
}

/** Where the numbers of one cell lie. */
class Cell {
  readonly headDim: number;
  readonly rotary: number;
  readonly unrotated: boolean;
  readonly bytes: number;
  readonly #memory: Memory;
  readonly #address: number;
  readonly #layout: number;

  constructor(memory: Memory, layouts: number, layout: number, address: number) {
    this.#memory = memory;
    this.#address = address;
    this.#layout = layouts + layout * abi.LAYOUT_BYTES;
    this.headDim = this.#field(abi.LAYOUT_HEAD_DIM);
    this.rotary = this.#field(abi.LAYOUT_ROTARY);
    this.unrotated = this.#field(abi.LAYOUT_KEYS_UNROTATED) !== 0;
    this.bytes = this.#field(abi.LAYOUT_CELL_BYTES);
  }

  #field(offset: number): number {
    return this.#memory.u32[(this.#layout + offset) >>> 2]!;
  }

  /** Values of a row as ENCODE takes it. */
  width(plane: 'k' | 'v'): number {
    const latent = this.#format(plane) === abi.FORMAT_LATENT;
    return latent ? this.#planeField(plane, abi.PLANE_RANK) : this.headDim;
  }

  #format(plane: 'k' | 'v'): number {
    return this.#field(plane === 'k' ? abi.LAYOUT_FORMAT_K : abi.LAYOUT_FORMAT_V);
  }

  #planeField(plane: 'k' | 'v', offset: number): number {
    return this.#field((plane === 'k' ? abi.LAYOUT_PLANE_K : abi.LAYOUT_PLANE_V) + offset);
  }

  /** One of the cell's addresses: 0 codes or shared rows, 4 parameter block. */
  #header(plane: 'k' | 'v', field: number): number {
    const at = this.#address + this.#field(abi.LAYOUT_HEADER) - 1 + (plane === 'k' ? 0 : 8) + field;
    return this.#memory.u32[at >>> 2]!;
  }

  /** Shared rows are f16 [64][rank]: the reference keeps no others. */
  #sharedRow(plane: 'k' | 'v', row: number): number {
    if (this.#planeField(plane, abi.PLANE_BITS) !== 16) throw new Error('The reference executor has f16 rows only.');
    return (this.#header(plane, 0) >>> 1) + row * this.#planeField(plane, abi.PLANE_RANK);
  }

  #readLatent(plane: 'k' | 'v', row: number): Float64Array {
    const { u16, f32 } = this.#memory;
    const rank = this.width(plane);
    const at = this.#sharedRow(plane, row);
    const norms = this.#planeField(plane, abi.PLANE_NORM);
    const norm = norms === 0xffffffff ? 1 : f32[((this.#address + norms) >>> 2) + row]!;
    const basis = this.#planeField(plane, abi.PLANE_BASIS) === 0 ? 0 : this.#header(plane, 4) >>> 1;
    return Float64Array.from({ length: this.headDim }, (_, c) => {
      if (basis === 0) return norm * halfToFloat(u16[at + c]!);
      let sum = 0;
      for (let r = 0; r < rank; r++) sum += halfToFloat(u16[at + r]!) * halfToFloat(u16[basis + r * this.headDim + c]!);
      return norm * sum;
    });
  }

  writeRow(plane: 'k' | 'v', row: number, values: ArrayLike<number>): void {
    const isK = plane === 'k';
    const format = this.#format(plane);
    if (format === abi.FORMAT_LATENT) {
      const to = this.#sharedRow(plane, row);
      for (let i = 0; i < values.length; i++) this.#memory.u16[to + i] = floatToHalf(values[i]!);
      return;
    }
    if (format > abi.FORMAT_INT8) throw new Error('The reference executor has no scalar planes.');
    const at = this.#address + this.#field(isK ? abi.LAYOUT_K : abi.LAYOUT_V);
    const { u8, u16, f32 } = this.#memory;
    let scale = 0;
    if (format === abi.FORMAT_INT8) {
      for (let c = 0; c < this.headDim; c++) scale = Math.max(scale, Math.abs(values[c]!));
      scale = Math.fround(scale / 127);
      f32[((this.#address + this.#field(isK ? abi.LAYOUT_K_SCALE : abi.LAYOUT_V_SCALE)) >>> 2) + row] = scale;
    }
    for (let c = 0; c < this.headDim; c++) {
      const index = isK ? this.#indexK(format, row, c) : this.#indexV(format, row, c);
      if (format === abi.FORMAT_F32) f32[(at >>> 2) + index] = values[c]!;
      else if (format === abi.FORMAT_F16) u16[(at >>> 1) + index] = floatToHalf(values[c]!);
      else u8[at + index] = scale === 0 ? 0 : Math.max(-127, Math.min(127, Math.round(values[c]! / scale)));
    }
  }

  readRow(plane: 'k' | 'v', row: number): Float64Array {
    const isK = plane === 'k';
    const format = this.#format(plane);
    if (format === abi.FORMAT_LATENT) return this.#readLatent(plane, row);
    const at = this.#address + this.#field(isK ? abi.LAYOUT_K : abi.LAYOUT_V);
    const { u8, u16, f32 } = this.#memory;
    const scale = f32[((this.#address + this.#field(isK ? abi.LAYOUT_K_SCALE : abi.LAYOUT_V_SCALE)) >>> 2) + row]!;
    return Float64Array.from({ length: this.headDim }, (_, c) => {
      const index = isK ? this.#indexK(format, row, c) : this.#indexV(format, row, c);
      if (format === abi.FORMAT_F32) return f32[(at >>> 2) + index]!;
      if (format === abi.FORMAT_F16) return halfToFloat(u16[(at >>> 1) + index]!);
      return ((u8[at + index]! << 24) >> 24) * scale;
    });
  }

  bias(row: number): number {
    const offset = this.#field(abi.LAYOUT_BIAS);
    return offset === 0 ? 0 : this.#memory.f32[((this.#address + offset) >>> 2) + row]!;
  }

  setBias(row: number, value: number): void {
    const offset = this.#field(abi.LAYOUT_BIAS);
    if (offset !== 0) this.#memory.f32[((this.#address + offset) >>> 2) + row] = value;
  }

  copyRow(from: Cell, fromRow: number, toRow: number): void {
    if (Math.max(this.#format('k'), this.#format('v')) > abi.FORMAT_INT8) throw new Error('Encoded rows do not move.');
    for (const plane of ['k', 'v'] as const) {
      const isK = plane === 'k';
      const format = this.#field(isK ? abi.LAYOUT_FORMAT_K : abi.LAYOUT_FORMAT_V);
      const offset = this.#field(isK ? abi.LAYOUT_K : abi.LAYOUT_V);
      const width = format === abi.FORMAT_F32 ? 4 : format === abi.FORMAT_F16 ? 2 : 1;
      for (let c = 0; c < this.headDim; c++) {
        const a = isK ? this.#indexK(format, fromRow, c) : this.#indexV(format, fromRow, c);
        const b = isK ? this.#indexK(format, toRow, c) : this.#indexV(format, toRow, c);
        const source = from.#address + offset + a * width;
        this.#memory.u8.copyWithin(this.#address + offset + b * width, source, source + width);
      }
      if (format === abi.FORMAT_INT8) {
        const scales = this.#field(isK ? abi.LAYOUT_K_SCALE : abi.LAYOUT_V_SCALE) >>> 2;
        const { f32 } = this.#memory;
        f32[(this.#address >>> 2) + scales + toRow] = f32[(from.#address >>> 2) + scales + fromRow]!;
      }
    }
    this.setBias(toRow, from.bias(fromRow));
  }

  #indexK(format: number, row: number, c: number): number {
    return format === abi.FORMAT_INT8 ? (c >> 1) * 2 * abi.PAGE_TOKENS + row * 2 + (c & 1) : c * abi.PAGE_TOKENS + row;
  }

  #indexV(format: number, row: number, c: number): number {
    return format === abi.FORMAT_INT8 ? (row >> 1) * 2 * this.headDim + c * 2 + (row & 1) : row * this.headDim + c;
  }
}

/** Turns pairs (i, i + rotary / 2) by a table row: cosines, then sines. */
function turned(x: ArrayLike<number>, f32: Float32Array, table: number, rotary: number): Float64Array {
  const out = Float64Array.from(x);
  const half = rotary / 2;
  for (let i = 0; i < half; i++) {
    const cos = f32[table + i]!;
    const sin = f32[table + half + i]!;
    out[i] = x[i]! * cos - x[i + half]! * sin;
    out[i + half] = x[i + half]! * cos + x[i]! * sin;
  }
  return out;
}

export class PlainKernels implements Kernels {
  readonly memory: Memory;
  readonly threads = 1;
  /** Records carried out, by kind. */
  readonly counts = new Map<number, number>();

  constructor(memory: Memory) {
    this.memory = memory;
  }

  run(kind: number, items: number, count: number): void {
    this.counts.set(kind, (this.counts.get(kind) ?? 0) + count);
    // Records of one run have no order: the last goes first.
    for (let i = count - 1; i >= 0; i--) {
      if (kind === abi.KIND_APPEND) this.#append(items + i * abi.APPEND_BYTES);
      else if (kind === abi.KIND_COPY) this.#copy(items + i * abi.COPY_BYTES);
      else if (kind === abi.KIND_READ) this.#read(items + i * abi.READ_BYTES);
      else if (kind === abi.KIND_ENCODE) this.#encode(items + i * abi.ENCODE_BYTES);
      else if (kind === abi.KIND_ATTEND) this.#attend(items + i * abi.ATTEND_BYTES);
      else if (kind === abi.KIND_MERGE) this.#merge(items + i * abi.MERGE_BYTES);
      else throw new Error(`Unknown kind ${kind}.`);
    }
  }

  async dispose(): Promise<void> {}

  #append(item: number): void {
    const { u32, f32 } = this.memory;
    const at = (field: number) => u32[(item + field) >>> 2]!;
    const cell = new Cell(this.memory, at(abi.APPEND_LAYOUTS), at(abi.APPEND_LAYOUT), at(abi.APPEND_CELL));
    for (let i = 0; i < at(abi.APPEND_ROWS); i++) {
      const offset = i * at(abi.APPEND_STRIDE);
      const row = at(abi.APPEND_FIRST) + i;
      const rowOf = (base: number) => f32.subarray((base >>> 2) + offset, (base >>> 2) + offset + cell.headDim);
      const k = rowOf(at(abi.APPEND_K));
      const turn = (at(abi.APPEND_TURN) >>> 2) + i * cell.rotary;
      cell.writeRow('k', row, cell.unrotated ? k : turned(k, f32, turn, cell.rotary));
      cell.writeRow('v', row, rowOf(at(abi.APPEND_V)));
      cell.setBias(row, 0);
    }
  }

  #copy(item: number): void {
    const { u32, u8 } = this.memory;
    const at = (field: number) => u32[(item + field) >>> 2]!;
    const from = new Cell(this.memory, at(abi.COPY_LAYOUTS), at(abi.COPY_LAYOUT), at(abi.COPY_FROM));
    const to = new Cell(this.memory, at(abi.COPY_LAYOUTS), at(abi.COPY_LAYOUT), at(abi.COPY_TO));
    const pairs = at(abi.COPY_PAIRS);
    for (let i = 0; i < at(abi.COPY_COUNT); i++) to.copyRow(from, u8[pairs + 2 * i]!, u8[pairs + 2 * i + 1]!);
  }

  #read(item: number): void {
    const { u32, f32 } = this.memory;
    const at = (field: number) => u32[(item + field) >>> 2]!;
    const cell = new Cell(this.memory, at(abi.READ_LAYOUTS), at(abi.READ_LAYOUT), at(abi.READ_CELL));
    for (let i = 0; i < at(abi.READ_COUNT); i++) {
      const row = at(abi.READ_FIRST) + i;
      if (at(abi.READ_K) !== 0) f32.set(cell.readRow('k', row), (at(abi.READ_K) >>> 2) + i * cell.headDim);
      if (at(abi.READ_V) !== 0) f32.set(cell.readRow('v', row), (at(abi.READ_V) >>> 2) + i * cell.headDim);
    }
  }

  #encode(item: number): void {
    const { u32, f32 } = this.memory;
    const at = (field: number) => u32[(item + field) >>> 2]!;
    const cell = new Cell(this.memory, at(abi.ENCODE_LAYOUTS), at(abi.ENCODE_LAYOUT), at(abi.ENCODE_CELL));
    for (const [plane, address] of [['k', at(abi.ENCODE_K)] as const, ['v', at(abi.ENCODE_V)] as const]) {
      if (address === 0) continue;
      const width = cell.width(plane);
      for (let row = 0; row < at(abi.ENCODE_ROWS); row++) {
        const from = (address >>> 2) + row * width;
        cell.writeRow(plane, row, f32.subarray(from, from + width));
      }
    }
  }

  #attend(item: number): void {
    const { u32, i32, f32 } = this.memory;
    const at = (field: number) => u32[(item + field) >>> 2]!;
    const headDim = at(abi.ATTEND_HEAD_DIM);
    const group = at(abi.ATTEND_GROUP);
    const scale = f32[(item + abi.ATTEND_SCALE) >>> 2]!;
    for (let row = 0; row < at(abi.ATTEND_ROWS); row++) {
      const position = i32[(at(abi.ATTEND_POSITIONS) >>> 2) + row]!;
      for (let g = 0; g < group; g++) {
        const from = (at(abi.ATTEND_Q) >>> 2) + row * at(abi.ATTEND_Q_STRIDE) + g * headDim;
        const q = f32.slice(from, from + headDim);
        const scores: number[] = [];
        const values: Float64Array[] = [];
        for (let r = 0; r < at(abi.ATTEND_REF_COUNT); r++) {
          const ref = at(abi.ATTEND_REFS) + r * abi.REF_BYTES;
          this.#scoreRef(at, ref, q, row, position, scale, scores, values);
        }
        const top = scores.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
        const out = new Float64Array(headDim);
        let sum = 0;
        for (const [i, score] of scores.entries()) {
          const p = Math.exp(score - top);
          sum += p;
          for (let c = 0; c < headDim; c++) out[c]! += p * values[i]![c]!;
        }
        const partial = at(abi.ATTEND_PARTIAL);
        if (partial !== 0) {
          const to = (partial >>> 2) + (row * group + g) * (headDim + 2);
          f32.set(out, to);
          f32[to + headDim] = top * Math.LOG2E;
          f32[to + headDim + 1] = sum;
        } else {
          const to = (at(abi.ATTEND_OUT) >>> 2) + row * at(abi.ATTEND_OUT_STRIDE) + g * headDim;
          for (let c = 0; c < headDim; c++) f32[to + c] = sum === 0 ? 0 : out[c]! / sum;
        }
      }
    }
  }

  #scoreRef(
    at: (field: number) => number,
    ref: number,
    q: Float32Array,
    row: number,
    position: number,
    scale: number,
    scores: number[],
    values: Float64Array[],
  ): void {
    const { u32, i32, u16, u8, f32 } = this.memory;
    const shift = i32[(ref + abi.REF_SHIFT) >>> 2]!;
    const cell = new Cell(
      this.memory,
      at(abi.ATTEND_LAYOUTS),
      u16[(ref + abi.REF_LAYOUT) >>> 1]!,
      u32[(ref + abi.REF_CELL) >>> 2]!,
    );
    let table = 0;
    for (let t = 0; t < at(abi.ATTEND_TURN_COUNT); t++) {
      const turn = (at(abi.ATTEND_TURNS) + t * abi.TURN_BYTES) >>> 2;
      if (i32[turn] === shift) table = u32[turn + 1]!;
    }
    if (table === 0) throw new Error(`No rotary table for shift ${shift}.`);
    const query = turned(q, f32, (table >>> 2) + row * cell.rotary, cell.rotary);
    const flags = u32[(ref + abi.REF_FLAGS) >>> 2]!;
    const positions = u32[(ref + abi.REF_POSITIONS) >>> 2]!;
    const first = u8[ref + abi.REF_FIRST]!;
    const window = at(abi.ATTEND_WINDOW);
    for (let i = first; i < first + u8[ref + abi.REF_COUNT]!; i++) {
      const half = u32[(ref + (i < 32 ? abi.REF_MASK_LO : abi.REF_MASK_HI)) >>> 2]!;
      if ((flags & abi.REF_FLAG_FULL_MASK) === 0 && ((half >>> (i & 31)) & 1) === 0) continue;
      const delta = (flags & abi.REF_FLAG_CONTIGUOUS) === 0 ? u16[((positions + abi.POSITIONS_DELTA) >>> 1) + i]! : i;
      const stored = i32[(positions + abi.POSITIONS_BASE) >>> 2]! + delta;
      if (stored + shift > position || (window > 0 && position - stored - shift >= window)) continue;
      let key = cell.readRow('k', i);
      if (cell.unrotated) {
        const coarse = (at(abi.ATTEND_KEY_COARSE) >>> 2) + Math.floor(stored / abi.KEY_TURN_STEP) * cell.rotary;
        const fine = (at(abi.ATTEND_KEY_FINE) >>> 2) + (stored % abi.KEY_TURN_STEP) * cell.rotary;
        key = turned(turned(key, f32, coarse, cell.rotary), f32, fine, cell.rotary);
      }
      let dot = 0;
      for (let c = 0; c < q.length; c++) dot += query[c]! * key[c]!;
      scores.push(dot * scale + cell.bias(i));
      values.push(cell.readRow('v', i));
    }
  }

  #merge(item: number): void {
    const { u32, f32 } = this.memory;
    const at = (field: number) => u32[(item + field) >>> 2]!;
    const headDim = at(abi.MERGE_HEAD_DIM);
    const group = at(abi.MERGE_GROUP);
    for (let row = 0; row < at(abi.MERGE_ROWS); row++) {
      for (let g = 0; g < group; g++) {
        const parts = Array.from({ length: at(abi.MERGE_PARTS) }, (_, part) => {
          const base = at(abi.MERGE_PARTIAL) + part * at(abi.MERGE_PART_STRIDE);
          return (base >>> 2) + (row * group + g) * (headDim + 2);
        });
        const top = parts.reduce((a, part) => Math.max(a, f32[part + headDim]!), Number.NEGATIVE_INFINITY);
        const to = (at(abi.MERGE_OUT) >>> 2) + row * at(abi.MERGE_OUT_STRIDE) + g * headDim;
        let sum = 0;
        const out = new Float64Array(headDim);
        for (const part of parts) {
          const weight = f32[part + headDim + 1] === 0 ? 0 : 2 ** (f32[part + headDim]! - top);
          sum += weight * f32[part + headDim + 1]!;
          for (let c = 0; c < headDim; c++) out[c]! += weight * f32[part + c]!;
        }
        for (let c = 0; c < headDim; c++) f32[to + c] = sum === 0 ? 0 : out[c]! / sum;
      }
    }
  }
}
