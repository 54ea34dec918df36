import {
  FORMAT_F32,
  FORMAT_INT8,
  LAYOUT_BYTES,
  LAYOUT_FORMAT_K,
  LAYOUT_FORMAT_V,
  LAYOUT_K,
  LAYOUT_K_SCALE,
  LAYOUT_V,
  LAYOUT_V_SCALE,
  PAGE_TOKENS,
} from '../../kernels/abi.ts';
import { growTo } from './arrays.ts';
import type { Storage } from './content.ts';

/** Bytes in ordinary memory, seen in the widths of the formats. */
export class Bytes {
  u8 = new Uint8Array(0);
  u16 = new Uint16Array(0);
  u32 = new Uint32Array(0);

  /** Makes room for `length` bytes; what was there stays. */
  ensure(length: number): void {
    if (length <= this.u8.length) return;
    this.u8 = growTo(this.u8, Math.ceil(Math.max(length, 2 * this.u8.length) / 4) * 4);
    this.u16 = new Uint16Array(this.u8.buffer);
    this.u32 = new Uint32Array(this.u8.buffer);
  }
}

/**
 * Rows of cells of one exact layout, out of a page and into one, bit for bit: one after the other K, V, their scales (int8)
 * and columns, each on a multiple of 4 bytes. kernels/abi.ts says where the numbers of a row lie in a cell.
 */
export class RowBytes {
  /** Bytes of a row. */
  readonly size: number;
  readonly layout: number;
  readonly #storage: Storage;
  readonly #headDim: number;
  readonly #k: number;
  readonly #v: number;
  /** Halves, or pairs of codes, of a key. */
  readonly #stepsK: number;
  readonly #wideK: boolean;
  readonly #wideV: boolean;
  readonly #codesV: boolean;
  /** Offsets of f32[64] in the cell: scales and columns. */
  readonly #words: number[];
  readonly #bytesK: number;
  readonly #bytesV: number;

  constructor(storage: Storage, layout: number) {
    const { memory, layouts, shape } = storage;
    const field = (offset: number) => memory.u32[(layouts.address + layout * LAYOUT_BYTES + offset) >>> 2]!;
    const formatK = field(LAYOUT_FORMAT_K);
    const formatV = field(LAYOUT_FORMAT_V);
    this.layout = layout;
    this.#storage = storage;
    this.#headDim = shape.headDim;
    this.#k = field(LAYOUT_K);
    this.#v = field(LAYOUT_V);
    this.#stepsK = formatK === FORMAT_INT8 ? shape.headDim >> 1 : shape.headDim;
    this.#wideK = formatK === FORMAT_F32;
    this.#wideV = formatV === FORMAT_F32;
    this.#codesV = formatV === FORMAT_INT8;
    this.#words = [...layouts.get(layout).columns.values()];
    if (formatK === FORMAT_INT8) this.#words.push(field(LAYOUT_K_SCALE));
    if (formatV === FORMAT_INT8) this.#words.push(field(LAYOUT_V_SCALE));
    const width = (format: number) => (format === FORMAT_F32 ? 4 : format === FORMAT_INT8 ? 1 : 2);
    this.#bytesK = Math.ceil((shape.headDim * width(formatK)) / 4) * 4;
    this.#bytesV = Math.ceil((shape.headDim * width(formatV)) / 4) * 4;
    this.size = this.#bytesK + this.#bytesV + this.#words.length * 4;
  }

  /** Row `row` of a cell to `bytes` from `at` (a multiple of 4) on. */
  take(cell: number, row: number, bytes: Bytes, at: number): void {
    const { u8, u16, u32 } = this.#storage.memory;
    const d = this.#headDim;
    const k = cell + this.#k;
    if (this.#wideK) for (let c = 0; c < d; c++) bytes.u32[(at >>> 2) + c] = u32[(k >>> 2) + c * PAGE_TOKENS + row]!;
    else {
      for (let c = 0; c < this.#stepsK; c++) bytes.u16[(at >>> 1) + c] = u16[(k >>> 1) + c * PAGE_TOKENS + row]!;
    }
    const v = cell + this.#v;
    const to = at + this.#bytesK;
    if (this.#codesV) {
      const from = v + (row >> 1) * 2 * d + (row & 1);
      for (let c = 0; c < d; c++) bytes.u8[to + c] = u8[from + 2 * c]!;
    } else if (this.#wideV) for (let c = 0; c < d; c++) bytes.u32[(to >>> 2) + c] = u32[(v >>> 2) + row * d + c]!;
    else for (let c = 0; c < d; c++) bytes.u16[(to >>> 1) + c] = u16[(v >>> 1) + row * d + c]!;
    let word = (to + this.#bytesV) >>> 2;
    for (const offset of this.#words) bytes.u32[word++] = u32[((cell + offset) >>> 2) + row]!;
  }

  /** The other way round. */
  put(cell: number, row: number, bytes: Bytes, at: number): void {
    const { u8, u16, u32 } = this.#storage.memory;
    const d = this.#headDim;
    const k = cell + this.#k;
    if (this.#wideK) for (let c = 0; c < d; c++) u32[(k >>> 2) + c * PAGE_TOKENS + row] = bytes.u32[(at >>> 2) + c]!;
    else {
      for (let c = 0; c < this.#stepsK; c++) u16[(k >>> 1) + c * PAGE_TOKENS + row] = bytes.u16[(at >>> 1) + c]!;
    }
    const v = cell + this.#v;
    const from = at + this.#bytesK;
    if (this.#codesV) {
      const to = v + (row >> 1) * 2 * d + (row & 1);
      for (let c = 0; c < d; c++) u8[to + 2 * c] = bytes.u8[from + c]!;
    } else if (this.#wideV) for (let c = 0; c < d; c++) u32[(v >>> 2) + row * d + c] = bytes.u32[(from >>> 2) + c]!;
    else for (let c = 0; c < d; c++) u16[(v >>> 1) + row * d + c] = bytes.u16[(from >>> 1) + c]!;
    let word = (from + this.#bytesV) >>> 2;
    for (const offset of this.#words) u32[((cell + offset) >>> 2) + row] = bytes.u32[word++]!;
  }
}
