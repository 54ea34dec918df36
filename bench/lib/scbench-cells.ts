import type { CellKey, ScbenchCell, ScbenchPlan } from '../../src/eval/scbench/run.ts';

export type StoredCell = ScbenchCell & { readonly commit: string; readonly dirty: boolean };
export type StoredCells = Record<string, StoredCell>;

/** All that a cell depends on but the code. */
export function cellKey(
  model: string,
  { n, phrasing, write, ownAnswers }: Pick<ScbenchPlan, 'n' | 'phrasing' | 'write' | 'ownAnswers'>,
  { task, generator, mode, length, cache }: CellKey,
): string {
  return `${model} ${task}@${generator} ${mode}${ownAnswers ? ', own answers' : ''} ${length} n=${n} ${phrasing} ${write} ${cache}`;
}

/** Numbers to six digits: what is measured has no more, and the file is half as long. */
export const rounded = <T>(value: T): T =>
  JSON.parse(
    JSON.stringify(value, (_, each: unknown) => (typeof each === 'number' ? Number(each.toPrecision(6)) : each)),
  ) as T;
