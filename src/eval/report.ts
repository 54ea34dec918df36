import { isSane } from '../methods/sane.ts';
import type { Cell, TaskCell, TextCell } from './run.ts';

/** 95 % interval of a share (Wilson, 1927), as shares. */
export function interval(right: number, n: number): [low: number, high: number] {
  const z = 1.959964;
  const share = right / n;
  const middle = share + (z * z) / (2 * n);
  const half = z * Math.sqrt((share * (1 - share)) / n + (z * z) / (4 * n * n));
  const scale = 1 + (z * z) / n;
  return [Math.max(0, (middle - half) / scale), Math.min(1, (middle + half) / scale)];
}

export interface ReportTable {
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

/** Cells as tables: tasks by length, one row a task and cache setting; then the measures of running text. */
export function reportTables(cells: readonly Cell[]): ReportTable[] {
  const tasks = cells.filter(cell => cell.kind === 'task');
  const texts = cells.filter(cell => cell.kind !== 'task');
  return [...(tasks.length > 0 ? [taskTable(tasks)] : []), ...(texts.length > 0 ? [textTable(texts)] : [])];
}

/** A table in Markdown. */
export function markdown({ head, rows }: ReportTable): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}

/** Scores of tasks that the full f32 cache fails at that length stand in brackets: they support no claim. */
function taskTable(cells: readonly TaskCell[]): ReportTable {
  const lengths = unique(cells.map(cell => cell.length));
  const rows = unique(cells.map(cell => `${cell.title}\n${cell.cache}`)).map(key => {
    const own = cells.filter(cell => `${cell.title}\n${cell.cache}` === key);
    const scores = lengths.map(length => {
      const cell = own.find(each => each.length === length);
      if (!cell) return '';
      const text = `${percent(cell.right / cell.n)} (${cell.right}/${cell.n})`;
      const full = cells.find(each => each.task === cell.task && each.length === length && each.cache === 'f32');
      return full && !isSane(full.right / full.n) ? `(${text})` : text;
    });
    return [...key.split('\n'), ...scores];
  });
  return { head: ['task, % exact', 'cache', ...lengths.map(String)], rows };
}

function textTable(cells: readonly TextCell[]): ReportTable {
  const rows = cells.map(({ kind, cache, length, windows, result }) => {
    const measured =
      'perplexity' in result
        ? `${result.perplexity.toFixed(3)} a token, ${result.bitsPerByte.toFixed(4)} bits a byte`
        : `top-1 agreement ${percent(result.agreement)} %, KL ${result.kl.toExponential(2)}, greatest logit error ${result.logitError.toFixed(3)}`;
    return [kind, cache, String(length), String(windows), measured];
  });
  return { head: ['measure', 'cache', 'window', 'windows', 'result'], rows };
}

const percent = (share: number) => String(Math.round(share * 1000) / 10);
const unique = <T>(list: readonly T[]): T[] => [...new Set(list)];
