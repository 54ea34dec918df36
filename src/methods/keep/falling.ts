/**
 * Budgets that fall by equal steps from the first group of layers to the last one, which gets `least`; their mean over layers
 * is `mean`, but for what rounding down leaves unspent. Where the first would get more than `room` it gets that, and the
 * last gets the more.
 * @param sizes layers of each group
 * @returns entries a layer of each group may keep
 */
export function fallingBudgets(sizes: readonly number[], mean: number, least: number, room: number): number[] {
  const steps = sizes.length - 1;
  if (steps < 1) return sizes.map(() => Math.min(mean, room));
  // How far down the stairs a layer stands on average, 0 to 1: a half where groups are alike.
  const layers = sizes.reduce((a, b) => a + b, 0);
  const depth = sizes.reduce((sum, size, g) => sum + size * g, 0) / (layers * steps);
  const down = (x: number) => Math.floor(x + 1e-9);
  let last = Math.min(least, mean);
  let first = down((mean - depth * last) / (1 - depth));
  if (first >= room) {
    first = room;
    last = Math.min(room, down((mean - (1 - depth) * room) / depth));
  }
  const step = Math.floor((first - last) / steps);
  // As in the public code what does not divide into steps stays unspent: the last group gets no more than it should.
  return sizes.map((_, g) => (g === steps ? last : first - g * step));
}
