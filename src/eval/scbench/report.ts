import { isSane, SANE } from '../../methods/sane.ts';
import type { CellMeans, TurnMeans } from './cell.ts';
import type { ScbenchCell } from './run.ts';
import { CATEGORIES, type Category } from './types.ts';

export interface CaptionedTable {
  readonly caption: string;
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

type Measured = ScbenchCell & CellMeans;

/**
 * What was measured, as tables: scores; divergence of the tasks that were not scored; means by category of task; what later
 * turns lose; the four stages of a cache's life. Scores of tasks that the full cache gets right less than 60 % of stand in brackets and enter no mean.
 */
export function scbenchTables(cells: readonly ScbenchCell[]): CaptionedTable[] {
  const measured = cells.filter((cell): cell is Measured => !('refused' in cell));
  const scored = measured.filter(cell => cell.scores);
  const unscored = measured.filter(cell => !cell.scores).map(cell => cell.task);
  return [
    ...(scored.length > 0 ? [scoreTable(cells)] : []),
    ...(unscored.length > 0 ? [divergenceTable(cells.filter(cell => unscored.includes(cell.task)))] : []),
    categoryTable(cells, measured),
    turnTable(cells, measured),
    stageTable(cells, measured),
  ];
}

/** Whether the full cache does so well on the cell's task, mode and length (and kind) that a score there says something. */
export function claims(cells: readonly ScbenchCell[], cell: ScbenchCell, kind?: string): boolean {
  const full = fullOf(cells, cell);
  return full !== undefined && isSane(scoreOf(full, kind) ?? 0);
}

function fullOf(cells: readonly ScbenchCell[], { task, mode, length }: ScbenchCell): Measured | undefined {
  return cells.find(
    (each): each is Measured =>
      each.task === task &&
      each.mode === mode &&
      each.length === length &&
      each.cache === 'f32' &&
      !('refused' in each),
  );
}

function scoreOf(cell: Measured, kind?: string): number | null {
  if (kind !== undefined) return cell.kinds[kind]?.score ?? null;
  return cell.scores && mean(cell.scores.flat());
}

/** One row a task (of two tasks in turn: a kind) and setting; columns are modes and lengths. */
function scoreTable(cells: readonly ScbenchCell[]): CaptionedTable {
  const columns = unique(cells.map(({ mode, length }) => `${mode} ${length}`));
  const rows = unique(cells.map(cell => cell.cache)).flatMap(cache =>
    unique(cells.map(cell => cell.task)).flatMap(task => {
      const own = cells.filter(cell => cell.cache === cache && cell.task === task);
      const kinds = own[0]?.category === 'multi' ? kindsOf(own) : [undefined];
      return kinds.map(kind => {
        const shown = columns.map(column => {
          const cell = own.find(({ mode, length }) => `${mode} ${length}` === column);
          return cell ? scoreText(cells, cell, kind) : '';
        });
        return [kind ? `${task}: ${kind}` : task, own[0]?.generator ?? '', cache, ...shown];
      });
    }),
  );
  return {
    caption: `Scores: % (full cache under ${SANE * 100} %: in brackets, no claim), by mode and tokens of context`,
    head: ['task', 'generator', 'cache', ...columns],
    rows: rows.filter(row => row.slice(3).some(text => text !== '')),
  };
}

/** The same with a column a task, for comparing settings: one row a setting, mode and length. */
export function scoreMatrix(cells: readonly ScbenchCell[]): CaptionedTable {
  const columns = unique(cells.map(cell => cell.task)).flatMap(task => {
    const own = cells.filter(cell => cell.task === task);
    const kinds = own[0]?.category === 'multi' ? kindsOf(own) : [undefined];
    return kinds.map(kind => ({ task, kind, name: kind ? `${task}: ${kind}` : task }));
  });
  const keys = unique(cells.map(cell => JSON.stringify([cell.cache, cell.mode, String(cell.length)])));
  const generators = unique(cells.map(cell => `${cell.task} ${cell.generator}`));
  return {
    caption: `Scores: % (full cache under ${SANE * 100} %: in brackets, no claim); generators ${generators.join(', ')}`,
    head: ['cache', 'mode', 'tokens', ...columns.map(({ name }) => name)],
    rows: keys.map(key => {
      const [cache, mode, length] = JSON.parse(key) as [string, string, string];
      const shown = columns.map(({ task, kind }) => {
        const cell = cells.find(
          each => each.task === task && each.cache === cache && each.mode === mode && String(each.length) === length,
        );
        return cell ? scoreText(cells, cell, kind) : '';
      });
      return [cache, mode, length, ...shown];
    }),
  };
}

function kindsOf(own: readonly ScbenchCell[]): string[] {
  return unique(own.flatMap(cell => ('refused' in cell ? [] : Object.keys(cell.kinds))));
}

function scoreText(cells: readonly ScbenchCell[], cell: ScbenchCell, kind?: string): string {
  if ('refused' in cell) return `refused: ${cell.refused.message}`;
  const score = scoreOf(cell, kind);
  if (score === null) return '';
  return claims(cells, cell, kind) ? percent(score) : `(${percent(score)})`;
}

/** One row a setting, mode and length, a column a task: what forced tokens show where no score does. */
function divergenceTable(cells: readonly ScbenchCell[]): CaptionedTable {
  const tasks = unique(cells.map(cell => cell.task));
  const keys = unique(cells.map(({ cache, mode, length }) => JSON.stringify([cache, mode, String(length)])));
  return {
    caption: 'Divergence from the full cache by task: equal likeliest tokens in %, KL in nats',
    head: ['cache', 'mode', 'tokens', ...tasks],
    rows: keys.map(key => {
      const shown = tasks.map(task => {
        const cell = cells.find(
          each => each.task === task && JSON.stringify([each.cache, each.mode, String(each.length)]) === key,
        );
        if (!cell) return '';
        if ('refused' in cell) return `refused: ${cell.refused.message}`;
        return `${percent(meanOf(cell.turns, 'agreement'))}, ${small(meanOf(cell.turns, 'kl'))}`;
      });
      return [...(JSON.parse(key) as string[]), ...shown];
    }),
  };
}

function categoryTable(cells: readonly ScbenchCell[], measured: readonly Measured[]): CaptionedTable {
  const present = CATEGORIES.filter(category => measured.some(cell => cell.category === category));
  const entry = (own: readonly Measured[], category: Category) => {
    const group = own.filter(cell => cell.category === category);
    if (group.length === 0) return ['', '', '', ''];
    const turns = group.flatMap(cell => cell.turns);
    const gaps = group.map(cell => meanOf(cell.turns, 'nll') - meanOf(fullOf(cells, cell)?.turns ?? [], 'nll'));
    return [
      claimedScore(cells, group),
      signed(mean(gaps)),
      percent(meanOf(turns, 'agreement')),
      small(meanOf(turns, 'kl')),
    ];
  };
  return {
    caption:
      'By category: score in % of tasks that support a claim, nats a token that the reference costs more than with the full cache, equal likeliest tokens in %, KL',
    head: ['cache', 'mode', ...present.flatMap(name => [name, 'nats', 'top-1', 'KL'])],
    rows: bySetting(cells, measured, own => present.flatMap(category => entry(own, category))),
  };
}

function turnTable(cells: readonly ScbenchCell[], measured: readonly Measured[]): CaptionedTable {
  const of = (own: readonly Measured[], name: 'agreement' | 'kl' | 'nll', first: boolean) =>
    mean(own.map(({ turns }) => meanOf(first ? turns.slice(0, 1) : turns.slice(1), name)));
  return {
    caption: 'By turn: the first one against the later ones',
    head: ['cache', 'mode', 'score 1', 'later', 'nats 1', 'later', 'top-1 1', 'later', 'KL 1', 'later'],
    rows: bySetting(cells, measured, own => [
      claimedTurns(cells, own, turns => turns.slice(0, 1)),
      claimedTurns(cells, own, turns => turns.slice(1)),
      of(own, 'nll', true).toFixed(3),
      of(own, 'nll', false).toFixed(3),
      percent(of(own, 'agreement', true)),
      percent(of(own, 'agreement', false)),
      small(of(own, 'kl', true)),
      small(of(own, 'kl', false)),
    ]),
  };
}

function stageTable(cells: readonly ScbenchCell[], measured: readonly Measured[]): CaptionedTable {
  return {
    caption:
      'Stages: generation (the context run), compression (what the recipe took, and entries and bytes that it left), retrieval (share of the prompt tokens of later turns that stood in the cache), loading (outside of the cache, and brought back a step)',
    head: ['cache', 'mode', 'prefill ms', 'recipe ms', 'kept %', 'held MiB', '% of full', 'peak MiB', 'reused', 'first token ms', 'parked MiB', 'KiB a step'], // biome-ignore format: one line
    rows: bySetting(cells, measured, own => {
      const context = (name: keyof CellMeans['context']) => mean(own.map(cell => cell.context[name]));
      const later = own.flatMap(cell => cell.turns.slice(1));
      const full = mean(own.map(cell => fullOf(cells, cell)?.context.held ?? Number.NaN));
      const reused = meanOf(later, 'reused');
      return [
        context('prefillMs').toFixed(0),
        context('recipeMs').toFixed(0),
        percent(context('kept') / context('tokens')),
        mebibytes(context('held')),
        percent(context('held') / full),
        mebibytes(context('peak')),
        `${percent(reused / (reused + meanOf(later, 'run')))} %`,
        meanOf(later, 'firstTokenMs').toFixed(0),
        mebibytes(context('parked')),
        (meanOf(own.flatMap(cell => cell.turns), 'fetched') / 1024).toFixed(1), // biome-ignore format: one line
      ];
    }),
  };
}

/** One row a setting and mode; a setting that was refused everywhere says so. */
function bySetting(
  cells: readonly ScbenchCell[],
  measured: readonly Measured[],
  row: (own: readonly Measured[]) => readonly string[],
): string[][] {
  return unique(cells.map(cell => cell.cache)).flatMap(cache =>
    unique(cells.map(cell => cell.mode)).map(mode => {
      const own = measured.filter(cell => cell.cache === cache && cell.mode === mode);
      if (own.length > 0) return [cache, mode, ...row(own)];
      const refused = cells.find(cell => cell.cache === cache && cell.mode === mode && 'refused' in cell);
      return [cache, mode, refused && 'refused' in refused ? `refused: ${refused.refused.message}` : ''];
    }),
  );
}

/** Mean score in % of what supports a claim: cells, and of two tasks in turn each kind for itself. */
function claimedScore(cells: readonly ScbenchCell[], own: readonly Measured[]): string {
  const scores = own.flatMap(cell => {
    const kinds = Object.keys(cell.kinds);
    const claimed = (kinds.length > 0 ? kinds : [undefined]).filter(kind => claims(cells, cell, kind));
    return claimed.flatMap(kind => scoreOf(cell, kind) ?? []);
  });
  return scores.length > 0 ? percent(mean(scores)) : '';
}

/** The same of some turns; two tasks in turn are left out, as each kind has turns of its own. */
function claimedTurns(
  cells: readonly ScbenchCell[],
  own: readonly Measured[],
  part: (turns: readonly number[]) => readonly number[],
): string {
  const scores = own
    .filter(cell => cell.scores && Object.keys(cell.kinds).length === 0 && claims(cells, cell))
    .map(cell => mean(cell.scores!.flatMap(turns => part(turns))));
  return scores.length > 0 ? percent(mean(scores)) : '';
}

const meanOf = (turns: readonly TurnMeans[], name: Exclude<keyof TurnMeans, 'score'>): number =>
  mean(turns.map(turn => turn[name]));
const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
const percent = (share: number): string => String(Math.round(share * 1000) / 10);
const signed = (value: number): string => `${value >= 0 ? '+' : ''}${value.toFixed(3)}`;
const small = (value: number): string =>
  value < 1e-12 ? '0' : value < 0.01 ? value.toExponential(1) : value.toFixed(3);
const mebibytes = (bytes: number): string => (bytes / 2 ** 20).toFixed(2);
const unique = <T>(list: readonly T[]): T[] => [...new Set(list)];
