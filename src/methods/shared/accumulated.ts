import type { ColumnAction, Expression, PerHead, Policy, PromptLayer, StepRule } from '../types.ts';
import { add, attention, column, constant, divide } from './expressions.ts';

/**
 * Attention that entries have received so far, a sum that a prompt adds to and every step of decoding goes on with: column
 * `score`; with `average`, the sum divided by how many queries saw the entry (column `queries`).
 */
export interface Accumulation {
  readonly pages: NonNullable<Policy['pages']>;
  /**
   * Adds what the last `rows` rows of this prompt gave.
   * @param sums their probabilities, summed over them, a KV head
   * @returns f32[entries] a head, and the actions that store it
   */
  add(at: PromptLayer, sums: PerHead, rows: number): { readonly scores: PerHead; readonly actions: ColumnAction[] };
  readonly step: Required<Pick<StepRule, 'columns'>>;
  readonly value: Expression;
}

/** @param prefix goes before the names of the columns, where another method of a recipe may have the same */
export function accumulation(average: boolean, prefix = ''): Accumulation {
  const [sum, count] = [`${prefix}score`, `${prefix}queries`];
  const score = column(sum);
  const queries = column(count);
  const counting = { name: count, value: add(queries, constant(1)) };
  return {
    pages: { columns: average ? [sum, count] : [sum] },
    add(at, sums, rows) {
      const total = grown(at, sum, (head, i) => sums[head]![i]!);
      const storing: ColumnAction[] = [{ do: 'column', layer: at.layer, name: sum, values: total }];
      if (!average) return { scores: total, actions: storing };
      // The prompt's rows are the last entries: an entry among them is seen by those after it and by itself.
      const seen = grown(at, count, (head, i) => Math.min(rows, at.rows, at.entries(head) - i));
      storing.push({ do: 'column', layer: at.layer, name: count, values: seen });
      return { scores: total.map((sum, head) => sum.map((value, i) => value / seen[head]![i]!)), actions: storing };
    },
    step: { columns: [{ name: sum, value: add(score, attention('mean')) }, ...(average ? [counting] : [])] },
    value: average ? divide(score, queries) : score,
  };
}

function grown(at: PromptLayer, name: string, more: (head: number, entry: number) => number): Float32Array[] {
  return Array.from({ length: at.model.kvHeads }, (_, head) =>
    at.column(name, head).map((old, i) => old + more(head, i)),
  );
}
