/** Where labels stand beside what they name. Lengths in user units of a plot. */

export interface Spot {
  readonly x: number;
  readonly y: number;
}

export interface Frame {
  readonly left: number;
  readonly right: number;
  readonly top: number;
  readonly bottom: number;
}

export interface Label extends Spot {
  /** So far from its point that a line must lead to it. */
  readonly led: boolean;
}

const RADII = [12, 19, 27, 36, 46, 58];
const DIRECTIONS = 16;
const HEIGHT = 13;
/** Around a point that no label may cover. */
const POINT = 5;

/** Half of the width and height of a label. */
const half = (text: string): Spot => ({ x: 4 * text.length + 1, y: HEIGHT / 2 });

/**
 * The middle of each label: the nearest free place around its point that covers no other label and no point and lies in the frame.
 * Where there is none (dozens of points on one another) labels may overlap.
 */
export function placeLabels(points: readonly (Spot & { readonly text: string })[], frame: Frame): Label[] {
  const placed: { at: Spot; size: Spot }[] = [];
  return points.map(point => {
    const size = half(point.text);
    const free = ({ x, y }: Spot): boolean =>
      x - size.x >= frame.left &&
      x + size.x <= frame.right &&
      y - size.y >= frame.top &&
      y + size.y <= frame.bottom &&
      points.every(other => Math.abs(other.x - x) >= size.x + POINT || Math.abs(other.y - y) >= size.y + POINT) &&
      placed.every(({ at, size: own }) => Math.abs(at.x - x) >= own.x + size.x || Math.abs(at.y - y) >= own.y + size.y);
    for (const radius of RADII)
      for (let i = 0; i < DIRECTIONS; i++) {
        // Begins to the right and goes up and down in turn.
        const angle = (Math.ceil(i / 2) * (i % 2 ? -1 : 1) * 2 * Math.PI) / DIRECTIONS;
        const at = { x: point.x + (radius + size.x - 5) * Math.cos(angle), y: point.y + radius * Math.sin(angle) };
        if (!free(at)) continue;
        placed.push({ at, size });
        return { ...at, led: radius > RADII[0]! };
      }
    const at = { x: point.x + RADII[0]!, y: point.y };
    placed.push({ at, size });
    return { ...at, led: false };
  });
}

/** Values at least `gap` apart, in their order, within [low, high] as far as there is room. */
export function spread<T extends { y: number }>(items: readonly T[], gap: number, low: number, high: number): T[] {
  const order = items.map((item, i) => ({ item: { ...item }, i })).sort((a, b) => a.item.y - b.item.y);
  let last = low - gap;
  for (const { item } of order) last = item.y = Math.max(item.y, last + gap);
  let next = high + gap;
  for (const { item } of order.toReversed()) next = item.y = Math.min(item.y, next - gap);
  return order.sort((a, b) => a.i - b.i).map(({ item }) => item);
}
