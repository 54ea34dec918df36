import { escaped } from './html.ts';

/** Plots as SVG of a fixed width in user units; they scale with their place. Colours come from the page's style. */
const WIDTH = 720;

export interface Point {
  readonly name: string;
  readonly x: number;
  readonly y: number;
}

/** Points that no other beats in both: least x, greatest y, from left to right. */
export function paretoFront(points: readonly Point[]): Point[] {
  const front: Point[] = [];
  for (const point of [...points].sort((a, b) => a.x - b.x || b.y - a.y))
    if (front.length === 0 || point.y > front.at(-1)!.y) front.push(point);
  return front;
}

interface Axis {
  readonly label: string;
  readonly format: (value: number) => string;
}

/** Points with their names and the front of the best; x from 0. */
export function scatter(title: string, points: readonly Point[], x: Axis, y: Axis): string {
  const [height, left, right, top, bottom] = [380, 64, 24, 24, 48];
  const xs = ticks(0, Math.max(...points.map(point => point.x)));
  const ys = ticks(Math.min(...points.map(point => point.y)), Math.max(...points.map(point => point.y)));
  const px = scale([xs[0]!, xs.at(-1)!], [left, WIDTH - right]);
  const py = scale([ys[0]!, ys.at(-1)!], [height - bottom, top]);
  const front = paretoFront(points);
  const steps = front.map(({ x, y }, i) => {
    const before = front[i - 1];
    return before ? `H${px(x)}V${py(y)}` : `M${px(x)} ${py(y)}`;
  });
  const placed = labels(points.map(point => ({ ...point, px: px(point.x), py: py(point.y) })));
  return svg(height, title, [
    grid(xs, ys, px, py, { left, right, height, bottom, top }, x, y),
    `<path class="front" d="${steps.join('')}"/>`,
    ...placed.map(
      ({ name, px, py, x: vx, y: vy, end, ly }) =>
        `<g class="point${front.some(each => each.name === name) ? ' best' : ''}"><title>${escaped(name)}: ${escaped(x.format(vx))}, ${escaped(y.format(vy))}</title>` +
        `<circle cx="${px}" cy="${py}" r="5"/><text x="${end ? px - 9 : px + 9}" y="${ly}" text-anchor="${end ? 'end' : 'start'}">${escaped(short(name))}</text></g>`,
    ),
  ]);
}

/** One bar a row, longest value across. */
export function bars(
  title: string,
  rows: readonly { name: string; value: number }[],
  format: (value: number) => string,
): string {
  const [step, left] = [26, 250];
  const most = Math.max(...rows.map(({ value }) => value));
  const width = scale([0, most], [0, WIDTH - left - 90]);
  return svg(rows.length * step + 8, title, [
    ...rows.map(({ name, value }, i) => {
      const y = i * step + 4;
      return (
        `<g><title>${escaped(name)}: ${escaped(format(value))}</title><text x="${left - 8}" y="${y + 15}" text-anchor="end">${escaped(short(name))}</text>` +
        `<rect class="bar" x="${left}" y="${y + 2}" width="${Math.max(1, width(value))}" height="${step - 8}" rx="2"/>` +
        `<text class="value" x="${left + width(value) + 6}" y="${y + 15}">${escaped(format(value))}</text></g>`
      );
    }),
  ]);
}

export interface Line {
  readonly name: string;
  readonly points: readonly { readonly x: number; readonly y: number }[];
}

/** One line a series, named at its end. */
export function lines(title: string, series: readonly Line[], x: Axis, y: Axis): string {
  const [height, left, right, top, bottom] = [380, 64, 250, 24, 48];
  const all = series.flatMap(({ points }) => points);
  const xs = [...new Set(all.map(point => point.x))].sort((a, b) => a - b);
  const ys = ticks(0, Math.max(...all.map(point => point.y)));
  const px = scale([Math.min(0, xs[0]!), xs.at(-1)!], [left, WIDTH - right]);
  const py = scale([ys[0]!, ys.at(-1)!], [height - bottom, top]);
  const ends = spread(
    series.map(({ name, points }) => ({ name, y: py(points.at(-1)!.y), at: px(points.at(-1)!.x) })),
    15,
    top,
    height - bottom,
  );
  return svg(height, title, [
    grid(xs, ys, px, py, { left, right, height, bottom, top }, x, y),
    ...series.map(({ name, points }, i) => {
      const d = points.map((point, n) => `${n === 0 ? 'M' : 'L'}${px(point.x)} ${py(point.y)}`).join('');
      const tip = points.map(point => `${x.format(point.x)}: ${y.format(point.y)}`).join(', ');
      const end = ends[i]!;
      return (
        `<g class="series" style="--hue:${Math.round((i * 360) / series.length)}"><title>${escaped(name)}; ${escaped(tip)}</title><path d="${d}"/>` +
        points.map(point => `<circle cx="${px(point.x)}" cy="${py(point.y)}" r="3"/>`).join('') +
        `<text x="${WIDTH - right + 14}" y="${end.y + 4}">${escaped(short(name))}</text></g>`
      );
    }),
  ]);
}

function svg(height: number, title: string, parts: readonly string[]): string {
  return `<svg viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="${escaped(title)}">${parts.join('')}</svg>`;
}

interface Frame {
  readonly left: number;
  readonly right: number;
  readonly top: number;
  readonly bottom: number;
  readonly height: number;
}

function grid(
  xs: readonly number[],
  ys: readonly number[],
  px: (value: number) => number,
  py: (value: number) => number,
  { left, right, height, bottom, top }: Frame,
  x: Axis,
  y: Axis,
): string {
  return [
    ...ys.map(
      value =>
        `<path class="grid" d="M${left} ${py(value)}H${WIDTH - right}"/><text class="tick" x="${left - 8}" y="${py(value) + 4}" text-anchor="end">${escaped(y.format(value))}</text>`,
    ),
    ...xs.map(
      value =>
        `<text class="tick" x="${px(value)}" y="${height - bottom + 20}" text-anchor="middle">${escaped(x.format(value))}</text>`,
    ),
    `<text class="axis" x="${(left + WIDTH - right) / 2}" y="${height - 8}" text-anchor="middle">${escaped(x.label)}</text>`,
    `<text class="axis" x="${left}" y="${top - 10}">${escaped(y.label)}</text>`,
  ].join('');
}

/** About five round values that span [least, most]. */
export function ticks(least: number, most: number): number[] {
  const span = most - least || Math.abs(most) || 1;
  const rough = span / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(each => each * power).find(each => each >= rough)!;
  const first = Math.floor(least / step + 1e-9) * step;
  const count = Math.max(1, Math.ceil((most - first) / step - 1e-9));
  return Array.from({ length: count + 1 }, (_, i) => Number((first + i * step).toPrecision(12)));
}

function scale([from, to]: readonly [number, number], [a, b]: readonly [number, number]): (value: number) => number {
  return value => Number((a + ((value - from) / (to - from || 1)) * (b - a)).toFixed(1));
}

const LONGEST = 34;
const short = (name: string): string => (name.length > LONGEST ? `${name.slice(0, LONGEST - 1)}…` : name);

/** Labels beside their points, moved apart where they would lie on one another. */
function labels<T extends { px: number; py: number }>(points: readonly T[]): (T & { end: boolean; ly: number })[] {
  const sided = points.map((point, i) => ({ ...point, i, end: point.px > WIDTH * 0.6 }));
  const placed = [true, false].flatMap(end => {
    const own = sided.filter(point => point.end === end);
    const apart = spread(
      own.map(({ py }) => ({ y: py })),
      15,
      10,
      350,
    );
    return own.map((point, n) => ({ ...point, ly: apart[n]!.y + 4 }));
  });
  return placed.sort((a, b) => a.i - b.i);
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
