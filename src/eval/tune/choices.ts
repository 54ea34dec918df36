import { formatPairs, type Pair } from '../../methods/format/kvtuner.ts';

/** One choice of a group of layers. */
export interface Choice {
  readonly pair: Pair;
  /** Bits of an element of K and V together, of all its layers, parameters included. */
  readonly bits: number;
  /** Predicted damage: KL divergence in nats. */
  readonly damage: number;
}

/** Choices that no other beats in both, from few bits to many (KVTuner, section 5.2: pruning within a layer). */
export function prune(choices: readonly Choice[]): Choice[] {
  const left: Choice[] = [];
  for (const choice of [...choices].sort((a, b) => a.bits - b.bits || a.damage - b.damage))
    if (left.length === 0 || choice.damage < left.at(-1)!.damage) left.push(choice);
  return left;
}

/** A table of pairs, one a group, with the sums of its bits and damages. */
export interface Table {
  readonly pairs: readonly Pair[];
  readonly bits: number;
  readonly damage: number;
}

/**
 * All tables that no other beats in both, from few bits to many: exact, group by group, as sums of choices are taken where damages
 * add up. `limit` bounds the tables kept between groups; beyond it neighbours are thinned evenly and the front is no longer exact.
 */
export function tables(groups: readonly (readonly Choice[])[], limit = 20_000): Table[] {
  let front: Table[] = [{ pairs: [], bits: 0, damage: 0 }];
  for (const choices of groups) {
    const next = front.flatMap(table =>
      choices.map(({ pair, bits, damage }) => ({
        pairs: [...table.pairs, pair],
        bits: table.bits + bits,
        damage: table.damage + damage,
      })),
    );
    front = thin(best(next), limit);
  }
  return front;
}

function best(all: Table[]): Table[] {
  const left: Table[] = [];
  for (const table of all.sort((a, b) => a.bits - b.bits || a.damage - b.damage))
    if (left.length === 0 || table.damage < left.at(-1)!.damage - 1e-15) left.push(table);
  return left;
}

/** At most `count` of a list, evenly spread, ends included. */
export function thin<T>(list: readonly T[], count: number): T[] {
  if (list.length <= count) return [...list];
  return Array.from({ length: count }, (_, i) => list[Math.round((i * (list.length - 1)) / Math.max(1, count - 1))]!);
}

/** The pairs of each layer, for groups of layers. */
export function pairsByLayer(table: Table, groups: readonly (readonly number[])[], layers: number): string {
  const pairs = new Array<Pair>(layers);
  for (const [g, group] of groups.entries()) for (const layer of group) pairs[layer] = table.pairs[g]!;
  return formatPairs(pairs);
}
