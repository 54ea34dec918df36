/**
 * Whole budgets of layers in proportion to their weights, `mean` on average: their sum is exactly layers * mean. None is below
 * `floor` * mean, and what those that would be take more, the others have less, again in proportion.
 * @param weights at least 0, one a layer; all 0: equal ones
 * @param mean whole
 * @param floor share of the mean, 0 to 1
 */
export function layerBudgets(weights: readonly number[], mean: number, floor = 0): number[] {
  const total = weights.length * mean;
  const least = Math.floor(floor * mean);
  const sum = weights.reduce((a, b) => a + b, 0);
  const weighed = sum > 0 ? weights : weights.map(() => 1);
  const low = new Set<number>();
  for (;;) {
    const others = weighed.reduce((all, weight, l) => (low.has(l) ? all : all + weight), 0);
    const rest = total - low.size * least;
    const exact = weighed.map((weight, l) => (low.has(l) ? least : (rest * weight) / others));
    const below = exact.flatMap((budget, l) => (!low.has(l) && budget < least ? [l] : []));
    if (below.length === 0) return round(exact, total);
    for (const l of below) low.add(l);
  }
}

/** Whole numbers of the given sum: those with the greatest fractions are rounded up, earlier ones first. */
function round(exact: readonly number[], total: number): number[] {
  const budgets = exact.map(value => Math.floor(value + 1e-9));
  const left = total - budgets.reduce((a, b) => a + b, 0);
  const byFraction = exact
    .map((value, l) => [value - budgets[l]!, l] as const)
    .sort(([a, i], [b, j]) => b - a || i - j);
  for (const [, l] of byFraction.slice(0, left)) budgets[l]!++;
  return budgets;
}
