import { breakable, escaped } from './html.ts';
import { placeLabels, spread } from './place.ts';
import { COLOURS } from './plot-style.ts';

/**
 * Plots as SVG that fill the width of their place. What is plotted bears the number of its recipe, which a legend beside it
 * names: names are too long for a narrow page. Colours and sizes of text come from the page's style.
 */
const WIDTH = 400;
const HEIGHT = 290;
const FRAME = { left: 46, right: WIDTH - 14, top: 30, bottom: HEIGHT - 44 };

/** Shapes and dashes tell series apart without colours. */
const DASHES = ['', '7 4', '2 3', '9 3 2 3'];
const MARKERS = [
  'M-4 0A4 4 0 1 0 4 0A4 4 0 1 0 -4 0Z',
  'M-3.6 -3.6H3.6V3.6H-3.6Z',
  'M0 -4.8L4.6 3.6H-4.6Z',
  'M0 -5L5 0L0 5L-5 0Z',
  'M-4.6 -3.6H4.6L0 4.8Z',
];

/** A recipe's look: the same in every plot. A class, as the server's page allows no style attributes. */
const colour = (number: number): string => `c${(number - 1) % COLOURS}`;
const marker = (number: number): string => MARKERS[(number - 1) % MARKERS.length]!;
const dash = (number: number): string => DASHES[(number - 1) % DASHES.length]!;

export interface Named {
  readonly name: string;
  /** From 1; its place in the table. */
  readonly number: number;
}

export interface Point extends Named {
  readonly x: number;
  readonly y: number;
}

/** Points that no other beats in both: least x, greatest y, from left to right. */
export function paretoFront<T extends { readonly x: number; readonly y: number }>(points: readonly T[]): T[] {
  const front: T[] = [];
  for (const point of [...points].sort((a, b) => a.x - b.x || b.y - a.y))
    if (front.length === 0 || point.y > front.at(-1)!.y) front.push(point);
  return front;
}

interface Axis {
  readonly label: string;
  readonly unit?: string;
  readonly format: (value: number) => string;
}

/** A value with its unit, and what an axis is of. */
const told = ({ format, unit }: Axis, value: number): string => (unit ? `${format(value)} ${unit}` : format(value));
const heading = ({ label, unit }: Axis): string => (unit ? `${label}, ${unit}` : label);

/**
 * Numbered points and the front of the best; x from 0, y over `span` at least and not below 0 for its sake. At least one point.
 * Whoever does not see it is told the points.
 */
export function scatter(title: string, points: readonly Point[], x: Axis, y: Axis & { readonly span: number }): string {
  const most = Math.max(...points.map(point => point.y));
  const least = Math.min(...points.map(point => point.y), Math.max(0, most - y.span));
  const xs = ticks(0, Math.max(...points.map(point => point.x)));
  const ys = ticks(least, most);
  const px = scale([xs[0]!, xs.at(-1)!], [FRAME.left, FRAME.right]);
  const py = scale([ys[0]!, ys.at(-1)!], [FRAME.bottom, FRAME.top]);
  const front = paretoFront(points);
  const steps = front.map(({ x, y }, i) => (i > 0 ? `H${px(x)}V${py(y)}` : `M${px(x)} ${py(y)}`));
  const at = points.map(point => ({ x: px(point.x), y: py(point.y), text: String(point.number) }));
  const labels = placeLabels(at, { ...FRAME, left: FRAME.left + 2, right: WIDTH, top: 16 });
  const tips = points.map(point => `${point.name}: ${told(x, point.x)}, ${told(y, point.y)}`);
  return svg(`${title}. ${points.map(({ number }, i) => `${number}. ${tips[i]}`).join('; ')}`, [
    grid(xs, ys, px, py, x, y),
    `<path class="front" d="${steps.join('')}"/>`,
    ...points.map((point, i) => {
      const [spot, label] = [at[i]!, labels[i]!];
      return (
        `<g class="point ${colour(point.number)}"><title>${escaped(tips[i]!)}</title>` +
        (label.led ? `<path class="leader" d="M${spot.x} ${spot.y}L${round(label.x)} ${round(label.y)}"/>` : '') +
        `<path class="mark" transform="translate(${spot.x} ${spot.y})" d="${marker(point.number)}"/>` +
        `<text x="${round(label.x)}" y="${round(label.y + 4)}" text-anchor="middle">${point.number}</text></g>`
      );
    }),
  ]);
}

/** One bar a row, the longest value across. */
export function bars(rows: readonly (Named & { readonly value: number })[], format: (value: number) => string): string {
  const most = Math.max(...rows.map(({ value }) => value)) || 1;
  const items = rows.map(
    ({ name, number, value }) =>
      `<li><span class="name">${number}. ${breakable(name)}</span><span class="track"><span class="bar" style="width:${round((100 * value) / most)}%"></span></span><span class="value">${escaped(format(value))}</span></li>`,
  );
  return `<ul class="bars">${items.join('')}</ul>`;
}

export interface Line extends Named {
  readonly points: readonly { readonly x: number; readonly y: number }[];
}

/** One line a series, numbered at its end. At least one series. */
export function lines(title: string, series: readonly Line[], x: Axis, y: Axis): string {
  const all = series.flatMap(({ points }) => points);
  const xs = [...new Set(all.map(point => point.x))].sort((a, b) => a - b);
  const ys = ticks(0, Math.max(...all.map(point => point.y)));
  const px = scale([Math.min(0, xs[0]!), xs.at(-1)!], [FRAME.left, FRAME.right - 40]);
  const py = scale([ys[0]!, ys.at(-1)!], [FRAME.bottom, FRAME.top]);
  const last = series.map(({ points }) => ({ x: px(points.at(-1)!.x), y: py(points.at(-1)!.y) }));
  const ends = spread(last, 13, FRAME.top - 12, FRAME.bottom);
  return svg(title, [
    grid(xs, ys, px, py, x, y),
    ...series.map(({ name, number, points }, i) => {
      const d = points.map((point, n) => `${n === 0 ? 'M' : 'L'}${px(point.x)} ${py(point.y)}`).join('');
      const tip = points.map(point => `${x.format(point.x)}: ${y.format(point.y)}`).join(', ');
      const [from, to] = [last[i]!, ends[i]!];
      return (
        `<g class="series ${colour(number)}"><title>${escaped(`${name}; ${tip}`)}</title><path class="line" d="${d}" stroke-dasharray="${dash(number)}"/>` +
        points
          .map(p => `<path class="mark" transform="translate(${px(p.x)} ${py(p.y)})" d="${marker(number)}"/>`)
          .join('') +
        `<path class="leader" d="M${from.x + 5} ${from.y}L${FRAME.right - 16} ${round(to.y)}"/>` +
        `<text x="${FRAME.right - 12}" y="${round(to.y + 4)}">${number}</text></g>`
      );
    }),
  ]);
}

/** Which number, colour and mark is whose. */
export function legend(names: readonly Named[]): string {
  const items = names.map(
    ({ name, number }) =>
      `<li class="${colour(number)}"><svg viewBox="0 0 34 14" aria-hidden="true"><path class="line" d="M0 7H34" stroke-dasharray="${dash(number)}"/><path class="mark" transform="translate(17 7)" d="${marker(number)}"/></svg><span>${number}. ${breakable(name)}</span></li>`,
  );
  return `<ul class="legend" aria-label="Legend">${items.join('')}</ul>`;
}

function svg(title: string, parts: readonly string[]): string {
  return `<svg class="plot" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${escaped(title)}">${parts.join('')}</svg>`;
}

function grid(
  xs: readonly number[],
  ys: readonly number[],
  px: (value: number) => number,
  py: (value: number) => number,
  x: Axis,
  y: Axis,
): string {
  const { left, right, bottom } = FRAME;
  return [
    ...ys.map(
      value =>
        `<path class="grid" d="M${left} ${py(value)}H${right}"/><text class="tick" x="${left - 6}" y="${py(value) + 4}" text-anchor="end">${escaped(y.format(value))}</text>`,
    ),
    ...xs.map(
      value =>
        `<text class="tick" x="${px(value)}" y="${bottom + 17}" text-anchor="middle">${escaped(x.format(value))}</text>`,
    ),
    `<text class="axis" x="${(left + right) / 2}" y="${HEIGHT - 8}" text-anchor="middle">${escaped(heading(x))}</text>`,
    `<text class="axis" x="2" y="12">${escaped(heading(y))}</text>`,
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

const round = (value: number): number => Number(value.toFixed(1));

function scale([from, to]: readonly [number, number], [a, b]: readonly [number, number]): (value: number) => number {
  return value => round(a + ((value - from) / (to - from || 1)) * (b - a));
}
