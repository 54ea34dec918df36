import { isSane } from '../../methods/sane.ts';
import type { CompareResult, CompareRow } from './result.ts';
import { meanLength } from './result.ts';

/** One row a recipe, for a terminal. Scores of tasks that the full cache fails stand in brackets. */
export function compareTable(result: CompareResult): { head: string[]; rows: (string | number)[][] } {
  const { rows, plan } = result;
  const full = rows[0]!;
  const tasks = plan.tasks.map(({ name }) => name);
  return {
    head: ['recipe', 'kept', 'held MiB', 'of full', 'peak MiB', 'TTFT s', 'tok/s', 'top-1 %', 'KL', ...tasks],
    rows: rows.map(row => cellsOf(row, full, tasks)),
  };
}

function cellsOf(row: CompareRow, full: CompareRow, tasks: readonly string[]): (string | number)[] {
  const { quality, speed } = row;
  if (!quality)
    return [row.recipe, row.failed === undefined ? 'not measured' : 'failed', ...Array(7 + tasks.length).fill('')];
  const last = speed.at(-1);
  return [
    row.recipe,
    Math.round(meanLength(quality)),
    quality.parked > 0 ? `${mebibytes(quality.held)} + ${mebibytes(quality.parked)} parked` : mebibytes(quality.held),
    full.quality ? `${((100 * quality.held) / full.quality.held).toFixed(1)} %` : '',
    mebibytes(quality.peak),
    last ? (last.firstTokenMs / 1000).toFixed(2) : '',
    last ? last.tokensPerSecond.toFixed(1) : '',
    (quality.agreement * 100).toFixed(1),
    quality.kl < 1e-9 ? '0' : quality.kl.toPrecision(2),
    ...tasks.map(task => {
      const own = row.tasks.find(score => score.task === task);
      if (!own) return '';
      const text = `${own.right}/${own.n}`;
      return claims(full, task) ? text : `(${text})`;
    }),
  ];
}

/** Why rows have failed, a line each. */
export function failures({ rows }: CompareResult): string[] {
  return rows.flatMap(({ recipe, failed }) => (failed === undefined ? [] : [`${recipe}: ${failed}`]));
}

/** How much of the text was looked at. */
export function taken({ plan }: CompareResult): string {
  return `${plan.taken} of ${plan.whole} tokens of ${plan.text} taken`;
}

/** How long the run took, and what it did not have to measure. */
export function took({ run }: CompareResult): string {
  const time = run.seconds < 100 ? `${run.seconds.toFixed(1)} s` : `${(run.seconds / 60).toFixed(1)} min`;
  return `took ${time}${run.reused > 0 ? `; ${run.reused} measurements were there already` : ''}`;
}

/** Does the full cache score well enough on a task for it to say something? */
export function claims(full: CompareRow, task: string): boolean {
  const score = full.tasks.find(each => each.task === task);
  return score !== undefined && isSane(score.right / score.n);
}

export const mebibytes = (bytes: number): string => (bytes / 2 ** 20).toFixed(bytes < 10 * 2 ** 20 ? 2 : 1);
