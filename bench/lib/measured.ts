import { findTask } from '../../src/eval/tasks/index.ts';
import type { Measured, MeasuredRow } from '../../src/methods/measured.ts';
import type { Cells, TaskScore, TextScore } from './recipe-cells.ts';
import type { Setting } from './recipe-settings.ts';

const KEY =
  /^(?<model>\w+) (?<length>\d+) (?<what>\S+) (?:windows=(?<windows>\d+)|n=(?<n>\d+), seed=\d+) (?<recipe>.+)$/;

interface Key {
  readonly model: string;
  readonly length: number;
  readonly what: string;
  readonly count: number;
  readonly recipe: string;
}

/**
 * The cells of bench:recipes as the registry's docs and the page show them. Of several runs in one file, that with the most
 * cells is taken: cells of other lengths or numbers of instances are left out.
 */
export function measuredOf(cells: Cells, settings: readonly Setting[], pages: string): Measured {
  const keys = Object.keys(cells).map(parse);
  const most = <T>(values: readonly T[]): T => {
    const counts = new Map<T, number>();
    for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
    return [...counts].sort((a, b) => b[1] - a[1])[0]![0];
  };
  const model = most(keys.map(key => key.model));
  const length = most(keys.map(key => key.length));
  const same = keys.filter(key => key.model === model && key.length === length);
  const windows = most(same.filter(({ what }) => what === 'text').map(({ count }) => count));
  const instances = most(same.filter(({ what }) => what !== 'text').map(({ count }) => count));
  const suffix = pages === 'f32' ? '' : ` @ ${pages}`;
  const cell = (what: string, recipe: string): TaskScore | TextScore | undefined => {
    const found = same.findIndex(
      key => key.what === what && key.recipe === recipe && key.count === (what === 'text' ? windows : instances),
    );
    return found < 0 ? undefined : cells[nameOf(same[found]!)];
  };
  const names = [...new Set(same.map(({ what }) => what))].filter(
    what => what !== 'text' && cell(what, 'full') !== undefined,
  );
  const score = (what: string, recipe: string): number | null => {
    const found = cell(what, recipe) as TaskScore | undefined;
    return found ? found.right / found.n : null;
  };
  const whole = cell('text', `full${suffix}`) as TextScore;
  const rows = settings.map(({ method, at, recipe }): MeasuredRow => {
    const text = cell('text', `${recipe}${suffix}`) as TextScore | undefined;
    return {
      method,
      at,
      recipe,
      kept: text ? text.kept / whole.kept : null,
      held: text ? text.held / whole.held : null,
      peak: text ? text.peak / whole.peak : null,
      parked: text ? text.parked / whole.held : null,
      scores: names.map(name => score(name, `${recipe}${suffix}`)),
      agreement: text?.agreement ?? null,
      kl: text?.kl ?? null,
    };
  });
  return {
    model: 'kvasir-mini',
    fingerprint: model,
    command: 'npm run bench:recipes',
    length,
    instances,
    windows,
    pages,
    tasks: names.map(name => ({ name, title: findTask(name).title, full: score(name, 'full')! })),
    rows: rows.filter(row => row.agreement !== null || row.scores.some(value => value !== null)),
  };
}

function parse(name: string): Key {
  const groups = KEY.exec(name)?.groups;
  if (!groups) throw new Error(`bench/results/recipes.json has a cell named "${name}"`);
  const { model, length, what, windows, n, recipe } = groups as Record<string, string>;
  return { model: model!, length: Number(length), what: what!, count: Number(windows ?? n), recipe: recipe! };
}

/** Seeds are 0 throughout. */
const nameOf = ({ model, length, what, count, recipe }: Key): string =>
  `${model} ${length} ${what} ${what === 'text' ? `windows=${count}` : `n=${count}, seed=0`} ${recipe}`;
