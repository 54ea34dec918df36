import type { Measured, MeasuredRow } from './measured.ts';

/** A full-cache score under which a task supports no claim about a setting. */
export const SANE = 0.6;

/** Rows of one method, the paper's setting first. */
export function rowsOf(measured: Measured, method: string): MeasuredRow[] {
  return measured.rows.filter(row => row.method === method);
}

/** The measured row of the paper's setting in one sentence; '' where it has not been measured. */
export function measuredSentence(measured: Measured, method: string): string {
  const [paper] = rowsOf(measured, method).filter(({ at }) => at === 'paper');
  if (!paper || paper.agreement === null || paper.held === null) return '';
  const scores = measured.tasks.flatMap(({ name, full }, i) => {
    const score = paper.scores[i];
    return full >= SANE && typeof score === 'number' ? [`${name} ${percent(score / full)}`] : [];
  });
  const found = scores.length > 0 ? `, of the full cache's scores ${scores.join(', ')}` : '';
  return `\`${paper.recipe}\` holds ${percent(paper.held)} of the bytes and agrees in ${percent(paper.agreement)} of next tokens${found}.`;
}

export function percent(share: number): string {
  const value = share * 100;
  return `${value === 100 || value === 0 ? value.toFixed(0) : value >= 99.95 ? '>99.9' : value.toFixed(1)} %`;
}
