import { LAYOUT_BYTES } from '../../kernels/abi.ts';
import type { Memory } from '../backend/types.ts';
import { KvasirError } from '../errors.ts';
import { blockBytes } from './arrays.ts';
import { type CellLayout, type CellOptions, planCell, writeCell } from './cell-layout.ts';
import { isExact, type PlaneFormat } from './format.ts';
import type { Account } from './ledger.ts';
import { planPlane } from './plane-layout.ts';
import { type CacheShape, FORMAT_NAMES, type PageOptions } from './types.ts';

export type { CellLayout } from './cell-layout.ts';

/** Layouts that the table has room for from the start; it doubles when they do not do, up to the most. */
const FIRST_LAYOUTS = 64;
const MAX_LAYOUTS = 8192;
export const MAX_COLUMNS = 16;

interface Entry {
  readonly layout: CellLayout;
  readonly key: string;
  /** PART records, LUTs and channel lists. */
  readonly tables: number;
  readonly tableBytes: number;
  /** Pages and plans that use it. */
  refs: number;
  /** Sequences are made with it: it stays. */
  pinned: boolean;
}

/**
 * The layouts of one cache, interned: equal options give the same record. Those of sequences stay; those that actions bring
 * up go with their last page. The table moves when it grows: `address` holds until the next layout is made or released.
 */
export class LayoutTable {
  /** Bytes of the table as it begins. */
  static readonly bytes = FIRST_LAYOUTS * LAYOUT_BYTES;
  #address: number;
  #capacity = FIRST_LAYOUTS;
  #tableBytes = 0;
  readonly #memory: Memory;
  readonly #shape: CacheShape;
  readonly #account: Account;
  readonly #entries: (Entry | undefined)[] = [];
  readonly #byKey = new Map<string, Entry>();
  readonly #keys = new WeakMap<object, string>();

  /** @param account has paid for `LayoutTable.bytes`, and pays for what comes */
  constructor(memory: Memory, shape: CacheShape, account: Account) {
    this.#memory = memory;
    this.#shape = shape;
    this.#account = account;
    this.#address = memory.alloc(LayoutTable.bytes);
    memory.u8.fill(0, this.#address, this.#address + LayoutTable.bytes);
  }

  /** Address of the table in memory. */
  get address(): number {
    return this.#address;
  }

  /** Bytes of the table and of all that its records point to. */
  get held(): number {
    return this.#capacity * LAYOUT_BYTES + this.#tableBytes;
  }

  /** Layouts in use. */
  get count(): number {
    return this.#byKey.size;
  }

  get(id: number): CellLayout {
    return this.#entries[id]!.layout;
  }

  /**
   * The layout of a sequence's pages; it stays. Raises `invalid_request` on options that no sequence can have, `unsupported`
   * on more than 8192 different layouts, `kv_cache_full` or `memory_limit` where the table cannot grow.
   */
  intern(options: PageOptions): CellLayout {
    checkPageOptions(options);
    const entry = this.#find(options);
    entry.pinned = true;
    return entry.layout;
  }

  /** The layout of pages that an action makes, with a reference on it. Formats are checked; errors as above. */
  hold(options: CellOptions): CellLayout {
    const entry = this.#find(options);
    entry.refs++;
    return entry.layout;
  }

  retain(id: number): void {
    this.#entries[id]!.refs++;
  }

  release(id: number): void {
    const entry = this.#entries[id]!;
    if (--entry.refs > 0 || entry.pinned) return;
    this.#drop(entry);
    this.#shrink();
  }

  /** f16 values in the parameter block that a plane of this format needs; 0: none. Raises `invalid_request`. */
  sharedValues(format: PlaneFormat, plane: 'k' | 'v', field: string): number {
    if (isExact(format)) return 0;
    return planPlane(format, this.#shape.headDim, plane, field).sharedValues;
  }

  dispose(): void {
    for (const entry of this.#entries) if (entry) this.#drop(entry);
    this.#memory.free(this.#address, this.#capacity * LAYOUT_BYTES);
    this.#account.refund((this.#capacity - FIRST_LAYOUTS) * LAYOUT_BYTES);
  }

  #find(options: CellOptions): Entry {
    const { formatK, formatV, keysUnrotated = false, columns = [] } = options;
    const key = JSON.stringify([this.#keyOf(formatK), this.#keyOf(formatV), keysUnrotated, columns]);
    return this.#byKey.get(key) ?? this.#make(options, key);
  }

  /** Formats with long tables are written out once an object. */
  #keyOf(format: PlaneFormat): string {
    if (isExact(format)) return format;
    const known = this.#keys.get(format);
    if (known !== undefined) return known;
    const key = JSON.stringify(format);
    this.#keys.set(format, key);
    return key;
  }

  #make(options: CellOptions, key: string): Entry {
    const plan = planCell(options, this.#shape);
    let id = this.#entries.indexOf(undefined);
    if (id < 0) id = this.#entries.length;
    if (id === MAX_LAYOUTS) {
      throw new KvasirError('unsupported', `A cache holds at most ${MAX_LAYOUTS} different page layouts.`, {
        field: 'pages',
        value: key,
        allowed: 'a layout already in use',
      });
    }
    if (id === this.#capacity) this.#resize(this.#capacity * 2);
    const tableBytes = blockBytes(plan.tableBytes);
    let tables = 0;
    if (tableBytes > 0) {
      this.#account.charge(tableBytes, 'layout', id, false);
      try {
        tables = this.#memory.alloc(tableBytes);
      } catch (error) {
        this.#account.refund(tableBytes);
        throw error;
      }
    }
    this.#tableBytes += tableBytes;
    writeCell(this.#memory, this.#address + id * LAYOUT_BYTES, tables, plan, this.#shape);
    const entry: Entry = { layout: { id, ...plan.layout }, key, tables, tableBytes, refs: 0, pinned: false };
    this.#entries[id] = entry;
    this.#byKey.set(key, entry);
    return entry;
  }

  #drop(entry: Entry): void {
    const { layout, key, tables, tableBytes } = entry;
    if (tableBytes > 0) {
      this.#memory.free(tables, tableBytes);
      this.#account.refund(tableBytes);
      this.#tableBytes -= tableBytes;
    }
    this.#byKey.delete(key);
    this.#entries[layout.id] = undefined;
  }

  /** Back to where it began, once nothing lies beyond that; where there is no room to move, it stays. */
  #shrink(): void {
    while (this.#entries.length > 0 && this.#entries.at(-1) === undefined) this.#entries.pop();
    if (this.#capacity === FIRST_LAYOUTS || this.#entries.length > FIRST_LAYOUTS) return;
    try {
      this.#resize(FIRST_LAYOUTS);
    } catch (error) {
      if (!(error instanceof KvasirError)) throw error;
    }
  }

  #resize(capacity: number): void {
    const bytes = capacity * LAYOUT_BYTES;
    this.#account.charge(bytes, 'layouts', capacity, false);
    let address: number;
    try {
      address = this.#memory.alloc(bytes);
    } catch (error) {
      this.#account.refund(bytes);
      throw error;
    }
    const { u8 } = this.#memory;
    u8.fill(0, address, address + bytes);
    const before = this.#capacity * LAYOUT_BYTES;
    u8.copyWithin(address, this.#address, this.#address + Math.min(bytes, before));
    this.#memory.free(this.#address, before);
    this.#account.refund(before);
    this.#address = address;
    this.#capacity = capacity;
  }
}

/** What sequences may ask for: exact formats. Raises `invalid_request`. */
export function checkPageOptions(options: PageOptions): void {
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
