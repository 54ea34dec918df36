import type { Measured, MeasuredRow } from './measured.ts';
import { isSane } from './sane.ts';

/** Over this share of the full cache's bytes a setting has done nothing: the prompt is shorter than its budget. */
const INERT = 0.95;
/** The share that then stands for the method. */
const USUAL = 0.2;

/** Rows of one method, the paper's setting first. */
export function rowsOf(measured: Measured, method: string): MeasuredRow[] {
  return measured.rows.filter(row => row.method === method);
}

/**
 * What was measured of a method, in one sentence: the paper's setting, or where that leaves the cache as it is the one nearest a
 * fifth. '' where there is neither.
 */
export function measuredSentence(measured: Measured, method: string): string {
  const rows = rowsOf(measured, method).filter(({ agreement, held }) => agreement !== null && held !== null);
  const paper = rows.find(({ at }) => at === 'paper');
  const distance = ({ at }: MeasuredRow): number => Math.abs((at as number) - USUAL);
  const inert = paper && paper.held! > INERT;
  const [nearest] = rows.filter(({ at }) => at !== 'paper').sort((a, b) => distance(a) - distance(b));
  const row = inert && nearest ? nearest : paper;
  if (!row) return '';
  const scores = measured.tasks.flatMap(({ name, full }, i) => {
    const score = row.scores[i];
    return isSane(full) && typeof score === 'number' ? [`${name} ${percent(score / full)}`] : [];
  });
  const found = scores.length > 0 ? `, of the full cache's scores ${scores.join(', ')}` : '';
  const parked = row.parked ? `, parks ${percent(row.parked)}` : '';
  const why =
    row === paper ? '' : ` The paper's setting, \`${paper!.recipe}\`, holds ${percent(paper!.held!)} at this length.`;
  return `\`${row.recipe}\` holds ${percent(row.held!)} of the bytes${parked} and agrees in ${percent(row.agreement!)} of next tokens${found}.${why}`;
}

/** A share in %; what is not quite all, or not quite none, is not rounded to it. */
export function percent(share: number): string {
  const value = share * 100;
  if (value >= 99.95 && value < 100) return '>99.9 %';
  if (value > 0 && value < 0.05) return '<0.1 %';
  return `${value === 100 || value === 0 ? value : value.toFixed(1)} %`;
}
