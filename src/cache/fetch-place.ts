import { PAGE_TOKENS } from '../../kernels/abi.ts';
import { hasRow, lowestRow, rangeHi, rangeLo } from './bits.ts';
import { PositionTable } from './positions.ts';

/** A page of fetched rows as it is to be: what stays in it, and what comes to its free rows. */
export class FetchPage {
  /** -1: not made yet. */
  page: number;
  /** Live rows. */
  lo = 0;
  hi = 0;
  /** Stored positions (of dead rows too, once settled) and numbers of units of the live rows. */
  readonly positions = new Int32Array(PAGE_TOKENS);
  readonly units = new Uint32Array(PAGE_TOKENS);
  /** Rows come to it. */
  changed = false;
  /** It was made here: a new page, or a copy of one that others refer to. */
  made = false;
  /** Its new positions block, a reference on which is held; -1: none. */
  block = -1;
  #freeLo = 0;
  #freeHi = 0;
  #least = 0;
  #most = 0;

  constructor(page: number) {
    this.page = page;
  }

  get empty(): boolean {
    return this.lo === 0 && this.hi === 0;
  }

  /** Least position of the live rows. */
  get least(): number {
    return this.#least;
  }

  add(row: number, position: number, unit: number): void {
    this.#least = this.empty ? position : Math.min(this.#least, position);
    this.#most = this.empty ? position : Math.max(this.#most, position);
    this.lo = (this.lo | rangeLo(row, row + 1)) >>> 0;
    this.hi = (this.hi | rangeHi(row, row + 1)) >>> 0;
    this.positions[row] = position;
    this.units[row] = unit;
  }

  /** All rows that are not live may be written from now on. */
  open(): void {
    this.#freeLo = ~this.lo >>> 0;
    this.#freeHi = ~this.hi >>> 0;
  }

  get full(): boolean {
    return this.#freeLo === 0 && this.#freeHi === 0;
  }

  /** Gives a row that comes a free one; returns it, -1 where its position does not fit the page. */
  take(position: number, unit: number): number {
    if (!this.empty) {
      const least = Math.min(this.#least, position);
      if (!PositionTable.fits(least, Math.max(this.#most, position))) return -1;
    }
    const row = lowestRow(this.#freeLo, this.#freeHi);
    this.#freeLo = (this.#freeLo & ~rangeLo(row, row + 1)) >>> 0;
    this.#freeHi = (this.#freeHi & ~rangeHi(row, row + 1)) >>> 0;
    this.add(row, position, unit);
    this.changed = true;
    return row;
  }

  /** Gives dead rows a position that fits: that of any live one. */
  settle(): Int32Array {
    for (let row = 0; row < PAGE_TOKENS; row++) if (!hasRow(this.lo, this.hi, row)) this.positions[row] = this.#least;
    return this.positions;
  }
}
