import {
  FORMAT_F16,
  FORMAT_F32,
  FORMAT_INT8,
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
} from '../../kernels/abi.ts';
import type { Memory } from '../backend/types.ts';
import { KvasirError } from '../errors.ts';
import { type CacheShape, FORMAT_NAMES, type FormatName, type PageOptions } from './types.ts';

const FORMAT_CODES: Readonly<Record<FormatName, number>> = { f32: FORMAT_F32, f16: FORMAT_F16, int8: FORMAT_INT8 };
const ELEMENT_BYTES: Readonly<Record<FormatName, number>> = { f32: 4, f16: 2, int8: 1 };
const MAX_LAYOUTS = 256;
export const MAX_COLUMNS = 16;

/** How the bytes of one (slot, KV head) cell of a page are used: a LAYOUT record and what only the host needs to know. */
export interface CellLayout {
  /** Index in the layout table. */
  readonly id: number;
  readonly formatK: FormatName;
  readonly formatV: FormatName;
  /** Offset of each named column (f32[64]) in the cell; they lie side by side from `columnsAt` to the cell's end. */
  readonly columns: ReadonlyMap<string, number>;
  readonly columnsAt: number;
  readonly cellBytes: number;
}

/**
 * The layouts of one cache, interned: equal options give the same record. Planes lie in the order K, V, scales of K, scales
 * of V, columns; each is a multiple of 64 bytes, so each begins on a cache line.
 */
export class LayoutTable {
  /** Address of the table in memory. */
  readonly address: number;
  static readonly bytes = MAX_LAYOUTS * LAYOUT_BYTES;
  readonly #memory: Memory;
  readonly #shape: CacheShape;
  readonly #layouts: CellLayout[] = [];
  readonly #byKey = new Map<string, CellLayout>();

  constructor(memory: Memory, shape: CacheShape) {
    this.#memory = memory;
    this.#shape = shape;
    this.address = memory.alloc(LayoutTable.bytes);
    memory.u8.fill(0, this.address, this.address + LayoutTable.bytes);
  }

  get(id: number): CellLayout {
    return this.#layouts[id]!;
  }

  /** Raises `invalid_request` on options that no page can have, `unsupported` on more than 256 different layouts. */
  intern(options: PageOptions): CellLayout {
    checkPageOptions(options);
    const columns = options.columns ?? [];
    const key = JSON.stringify([options.formatK, options.formatV, options.keysUnrotated ?? false, columns]);
    const known = this.#byKey.get(key);
    if (known) return known;
    if (this.#layouts.length === MAX_LAYOUTS) {
      throw new KvasirError('unsupported', `A cache holds at most ${MAX_LAYOUTS} different page layouts.`, {
        field: 'pages',
        value: key,
        allowed: 'a layout already in use',
      });
    }
    const layout = this.#write(options, columns);
    this.#layouts.push(layout);
    this.#byKey.set(key, layout);
    return layout;
  }

  dispose(): void {
    this.#memory.free(this.address, LayoutTable.bytes);
  }

  #write(options: PageOptions, names: readonly string[]): CellLayout {
    const { headDim, rotary } = this.#shape;
    const id = this.#layouts.length;
    let bytes = 0;
    const plane = (size: number): number => {
      bytes += size;
      return bytes - size;
    };
    const k = plane(headDim * PAGE_TOKENS * ELEMENT_BYTES[options.formatK]);
    const v = plane(headDim * PAGE_TOKENS * ELEMENT_BYTES[options.formatV]);
    const kScale = options.formatK === 'int8' ? plane(PAGE_TOKENS * 4) : 0;
    const vScale = options.formatV === 'int8' ? plane(PAGE_TOKENS * 4) : 0;
    const columnsAt = bytes;
    const columns = new Map(names.map(name => [name, plane(PAGE_TOKENS * 4)]));

    const { u32 } = this.#memory;
    const at = (this.address + id * LAYOUT_BYTES) >>> 2;
    u32[at + LAYOUT_FORMAT_K / 4] = FORMAT_CODES[options.formatK];
    u32[at + LAYOUT_FORMAT_V / 4] = FORMAT_CODES[options.formatV];
    u32[at + LAYOUT_HEAD_DIM / 4] = headDim;
    u32[at + LAYOUT_K / 4] = k;
    u32[at + LAYOUT_V / 4] = v;
    u32[at + LAYOUT_K_SCALE / 4] = kScale;
    u32[at + LAYOUT_V_SCALE / 4] = vScale;
    u32[at + LAYOUT_BIAS / 4] = columns.get('bias') ?? 0;
    u32[at + LAYOUT_CELL_BYTES / 4] = bytes;
    u32[at + LAYOUT_KEYS_UNROTATED / 4] = options.keysUnrotated ? 1 : 0;
    u32[at + LAYOUT_ROTARY / 4] = rotary;
    return { id, formatK: options.formatK, formatV: options.formatV, columns, columnsAt, cellBytes: bytes };
  }
}

function checkPageOptions(options: PageOptions): void {
  for (const field of ['formatK', 'formatV'] as const) {
    if (!FORMAT_NAMES.includes(options[field])) {
      throw new KvasirError('invalid_request', `Unknown page format ${String(options[field])}.`, {
        field: `pages.${field}`,
        value: options[field],
        allowed: FORMAT_NAMES,
      });
    }
  }
  const columns = options.columns ?? [];
  const bad = columns.find(
    (name, i) => !/^[\w.-]{1,64}$/.test(name) || name === 'position' || columns.indexOf(name) < i,
  );
  if (bad !== undefined || columns.length > MAX_COLUMNS) {
    throw new KvasirError('invalid_request', 'Column names must be distinct words.', {
      field: 'pages.columns',
      value: bad ?? columns.length,
      allowed: `at most ${MAX_COLUMNS} distinct names of letters, digits, ".", "_", "-" other than "position"`,
    });
  }
}

export function checkShape(shape: CacheShape): void {
  const check = (field: keyof CacheShape, fits: boolean, allowed: string) => {
    if (Number.isInteger(shape[field]) && fits) return;
    throw new KvasirError('invalid_request', `Bad cache shape: ${field} is ${shape[field]}.`, {
      field: `shape.${field}`,
      value: shape[field],
      allowed,
    });
  };
  check('slots', shape.slots >= 1 && shape.slots <= 65535, 'an integer from 1 to 65535');
  check('kvHeads', shape.kvHeads >= 1 && shape.kvHeads <= 65535, 'an integer from 1 to 65535');
  check(
    'headDim',
    shape.headDim >= 2 && shape.headDim <= 1024 && shape.headDim % 2 === 0,
    'an even integer from 2 to 1024',
  );
  check(
    'rotary',
    shape.rotary >= 0 && shape.rotary <= shape.headDim && shape.rotary % 2 === 0,
    'an even integer, at most headDim',
  );
}
