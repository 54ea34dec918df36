/** A part of a unit: piece `piece` of 2^level. */
export interface Piece {
  readonly unit: number;
  readonly level: number;
  readonly piece: number;
  readonly upper: number;
  readonly lower: number;
}

export interface HalvingSource {
  readonly count: number;
  /** How often a unit can be halved. */
  readonly halvings: number;
  /** Upper and lower bounds of unit `unit`'s scores. */
  bounds(unit: number): readonly [upper: number, lower: number];
  /** Those of pieces `piece`, an even number, and `piece` + 1 of 2^level. */
  pair(unit: number, level: number, piece: number): readonly [readonly [number, number], readonly [number, number]];
  /** Entries of a piece. */
  rows(unit: number, level: number, piece: number): number;
}

/**
 * Pieces by upper bound, split on the way (LeoAM, arXiv 2506.20187, section 4.2): the best piece of all is split in two, which
 * then take part in its place, until it is a smallest one; it need not be where its lower bound is above the upper bounds of
 * all others. A piece that the rest of the budget cannot hold is split too, and passed over once it is a smallest one.
 * @param always units that are chosen whole, beside the budget
 * @returns numbers of smallest pieces, unit * 2^halvings + piece, ascending
 */
export function chooseHalving(source: HalvingSource, tokens: number, always: (unit: number) => boolean): Uint32Array {
  const { count, halvings } = source;
  const heap = new Heap();
  const chosen: number[] = [];
  const take = ({ unit, level, piece }: Pick<Piece, 'unit' | 'level' | 'piece'>) => {
    const finest = 1 << (halvings - level);
    for (let p = piece * finest; p < (piece + 1) * finest; p++) chosen.push((unit << halvings) + p);
  };
  for (let unit = 0; unit < count; unit++) {
    if (always(unit)) take({ unit, level: 0, piece: 0 });
    else {
      const [upper, lower] = source.bounds(unit);
      heap.push({ unit, level: 0, piece: 0, upper, lower });
    }
  }
  for (let room = tokens; room > 0; ) {
    const best = heap.pop();
    if (!best) break;
    const { unit, level, piece } = best;
    const rows = source.rows(unit, level, piece);
    if (rows === 0) continue;
    const settled = level === halvings || best.lower > (heap.top?.upper ?? Number.NEGATIVE_INFINITY);
    if (settled && rows <= room) {
      take(best);
      room -= rows;
    } else if (level < halvings) {
      const pair = source.pair(unit, level + 1, 2 * piece);
      for (const [n, [upper, lower]] of pair.entries())
        if (source.rows(unit, level + 1, 2 * piece + n) > 0)
          heap.push({ unit, level: level + 1, piece: 2 * piece + n, upper, lower });
    }
  }
  return Uint32Array.from(chosen).sort();
}

/** Greatest upper bound first; of equal ones the earlier entries. */
class Heap {
  readonly #items: Piece[] = [];

  get top(): Piece | undefined {
    return this.#items[0];
  }

  push(item: Piece): void {
    const items = this.#items;
    let at = items.push(item) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!before(item, items[parent]!)) break;
      items[at] = items[parent]!;
      at = parent;
    }
    items[at] = item;
  }

  pop(): Piece | undefined {
    const items = this.#items;
    const top = items[0];
    const last = items.pop();
    if (!top || !last || items.length === 0) return top;
    let at = 0;
    for (let child = 1; child < items.length; child = 2 * at + 1) {
      if (child + 1 < items.length && before(items[child + 1]!, items[child]!)) child++;
      if (!before(items[child]!, last)) break;
      items[at] = items[child]!;
      at = child;
    }
    items[at] = last;
    return top;
  }
}

function before(a: Piece, b: Piece): boolean {
  if (a.upper !== b.upper) return a.upper > b.upper;
  if (a.unit !== b.unit) return a.unit < b.unit;
  return a.piece * 2 ** -a.level < b.piece * 2 ** -b.level;
}
