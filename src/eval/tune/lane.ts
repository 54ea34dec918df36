import type { Base } from '../../methods/format/kvtuner.ts';
import type { Table } from './choices.ts';
import type { Measured } from './evaluate.ts';
import type { Goal } from './goal.ts';
import type { Space } from './space.ts';

const EXACT_BITS = 32;
/** A scale with an offset, in groups of 32 elements, or of a page's keys and a head of 64 values. */
const PARAMETER_BITS: Readonly<Record<Base, number>> = { kivi: 32 / 32, page: 32 / 64, token: 32 / 64 };

/** Bits that an element of a plane takes, its parameters included. */
export function bitsHeld(bits: number, base: Base): number {
  return bits === 16 ? EXACT_BITS : bits + PARAMETER_BITS[base];
}

/** What tables promise after one method that drops tokens, or after none: corrected by what has been measured of them. */
export class Lane {
  /** The recipe before the table; empty: none. */
  readonly before: string;
  readonly space: Space;
  readonly #base: Measured;
  readonly #fullBits: number;
  readonly #tried = new Set<string>();
  /** Entries of a view that stay exact, as a share of those kept, and damages: measured over promised. */
  #exact: number;
  #worse = 1;
  /** Agreement asked for: the greatest damage that is hoped to meet it. */
  #allowed: number;
  /** The best that met the goal. */
  best: { readonly table: Table; readonly measured: Measured } | null = null;

  /**
   * @param base what `before` alone measures
   * @param exact a first guess of the share of entries that stay exact
   * @param allowed a first guess of the divergence that meets the agreement asked for
   */
  constructor(before: string, base: Measured, space: Space, layers: number, exact: number, allowed: number) {
    this.before = before;
    this.space = space;
    this.#base = base;
    this.#fullBits = 2 * EXACT_BITS * layers;
    this.#exact = Math.min(0.9, exact);
    this.#allowed = allowed;
  }

  held({ bits }: Table): number {
    return this.#base.held * (this.#exact + (1 - this.#exact) * (bits / this.#fullBits));
  }

  kl({ damage }: Table): number {
    return this.#base.kl + damage * this.#worse;
  }

  /** Tables measured so far. */
  get trials(): number {
    return this.#tried.size;
  }

  tried({ pairs }: Table): boolean {
    return this.#tried.has(JSON.stringify(pairs));
  }

  /** The most promising table that has not been tried. */
  next(goal: Goal): Table | null {
    let best: Table | null = null;
    for (const table of this.space.front) {
      if (this.tried(table)) continue;
      const [fits, first] =
        'memory' in goal
          ? [this.held(table) <= goal.memory, !best || table.damage < best.damage]
          : [this.kl(table) <= this.#allowed, !best || table.bits < best.bits];
      if (fits && first) best = table;
    }
    return best;
  }

  /** Notes what a table measured; later promises follow it. */
  learn(table: Table, measured: Measured, met: boolean): void {
    this.#tried.add(JSON.stringify(table.pairs));
    const coded = table.bits / this.#fullBits;
    if (coded < 0.95) {
      const exact = (measured.held / this.#base.held - coded) / (1 - coded);
      this.#exact = Math.min(0.95, Math.max(0, exact));
    }
    // Damages that hardly show beside those of the dropped tokens tell nothing.
    if (table.damage > this.#base.kl / 10 && table.damage > 0)
      this.#worse = Math.min(4, Math.max(0.25, (measured.kl - this.#base.kl) / table.damage));
    this.#allowed = met ? Math.max(this.#allowed, measured.kl) * 1.3 : Math.min(this.#allowed, measured.kl) * 0.8;
  }
}
