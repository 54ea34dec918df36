/** How units are chosen; see UnitChoice. All functions return unit numbers, ascending. */

/** Units that are read whatever their scores are. */
export interface Always {
  readonly first: number;
  readonly last: number;
}

/** Best units first (ties: the earlier), each taken while the budget of tokens has room for it. */
export function chooseTokens(
  scores: Float64Array,
  lengths: ArrayLike<number>,
  budget: number,
  always: Always,
): Uint32Array {
  const chosen = alwaysOf(scores.length, always);
  const free = without(scores.length, chosen);
  let room = budget;
  for (const unit of bestFirst(free, scores)) {
    if (lengths[unit]! > room) continue;
    chosen.push(unit);
    room -= lengths[unit]!;
  }
  return Uint32Array.from(chosen).sort();
}

/** The `count` best ones. */
export function chooseCount(scores: Float64Array, count: number, always: Always): Uint32Array {
  const chosen = alwaysOf(scores.length, always);
  const best = bestFirst(without(scores.length, chosen), scores).slice(0, count);
  return Uint32Array.from([...chosen, ...best]).sort();
}

/**
 * Groups of neighbours, coarse to fine: of each level's groups that hold units the level before has left, the best ones.
 * @param scoresOf scores of groups of so many units: group g has units [g * units, (g + 1) * units)
 */
export function chooseLevels(
  count: number,
  levels: readonly { readonly units: number; readonly share: number }[],
  scoresOf: (units: number) => Float64Array,
  { first, last }: Always,
): Uint32Array {
  let left = new Set<number>(Array.from({ length: count }, (_, unit) => unit));
  for (const { units, share } of levels) {
    const scores = scoresOf(units);
    const groups = scores.length;
    const kept = new Set(alwaysOf(groups, { first, last }));
    const free = new Set(without(groups, [...kept]).filter(group => some(group * units, units, left)));
    const most = Math.ceil(share * groups - 1e-9);
    for (const group of bestFirst([...free], scores).slice(0, most)) kept.add(group);
    const next = new Set<number>();
    for (const group of kept)
      for (let unit = group * units; unit < Math.min(count, (group + 1) * units); unit++)
        // Units at either end stay at each level, whether their group had been left or not.
        if (left.has(unit) || unit < first || unit >= count - last) next.add(unit);
    left = next;
  }
  return Uint32Array.from(left).sort();
}

function some(from: number, units: number, left: ReadonlySet<number>): boolean {
  for (let unit = from; unit < from + units; unit++) if (left.has(unit)) return true;
  return false;
}

function alwaysOf(count: number, { first, last }: Always): number[] {
  const units: number[] = [];
  for (let unit = 0; unit < count; unit++) if (unit < first || unit >= count - last) units.push(unit);
  return units;
}

function without(count: number, taken: readonly number[]): number[] {
  const set = new Set(taken);
  return Array.from({ length: count }, (_, unit) => unit).filter(unit => !set.has(unit));
}

function bestFirst(units: readonly number[], scores: Float64Array): number[] {
  return [...units].sort((a, b) => scores[b]! - scores[a]! || a - b);
}
